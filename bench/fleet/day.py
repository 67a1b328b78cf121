"""``python day.py PLAN``: a day of the fleet, hour by hour, on a real scheduler; PLAN is JSON that run.py makes.

The runs of an hour begin together and are taken to their end before those of the next. In some hours the empty DAGs
have as many. Each hour adds a line to ``hours.jsonl``; a day that was ended in the middle continues after its last
line: what the broken hour left is finished, and the hour begins anew.
"""

import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from databases import cpu_seconds, size
from fleet_dags import BUNDLE, EMPTY, build, emptied, name_of, store
from registered import FleetLineage
from scheduler import Scheduler, begin

HOURS = 24
#: more than an hour has runs: no two runs have the same files
OF_AN_HOUR = 1_000_000
MIDNIGHT = datetime(2026, 1, 1, tzinfo=UTC)


def settings(folder: Path, url: str) -> dict[str, str]:
    """Return the variables of an Airflow in a folder."""
    url = url.replace("postgresql:", "postgresql+psycopg:")
    return {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": url,
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__PARALLELISM": "512",
        "AIRFLOW__CORE__DEFAULT_POOL_TASK_SLOT_COUNT": "512",
        "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "512",
        "AIRFLOW__SCHEDULER__MAX_TIS_PER_QUERY": "0",
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([BUNDLE]),
        "AIRFLOW__API_AUTH__JWT_SECRET": "of-a-benchmark-without-an-api-server-and-longer-than-sixty-four-bytes",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "MODELWAY_HOME": str(folder / "home"),
    }


def of_hour(hour: int, *, models: int, runs: int) -> list[tuple[str, int]]:
    """Return the models and the numbers of their runs that begin in an hour: each model's are spread over the day."""
    return [
        (name_of(model), number)
        for number in range(runs)
        for model in range(models)
        if (model + number * HOURS // runs) % HOURS == hour
    ]


def start_nothing(run: str, state: str, backends: Sequence[str]) -> None:
    """Start a process as the listener does when a run ends: hundreds at once would measure themselves."""
    process = subprocess.Popen(["true"], stdin=subprocess.DEVNULL, start_new_session=True)
    threading.Thread(target=process.wait, daemon=True).start()


def follow_up_seconds(run: str) -> float:
    """Return the CPU of the process that stops the orphaned jobs of a run that ended."""
    command = [sys.executable, "-m", "modelway.following.orphaned_jobs", run, "success", "local"]
    # The first one makes the lineage.
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


class Day:
    """The fleet's Airflow and lineage, each in a database of its own."""

    def __init__(self, plan: Mapping[str, Any]) -> None:
        """Open what is there, or make it."""
        self._models, self._runs, self._each = plan["models"], plan["runs"], plan["compare_each"]
        self._folder, self._server = Path(plan["folder"]), plan["server"]
        self._airflow, self._lineage_database = (
            psycopg.connect(plan[name], autocommit=True) for name in ("airflow", "lineage")
        )
        self._large = plan["large"]
        self._lineage = FleetLineage(plan["lineage"], times=plan["queries"])
        self._prepared = self._folder / "prepared.json"
        if not self._prepared.exists():
            self._prepare()
        self._scheduler = Scheduler()
        # What an hour left that was ended in the middle; and the first of all fills the caches.
        self._scheduler.finish()
        self._stamp = f"{time.time():.0f}"

    def _prepare(self) -> None:
        """Make the databases; write what the DAGs of a model and a large run of the lineage take."""
        from airflow.utils.db import initdb
        from airflow.utils.session import create_session

        initdb()
        (self._folder / "dags").mkdir(parents=True, exist_ok=True)
        ours = build(self._models, self._folder)
        found: dict[str, Any] = {}
        for name, dags in (("empty", [emptied(dag) for dag in ours]), ("ours", ours)):
            before = size(self._airflow)
            with create_session() as session:
                store(dags, session, folder=self._folder)
                begin([(dags[0].dag_id, "first")], MIDNIGHT, session)
            found[name] = {"bytes_per_model": (size(self._airflow)["bytes"] - before["bytes"]) / len(dags)}
        # Every model has a version, so that lists are as long at the first hour as at the last.
        self._lineage.register_all((name_of(model), "first", model) for model in range(self._models))
        before = size(self._lineage_database)
        for number in range(self._large):
            self._lineage.register("large", f"large-{number}", (HOURS + 1) * OF_AN_HOUR + number, large=True)
        after = size(self._lineage_database)
        found["large"] = {f"{name}_per_run": (after[name] - before[name]) / self._large for name in before}
        found["follow_up_cpu_seconds"] = follow_up_seconds(f"{name_of(0)}/first")
        self._prepared.write_text(json.dumps(found))

    def hours(self, first: int) -> Iterator[dict[str, Any]]:
        """Measure the hours from one on."""
        with_runs = [hour for hour in range(HOURS) if of_hour(hour, models=self._models, runs=self._runs)]
        for hour in [hour for hour in with_runs if hour >= first]:
            found: dict[str, Any] = {"hour": hour}
            # By turns who is first.
            at = with_runs.index(hour)
            kinds = ["ours"] if at % self._each else [("ours", "empty"), ("empty", "ours")][at // self._each % 2]
            for kind in kinds:
                found[kind] = self._run(hour, kind)
            yield {**found, "lineage": self._register(hour), "load": os.getloadavg()[0]}

    def _run(self, hour: int, kind: str) -> dict[str, float]:
        """Make the runs of an hour and take them to their end."""
        from airflow.utils.session import create_session

        runs = [
            (model + EMPTY * (kind == "empty"), f"{hour:02}-{number}-{self._stamp}")
            for model, number in of_hour(hour, models=self._models, runs=self._runs)
        ]
        before, server = size(self._airflow), cpu_seconds(self._server)
        cpu, wall = time.process_time(), time.monotonic()
        with create_session() as session:
            begin(runs, MIDNIGHT + timedelta(hours=hour), session)
        tasks = self._scheduler.finish()
        taken = {
            "seconds": time.monotonic() - wall,
            "cpu_seconds": time.process_time() - cpu,
            "database_cpu_seconds": cpu_seconds(self._server) - server,
        }
        after = size(self._airflow)
        return {"runs": len(runs), "tasks": tasks, **taken, **{name: after[name] - before[name] for name in before}}

    def _register(self, hour: int) -> dict[str, Any]:
        """Register a version for each run of the hour, and ask."""
        runs = of_hour(hour, models=self._models, runs=self._runs)
        before = size(self._lineage_database)
        seconds = self._lineage.register_all(
            (model, f"{hour:02}-{number}-{self._stamp}", (hour + 1) * OF_AN_HOUR + at)
            for at, (model, number) in enumerate(runs)
        )
        after = size(self._lineage_database)
        grown = {name: after[name] - before[name] for name in before}
        return {"runs": len(runs), "cpu_seconds": seconds, **grown, "milliseconds": self._lineage.milliseconds("m0000")}


def main() -> None:
    """Measure until the day or the time is over."""
    plan = json.loads(sys.argv[1])
    folder, until = Path(plan["folder"]), time.monotonic() + 60 * plan["minutes"]
    os.environ.update(settings(folder, plan["airflow"]))
    from modelway.plugin import EndOfRuns

    EndOfRuns.follow_up = staticmethod(start_nothing)
    with (folder / "hours.jsonl").open("a") as file:
        for hour in Day(plan).hours(plan["first_hour"]):
            print(json.dumps(hour), file=file, flush=True)
            print(f"hour {hour['hour']}: {json.dumps(hour)}", file=sys.stderr, flush=True)
            if time.monotonic() > until:
                break


if __name__ == "__main__":
    main()
