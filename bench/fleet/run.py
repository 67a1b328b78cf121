"""What a fleet of models costs Airflow: a real scheduler, hollow tasks, our DAGs beside empty ones of the same shape.

``python bench/fleet/run.py [--models 100] [--runs 10]`` prints a table, then JSON: tasks per second of the scheduler's
CPU, rows and bytes in Airflow's database per model and per run, and of ours per registered run. The exit status is 1
when our DAGs come to less than 0.9 of the empty ones. docs/scale.md says what follows from it.
"""

import argparse
import json
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TARGET = 0.9
#: registered runs of which the lineage's size is measured
REGISTERED = 50
#: and small ones after them
FLEET = 2000


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--runs", type=int, default=10, help="of each model")
    parser.add_argument("--small", action="store_true", help="2 models and 2 runs of each; its speeds are not judged")
    args = parser.parse_args()
    models, runs = (2, 2) if args.small else (args.models, args.runs)
    with tempfile.TemporaryDirectory(prefix="bench-fleet-") as scratch:
        command = [sys.executable, str(HERE / "scheduler.py"), str(models), str(runs), f"{scratch}/airflow"]
        printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        found: dict[str, Any] = json.loads(printed.splitlines()[-1])
        lineage = registered(Path(scratch), fleet=20 if args.small else FLEET)
    ratio = found["ours"]["tasks_per_cpu_second"] / found["empty"]["tasks_per_cpu_second"]
    document = {"models": models, "runs": runs, **found, "ratio": ratio, "lineage": lineage}
    show(document)
    print(json.dumps(document))
    return int(ratio < TARGET and not args.small)


def registered(folder: Path, *, fleet: int) -> dict[str, Any]:
    """Return the rows and bytes of the lineage for a run, and how long its queries take with few and with many.

    Runs of the size that bench/lineage has, then small ones of a training of six epochs.

    :param fleet: small runs that are registered
    """
    sys.path[:0] = [str(HERE.parent / "lineage")]
    from modelway.lineage.store import open_lineage
    from ours import record_of
    from workload import MODEL, make_run

    path = folder / "lineage.db"
    store = open_lineage(f"sqlite:///{path}")
    queries: dict[str, Callable[[], object]] = {
        "the newest version": lambda: store.find(MODEL, "latest"),
        "the list of models": store.models,
        "a whole version": lambda: store.version(MODEL, 2),
        "retrainings requested": lambda: store.monitoring.requests(MODEL),
    }

    def size() -> dict[str, int]:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            rows = sum(connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in names)
            pages, page = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
            series = "SELECT coalesce(sum(length(steps) + length(series)), 0) FROM metrics"
            return {"rows": rows, "bytes": pages * page, "series": connection.execute(series).fetchone()[0]}

    def milliseconds(query: Callable[[], object]) -> float:
        times = []
        for _ in range(20):
            began = time.perf_counter()
            query()
            times.append(1000 * (time.perf_counter() - began))
        return statistics.median(times)

    store.register(record_of(make_run(0)))
    sizes = [size()]
    for number in range(1, REGISTERED + 1):
        store.register(record_of(make_run(number)))
    sizes.append(size())
    few = {name: milliseconds(query) for name, query in queries.items()}
    for number in range(1000, 1000 + fleet):
        store.register(record_of(make_run(number, params=5, metrics=3, steps=6)))
    sizes.append(size())
    many = {name: milliseconds(query) for name, query in queries.items()}
    store.engine.dispose()
    large, small = (
        {f"{name}_per_run": (after[name] - before[name]) / number for name in before}
        for before, after, number in zip(sizes[:-1], sizes[1:], (REGISTERED, fleet), strict=True)
    )
    return {**large, "small": {**small, "runs": fleet}, "queries": {name: [few[name], many[name]] for name in queries}}


def show(document: dict[str, Any]) -> None:
    """Print the table."""
    print(f"{document['models']} models, {document['runs']} runs of each, hollow tasks")
    print(f"{'DAGs':<8} {'tasks/run':>9} {'tasks/CPU s':>11} {'KB/model':>9} {'rows/run':>9} {'KB/run':>7}")
    for name in ("empty", "ours"):
        row = document[name]
        print(
            f"{name:<8} {row['tasks_per_run']:9.1f} {row['tasks_per_cpu_second']:11.1f} "
            f"{row['bytes_per_model'] / 1e3:9.1f} {row['rows_per_run']:9.1f} {row['bytes_per_run'] / 1e3:7.1f}"
        )
    for name, own in (("lineage", document["lineage"]), ("small", document["lineage"]["small"])):
        print(f"{name:<8} {'':>9} {'':>11} {'':>9} {own['rows_per_run']:9.1f} {own['bytes_per_run'] / 1e3:7.1f}")
    print(f"the process after a run: {document['follow_up_cpu_seconds']:.1f} CPU s")
    more = document["lineage"]["small"]["runs"]
    for name, (few, many) in document["lineage"]["queries"].items():
        print(f"{name}: {few:.2f} ms with {REGISTERED} runs, {many:.2f} ms with {more} more")
    print(f"our DAGs: {document['ratio']:.2f} of the empty ones' tasks per second (at least {TARGET})")


if __name__ == "__main__":
    sys.exit(main())
