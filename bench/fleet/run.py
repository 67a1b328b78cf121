"""What a fleet of models costs Airflow: a real scheduler, hollow tasks, our DAGs beside empty ones of the same shape.

``python bench/fleet/run.py [--models 100] [--runs 2] [--minutes 15] [--folder DIR]`` takes a day of the fleet on a
PostgreSQL of its own, hour by hour, and prints a table, then JSON: tasks per second of the CPU of scheduler and
database, rows and bytes in Airflow's database per model and per run, and in ours, and how long the lineage's queries
take as it grows. After ``--minutes`` no hour begins: with the same ``--folder`` the day continues where it ended. The
empty DAGs have the runs of every ``--compare-each`` hour, and the ratio is that of these hours. The exit status is 1
when our DAGs come to less than 0.9 of the empty ones. docs/scale.md says what follows from it.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parents[1]))

import psycopg  # noqa: E402

from tests.postgres_server import PostgresServer, postgres_server  # noqa: E402

TARGET = 0.9
#: registered runs of which the size of a large one is measured
LARGE = 50
#: how often each query is asked in an hour
QUERIES = 100


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--runs", type=int, default=2, help="of each model in the day")
    parser.add_argument("--minutes", type=float, default=15, help="after so long no hour of the day begins")
    parser.add_argument("--compare-each", type=int, default=6, help="of so many hours the empty DAGs have one")
    parser.add_argument("--folder", type=Path, help="kept, so that the day can be continued")
    parser.add_argument("--small", action="store_true", help="2 models and 2 runs of each; its speeds are not judged")
    args = parser.parse_args()
    if args.small:
        args.models, args.runs, args.compare_each = 2, 2, 1
    with kept(args.folder) as folder:
        check_plan(folder, {"models": args.models, "runs": args.runs})
        with postgres_server(folder=folder) as server:
            measured = {"large": 2, "queries": 2} if args.small else {"large": LARGE, "queries": QUERIES}
            take_day(folder, server, minutes=args.minutes, compare_each=args.compare_each, **measured)
        document = summary(folder)
    show(document)
    print(json.dumps(document))
    return int(document["ratio"] < TARGET and not args.small)


@contextmanager
def kept(folder: Path | None) -> Iterator[Path]:
    """Return the folder of the day, a temporary one where none is named."""
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="bench-fleet-") as temporary:
            Path(temporary).chmod(0o755)
            yield Path(temporary)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder.resolve()


def check_plan(folder: Path, plan: dict[str, int]) -> None:
    """Write down what the day of a folder is, or refuse to continue another one."""
    path = folder / "plan.json"
    if path.exists() and json.loads(path.read_text()) != plan:
        sys.exit(f"{folder} has another day: {path.read_text()}; name another --folder or the same numbers")
    path.write_text(json.dumps(plan))


def hours_of(folder: Path) -> list[dict[str, Any]]:
    """Return the hours that were measured."""
    path = folder / "hours.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def take_day(
    folder: Path, server: PostgresServer, *, minutes: float, compare_each: int, large: int, queries: int
) -> None:
    """Measure the hours that are left, as far as the time goes."""
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        there = {name for (name,) in connection.execute("SELECT datname FROM pg_database").fetchall()}
        if not (folder / "prepared.json").exists():
            # The preparation was ended in the middle.
            shutil.rmtree(folder / "models", ignore_errors=True)
            for name in ("airflow", "lineage"):
                connection.execute(f"DROP DATABASE IF EXISTS {name}")
            there -= {"airflow", "lineage"}
        for name in {"airflow", "lineage"} - there:
            connection.execute(f"CREATE DATABASE {name}")
    plan = {
        **json.loads((folder / "plan.json").read_text()),
        "folder": str(folder),
        "minutes": minutes,
        "compare_each": compare_each,
        "large": large,
        "queries": queries,
        "server": server.pid,
        "airflow": server.url("airflow"),
        "lineage": server.url("lineage"),
        "first_hour": max((each["hour"] for each in hours_of(folder)), default=-1) + 1,
    }
    subprocess.run([sys.executable, str(HERE / "day.py"), json.dumps(plan)], stdout=subprocess.DEVNULL, check=True)


def summary(folder: Path) -> dict[str, Any]:
    """Return what the hours come to."""
    hours, prepared = hours_of(folder), json.loads((folder / "prepared.json").read_text())
    compared = [each for each in hours if "empty" in each]
    kinds: dict[str, dict[str, float]] = {
        kind: {**of_kind([each[kind] for each in hours if kind in each]), **prepared[kind]}
        for kind in ("empty", "ours")
    }
    in_both = of_kind([each["ours"] for each in compared])
    lineage = [each["lineage"] for each in hours]
    registered = sum(each["runs"] for each in lineage)
    queries = {
        name: [lineage[0]["milliseconds"][name], lineage[-1]["milliseconds"][name]]
        for name in lineage[0]["milliseconds"]
    }
    return {
        **json.loads((folder / "plan.json").read_text()),
        "hours": len(hours),
        "load": [round(bound(each["load"] for each in hours), 1) for bound in (min, max)],
        **kinds,
        "ratio": in_both["tasks_per_cpu_second"] / kinds["empty"]["tasks_per_cpu_second"],
        "ratios": [tasks_per_cpu_second(each["ours"]) / tasks_per_cpu_second(each["empty"]) for each in compared],
        "tasks_per_cpu_second_by_hour": [tasks_per_cpu_second(each["ours"]) for each in hours],
        "follow_up_cpu_seconds": prepared["follow_up_cpu_seconds"],
        "lineage": {
            **prepared["large"],
            "small": {
                "runs": registered,
                "cpu_seconds_per_run": sum(each["cpu_seconds"] for each in lineage) / registered,
                **{f"{name}_per_run": sum(each[name] for each in lineage) / registered for name in ("rows", "bytes")},
            },
            "queries": queries,
        },
    }


def tasks_per_cpu_second(found: dict[str, float]) -> float:
    """Return how many tasks a second of the scheduler's and the database's CPU takes to their end."""
    return found["tasks"] / (found["cpu_seconds"] + found["database_cpu_seconds"])


def of_kind(found: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return what some hours of one kind of DAGs come to."""
    sums = {name: sum(each[name] for each in found) for name in found[0]}
    runs = sums.pop("runs")
    return {
        "runs": runs,
        **sums,
        "tasks_per_run": sums["tasks"] / runs,
        "tasks_per_cpu_second": tasks_per_cpu_second(sums),
        "rows_per_run": sums["rows"] / runs,
        "bytes_per_run": sums["bytes"] / runs,
    }


def show(document: dict[str, Any]) -> None:
    """Print the table."""
    done, runs = document["hours"], int(document["ours"]["runs"])
    print(f"{document['models']} models, {done} hours of a day, {runs} runs, hollow tasks, on PostgreSQL")
    print(f"{'DAGs':<8} {'runs':>6} {'tasks':>7} {'tasks/CPU s':>11} {'KB/model':>9} {'rows/run':>9} {'KB/run':>7}")
    for name in ("empty", "ours"):
        row = document[name]
        print(
            f"{name:<8} {row['runs']:6} {row['tasks']:7} {row['tasks_per_cpu_second']:11.1f} "
            f"{row['bytes_per_model'] / 1e3:9.1f} {row['rows_per_run']:9.1f} {row['bytes_per_run'] / 1e3:7.1f}"
        )
    for name, own in (("large", document["lineage"]), ("small", document["lineage"]["small"])):
        print(f"lineage, a {name} run: {own['rows_per_run']:.1f} rows, {own['bytes_per_run'] / 1e3:.1f} KB")
    first, last = (document["tasks_per_cpu_second_by_hour"][at] for at in (0, -1))
    print(f"tasks/CPU s of ours in the first hour {first:.1f}, in the last {last:.1f}")
    print(f"the process after a run: {document['follow_up_cpu_seconds']:.1f} CPU s")
    for name, (few, many) in document["lineage"]["queries"].items():
        print(f"{name}: {few:.2f} ms after the first hour, {many:.2f} ms after the last")
    print(f"our DAGs: {document['ratio']:.2f} of the empty ones' tasks per second (at least {TARGET})")


if __name__ == "__main__":
    sys.exit(main())
