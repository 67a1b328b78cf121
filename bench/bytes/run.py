"""How often the bytes of a model are written and stored on its way to an endpoint, against a bare script.

``python bench/bytes/run.py [--megabytes 1000] [--small]`` runs ``modelway run`` of a model with two checkpoints on the
backend ``local``, everything on one file system, and the bare script of ``network.py``. It prints a table, then JSON:

- ``on_disk``: bytes of all files in the home, each inode once, in sizes of the model; target: at most 4
- ``written``: bytes that all processes wrote to the disk (``write_bytes`` of ``/proc/<pid>/io``), less those of the
  same run with a model of 1 MB, in sizes of the model; target: at most 5
- ``wall``: seconds from the begin of the task ``package`` to the end of ``promote``, by those of the script, which
  trains, saves twice, loads, evaluates, exports, saves, loads in ONNX Runtime and answers once; target: at most 1.5
- ``cpu``: CPU seconds of all processes, less those of the same run with a model of 1 MB, by those of the script
- ``memory``: peak of the largest process that is neither the model's own code nor Airflow, in MB, target at most 128;
  and by how much the peak of each process grows over the same run with a model of 1 MB, which should not be seen

The exit status is 1 where a target is missed, except with ``--small``.
"""

import argparse
import ctypes
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from watch import Watch

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
MODEL = "network"
SPEC = """
model: {model}
train: {{stages: [{{name: train}}]}}
params: {{megabytes: {{default: {megabytes}}}}}
select: {{metric: loss}}
rollout: {{steps: [100], interval: 1s}}
"""
MAIN = "import sys; from modelway.cli import main; sys.exit(main())"
#: what of the caller's environment would change the figures
LEFT_OUT = ("AIRFLOW", "_AIRFLOW", "MODELWAY", "PYTHONPATH")
TARGETS = {"on_disk": 4.0, "written": 5.0, "wall": 1.5, "memory": 128.0}
#: the model's own code, and Airflow
NOT_OURS = ("job", "modelway.server", "modelway.cli._dag_test")
PR_SET_CHILD_SUBREAPER = 36
PATIENCE_SECONDS = 60.0


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--megabytes", type=int, default=1000, help="size of the model")
    parser.add_argument("--scratch", type=Path, help="where to work; default: the system's temporary folder")
    parser.add_argument("--small", action="store_true", help="a model of 2 MB: only whether it works")
    args = parser.parse_args()
    if args.small:
        args.megabytes = 2
    # Processes that outlive their starter stay below this one.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory(prefix="bench-bytes-", dir=args.scratch) as scratch:
        small = None if args.small else run_model(Path(scratch) / "small", 1)
        bare = run_script(Path(scratch) / "script", args.megabytes)
        ours = run_model(Path(scratch) / "ours", args.megabytes)
    results = summary(ours, small, bare, args.megabytes)
    show(results)
    print(json.dumps(results))
    return 1 if results["missed"] and not args.small else 0


def run_script(folder: Path, megabytes: int) -> tuple[float, float]:
    """Return the seconds of the bare script, and its CPU seconds."""
    folder.mkdir()
    before = cpu_seconds()
    words = [sys.executable, str(HERE / "network.py"), str(folder), str(megabytes)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"the script failed:\n{done.stderr[-3000:]}")
    for file in folder.iterdir():
        file.unlink()
    return float(done.stdout.split()[-1]), cpu_seconds() - before


def run_model(folder: Path, megabytes: int) -> dict[str, Any]:
    """Take a model of this size to its endpoint; return what that took and left."""
    model, home = folder / "models" / MODEL, folder / "home"
    model.mkdir(parents=True)
    (model / "model.yaml").write_text(SPEC.format(model=MODEL, megabytes=megabytes))
    (model / f"{MODEL}.py").write_text((HERE / "network.py").read_text())
    kept = {name: value for name, value in os.environ.items() if not name.startswith(LEFT_OUT)}
    own = {"MODELWAY_MODELS": str(folder / "models"), "MODELWAY_HOME": str(home), "DO_NOT_TRACK": "1"}
    environment = {**kept, **own, "PYTHONPATH": str(REPOSITORY / "plugins")}
    words = [sys.executable, "-c", MAIN]
    before, cpu = written_bytes(), cpu_seconds()
    with Watch(os.getpid()) as watch:
        done = subprocess.run([*words, "run", MODEL], env=environment, capture_output=True, text=True)
    try:
        if done.returncode:
            raise SystemExit(f"modelway run failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        files = large_files(home)
        seconds = task_seconds(home)
    finally:
        subprocess.run([*words, "endpoint", "stop", MODEL], env=environment, capture_output=True)
        reap()
    return {
        "seconds": seconds,
        "files": [[name, size] for name, size in files if size > megabytes * 5e5],
        "on_disk_bytes": sum(size for _, size in files),
        "written_bytes": written_bytes() - before,
        "cpu_seconds": round(cpu_seconds() - cpu, 2),
        "peaks": watch.peaks(),
    }


def written_bytes() -> int:
    """Return what this process and all below it that have ended wrote: a parent's count includes its children's."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("write_bytes:")))


def cpu_seconds() -> float:
    """Return the CPU seconds of all processes below this one that have ended."""
    used = os.times()
    return used.children_user + used.children_system


def large_files(home: Path) -> list[tuple[str, int]]:
    """Return the files below a folder, each inode once, with what each has on the disk, the largest first."""
    found: dict[int, tuple[str, int]] = {}
    for path in home.rglob("*"):
        if path.is_file() and not path.is_symlink():
            status = path.stat()
            found.setdefault(status.st_ino, (path.relative_to(home).as_posix(), status.st_blocks * 512))
    return sorted(found.values(), key=lambda each: -each[1])


def task_seconds(home: Path) -> dict[str, float]:
    """Return the seconds of each task, and those from the begin of ``package`` to the end of ``promote``."""
    (database,) = home.rglob("airflow.db")
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        rows = connection.execute("select task_id, start_date, end_date from task_instance").fetchall()
    # A task in a group has its group's name before its own.
    times = {
        task.rpartition(".")[2]: (datetime.fromisoformat(begin), datetime.fromisoformat(end))
        for task, begin, end in rows
        if end
    }
    found = {task: round((end - begin).total_seconds(), 1) for task, (begin, end) in times.items()}
    return {**found, "all": (times["promote"][1] - times["package"][0]).total_seconds()}


def reap() -> None:
    """Wait for the adopted processes, which end with the endpoint."""
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        try:
            if not os.waitpid(-1, os.WNOHANG)[0]:
                time.sleep(0.05)
        except ChildProcessError:
            return
    raise SystemExit("processes that the run left behind did not end")


def summary(
    ours: dict[str, Any], small: dict[str, Any] | None, bare: tuple[float, float], megabytes: int
) -> dict[str, Any]:
    """Return the figures and which targets are missed.

    :param bare: seconds and CPU seconds of the script
    """
    size = ours["files"][0][1] if ours["files"] else megabytes * 1e6
    # What Airflow and its database write for a run of any model is not the model's.
    fixed = small["written_bytes"] if small else 0
    before = small["peaks"] if small else {}
    growth = {name: round((peak - before[name]) / 1e6, 1) for name, peak in ours["peaks"].items() if name in before}
    own = [peak for name, peak in ours["peaks"].items() if name not in NOT_OURS]
    ratios = {
        "on_disk": round(ours["on_disk_bytes"] / size, 2),
        "written": round((ours["written_bytes"] - fixed) / size, 2),
        "wall": round(ours["seconds"]["all"] / bare[0], 2),
        "cpu": round((ours["cpu_seconds"] - (small["cpu_seconds"] if small else 0)) / bare[1], 2),
        "memory": round(max(own) / 1e6, 1),
    }
    missed = [f"{name}: {ratios[name]}, target {most}" for name, most in TARGETS.items() if ratios[name] > most]
    script = {"script_seconds": bare[0], "script_cpu_seconds": round(bare[1], 2)}
    about = {"megabytes": megabytes, **script, "fixed_written_bytes": fixed, "growth_mb": growth}
    return {**about, "ratios": ratios, **ours, "missed": missed}


def show(results: dict[str, Any]) -> None:
    """Print a table."""
    for name, value in results["ratios"].items():
        print(f"{name:<8} {value:8.2f}" + (f"   target {TARGETS[name]:g}" if name in TARGETS else ""))
    print(f"seconds  {results['seconds']['all']:8.1f}   script {results['script_seconds']:.1f}")
    print("  " + ", ".join(f"{task} {seconds}" for task, seconds in results["seconds"].items()))
    for name, size in results["files"]:
        print(f"  {size / 1e6:8.0f} MB  {name}")
    for name, peak in sorted(results["peaks"].items(), key=lambda each: -each[1]):
        grown = f", {results['growth_mb'][name]:+} MB" if name in results["growth_mb"] else ""
        print(f"  {peak / 1e6:8.0f} MB  peak of {name}{grown}")


if __name__ == "__main__":
    sys.exit(main())
