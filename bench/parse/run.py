"""What one DAG per model costs Airflow: N = 1, 100, 1,000 models against the same tasks written by hand.

``python bench/parse/run.py [--sizes 1 100 1000] [--repeat 3]`` prints a table of ratios, then all as JSON. Every number
is CPU seconds of processes started for it alone, the median of ``--repeat`` rounds; the contestants take turns within
each round. The floor is a DAG file of EmptyOperators with the same tasks. modelway stores what it parsed for the next
process: ``parse`` and ``dag-processor`` find it, as all but the first after a change do, and ``parse, nothing stored``
does not. dag-factory and airflow-blueprint are
installed beside, into bench/parse/.peers, without their dependencies (Airflow has them). Target: with 100 models and
more, parsing costs at most 1.5 times the floor's CPU, and a pass of the dag-processor as much as the floor's at most;
the exit status is 1 where one is missed. ``--small`` looks at the answers alone, without the peers.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from contestants import CONTESTANTS, Writer

HERE = Path(__file__).resolve().parent
PEERS = HERE / ".peers"
#: the most that modelway may cost by the floor, and from how many models on
TARGETS = {"parse": 1.5, "dag-processor": 1.0}
MANY = 100
FIRST = "parse, nothing stored"
PINS = ("dag-factory==1.1.0", "airflow-blueprint==0.5.0", "pathspec==0.12.1")


def main() -> int:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 100, 1000])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="see that the answers are right; the seconds say nothing")
    args = parser.parse_args()
    contestants = dict(CONTESTANTS)
    if args.small:
        args.sizes, args.repeat = [2], 1
        contestants = {name: CONTESTANTS[name] for name in ("floor", "modelway")}
    else:
        install_peers()
    with tempfile.TemporaryDirectory(prefix="bench-parse-") as scratch:
        results = compare(Path(scratch), contestants, sizes=args.sizes, repeat=args.repeat, whole=not args.small)
    results["missed"] = missed(results["ratios"])
    show(results)
    print(json.dumps(results))
    return 1 if results["missed"] else 0


def missed(ratios: list[dict[str, Any]]) -> list[str]:
    """Return which targets modelway misses."""
    return [
        f"{row['what']} of {row['models']} models: {row['ratio']} x the floor, target {TARGETS[row['what']]}"
        for row in ratios
        if row["contestant"] == "modelway" and row["models"] >= MANY and row["ratio"] > TARGETS.get(row["what"], 1e9)
    ]


def install_peers() -> None:
    """Install the peers once."""
    if not (PEERS / ".ready").exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(PEERS), *PINS]
        subprocess.run(pip, check=True)
        (PEERS / ".ready").touch()


def compare(
    scratch: Path, contestants: Mapping[str, Writer], *, sizes: list[int], repeat: int, whole: bool
) -> dict[str, Any]:
    """Return the medians and their ratios.

    :param whole: also measure imports, and let a real dag-processor pass over each folder
    """
    tasks = child(scratch, "tasks")[0]
    folders = {}
    for size in sizes:
        for name, write in contestants.items():
            folders[name, size] = scratch / f"{name}-{size}"
            folders[name, size].mkdir()
            write(folders[name, size], size=size, tasks=tasks)
    samples: dict[tuple[str, str, int], list[float]] = {}

    def note(what: str, name: str, size: int, value: float) -> None:
        samples.setdefault((what, name, size), []).append(value)

    for _ in range(repeat):
        for what, name in (("sdk", "airflow.sdk"), ("import", "modelway.dag")) if whole else ():
            words = [what] if what == "sdk" else [what, name]
            note("import", name, 0, child(scratch, *words)[0]["whole"])
        for (name, size), folder in folders.items():
            for what, value in passes(scratch, name, size, folder, tasks=len(tasks), whole=whole).items():
                note(what, name, size, value)
        for size in sizes:
            note(
                "task start",
                "modelway",
                size,
                task_start(scratch, folders["modelway", size], scratch / f"stored-{size}"),
            )
    seconds = [
        {"what": what, "contestant": name, "models": size, "cpu_seconds": round(statistics.median(values), 4)}
        for (what, name, size), values in samples.items()
    ]
    return {"repeat": repeat, "tasks": len(tasks), "ratios": ratios(seconds, sizes), "seconds": seconds}


def passes(scratch: Path, name: str, size: int, folder: Path, *, tasks: int, whole: bool) -> dict[str, float]:
    """Return the CPU seconds of parsing a folder, and of a pass of the dag-processor over it.

    :raises SystemExit: a DAG or a task is missing
    """
    measured = {}
    stored = scratch / f"stored-{size}"
    if name == "modelway":
        shutil.rmtree(stored, ignore_errors=True)
        measured[FIRST] = loaded(scratch, folder, stored)["parse"]
    found = loaded(scratch, folder, stored)
    if found["dags"] != size or found["tasks"] < size * tasks:
        raise SystemExit(f"{name} made {found['dags']} DAGs with {found['tasks']} tasks of {size}")
    measured |= {"parse": found["parse"], "serialise": found["serialise"]}
    measured["both"] = found["parse"] + found["serialise"]
    if whole:
        home = scratch / f"home-{name}-{size}"
        if not home.exists():
            # The first pass stores what the others find.
            dag_processor(home, folder)
        measured["dag-processor"] = dag_processor(home, folder)
    return measured


def loaded(scratch: Path, folder: Path, stored: Path) -> dict[str, float]:
    """Parse a folder of DAG files, with what an earlier process stored of it in the home ``stored``."""
    found: dict[str, float] = child(scratch, "load", str(folder), models=folder / "models", MODELWAY_HOME=str(stored))[
        0
    ]
    return found


def task_start(scratch: Path, folder: Path, stored: Path) -> float:
    """Return the CPU seconds in which a task that starts has its DAG."""
    context = {"_AIRFLOW_PARSING_CONTEXT_DAG_ID": "model-0000", "_AIRFLOW_PARSING_CONTEXT_TASK_ID": "package"}
    context["MODELWAY_HOME"] = str(stored)
    found, _ = child(scratch, "start", str(folder), models=folder / "models", **context)
    if found["dags"] != 1:
        raise SystemExit(f"a task start built {found['dags']} DAGs")
    return float(found["whole"])


def ratios(seconds: list[dict[str, Any]], sizes: list[int]) -> list[dict[str, Any]]:
    """Return each number by its floor: the hand-written file, ``airflow.sdk``, or the start with the fewest models."""
    by = {(row["what"], row["contestant"], row["models"]): row["cpu_seconds"] for row in seconds}
    found = []
    for (what, name, size), value in by.items():
        floor = {"import": "airflow.sdk", "task start": "modelway"}.get(what, "floor")
        against = by["parse" if what == FIRST else what, floor, sizes[0] if what == "task start" else size]
        if (name, size) != (floor, sizes[0]) and name != floor or (what == "task start" and size != sizes[0]):
            found.append({"what": what, "contestant": name, "models": size, "ratio": round(value / against, 2)})
    return found


def environment(**more: str) -> dict[str, str]:
    """Return the variables of every measurement: nothing of the caller's Airflow."""
    # Python keeps what it compiled, as where it is installed: else each process would compile modelway anew.
    ours = ("AIRFLOW", "MODELWAY", "_AIRFLOW", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {
        **kept,
        "PYTHONPATH": str(PEERS),
        "PYTHONHASHSEED": "0",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "600",
        "AIRFLOW__DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "900",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        "DO_NOT_TRACK": "1",
        # Nothing that other runs stored.
        "MODELWAY_HOME": f"{more['AIRFLOW_HOME']}/modelway",
        **more,
    }


def child(scratch: Path, *words: str, models: Path | None = None, **more: str) -> tuple[Any, float]:
    """Run a measurement; return what it printed and its CPU seconds as a whole."""
    variables = environment(AIRFLOW_HOME=str(scratch / "home"), **more)
    if models and models.exists():
        variables["MODELWAY_MODELS"] = str(models)
    before = cpu_of_children()
    done = subprocess.run(
        [sys.executable, str(HERE / "measure.py"), *words], env=variables, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1]), cpu_of_children() - before


def dag_processor(home: Path, folder: Path) -> float:
    """Return the CPU seconds of one pass of a real dag-processor over a folder, its database new at the first."""
    variables = environment(
        AIRFLOW_HOME=str(home),
        AIRFLOW__CORE__DAGS_FOLDER=str(folder),
        AIRFLOW__CORE__PLUGINS_FOLDER=str(home / "plugins"),
        MODELWAY_MODELS=str(folder / "models"),
    )
    quiet: dict[str, Any] = {
        "env": variables,
        "check": True,
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
    }
    if not (home / "airflow.db").exists():
        home.mkdir(exist_ok=True)
        subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], **quiet)
    before = cpu_of_children()
    subprocess.run([sys.executable, "-m", "airflow", "dag-processor", "--num-runs", "1"], **quiet)
    return cpu_of_children() - before


def cpu_of_children() -> float:
    """Return the CPU seconds of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def show(results: dict[str, Any]) -> None:
    """Print the ratios as a table."""
    for row in sorted(results["ratios"], key=lambda row: (row["what"], row["models"], row["contestant"])):
        models = f"{row['models']:>5} models" if row["models"] else " " * 12
        print(f"{row['what']:<22} {models}  {row['contestant']:<18} {row['ratio']:6.2f} x")
    for line in results["missed"]:
        print(f"missed: {line}")


if __name__ == "__main__":
    sys.exit(main())
