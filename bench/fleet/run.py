"""What a fleet of models costs Airflow: a real scheduler, hollow tasks, our DAGs beside empty ones of the same shape.

``python bench/fleet/run.py [--models 100] [--runs 10]`` prints a table, then JSON: tasks per second of the scheduler's
CPU, rows and bytes in Airflow's database per model and per run, and of ours per registered run. The exit status is 1
when our DAGs come to less than 0.9 of the empty ones. docs/scale.md says what follows from it.
"""

import argparse
import json
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TARGET = 0.9
#: registered runs of which the lineage's size is measured
REGISTERED = 50


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
        lineage = registered(Path(scratch))
    ratio = found["ours"]["tasks_per_cpu_second"] / found["empty"]["tasks_per_cpu_second"]
    document = {"models": models, "runs": runs, **found, "ratio": ratio, "lineage": lineage}
    show(document)
    print(json.dumps(document))
    return int(ratio < TARGET and not args.small)


def registered(folder: Path) -> dict[str, float]:
    """Return the rows and bytes of the lineage for a registered run of the size that bench/lineage has."""
    sys.path[:0] = [str(HERE.parent / "lineage")]
    from modelway.lineage.store import open_lineage
    from ours import record_of
    from workload import make_run

    path = folder / "lineage.db"
    store = open_lineage(f"sqlite:///{path}")

    def size() -> tuple[int, int]:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            rows = sum(connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in names)
            pages, page = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
        return rows, pages * page

    store.register(record_of(make_run(0)))
    before = size()
    for number in range(1, REGISTERED + 1):
        store.register(record_of(make_run(number)))
    after = size()
    store.engine.dispose()
    return {"rows_per_run": (after[0] - before[0]) / REGISTERED, "bytes_per_run": (after[1] - before[1]) / REGISTERED}


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
    own = document["lineage"]
    print(f"{'lineage':<8} {'':>9} {'':>11} {'':>9} {own['rows_per_run']:9.1f} {own['bytes_per_run'] / 1e3:7.1f}")
    print(f"our DAGs: {document['ratio']:.2f} of the empty ones' tasks per second (at least {TARGET})")


if __name__ == "__main__":
    sys.exit(main())
