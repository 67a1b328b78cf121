"""Starts a component of the local Airflow again that ended or stopped working, as a process manager would.

With SQLite a component ends when its database stays locked, which a busy machine brings about. No job is lost: jobs
outlive Airflow's processes, and tasks find them again.
"""

import logging
import time
from collections import Counter
from datetime import datetime
from typing import Any

import psutil

from modelway.localairflow.processes import LocalAirflow

_log = logging.getLogger(__name__)
#: of one component; after them its end is an error
MOST_RESTARTS = 3
#: without a heartbeat, after which a component that runs is ended: four times Airflow's own limit for "unhealthy"
SILENT_SECONDS = 120.0
PAUSE_SECONDS = 15.0
#: component → its key in the answer of Airflow's health endpoint
HEALTH = {"scheduler": "scheduler", "dag-processor": "dag_processor", "triggerer": "triggerer"}


class Restarts:
    """What the wait for a run calls again and again: ``check`` keeps the components running."""

    def __init__(self, airflow: LocalAirflow) -> None:
        """Begin with the components of a started Airflow."""
        self.airflow = airflow
        self.count: Counter[str] = Counter()
        self._next_health = time.monotonic() + PAUSE_SECONDS

    def check(self) -> None:
        """Start each component again that ended or is silent.

        :raises EndpointNotReady: one ended after its last restart; the message names it and has its last lines
        """
        if time.monotonic() >= self._next_health:
            self._end_silent()
            self._next_health = time.monotonic() + PAUSE_SECONDS
        for component, process in list(self.airflow.processes.items()):
            if process.poll() is None:
                continue
            if self.count[component] >= MOST_RESTARTS:
                self.airflow.check_component(component)
            self.count[component] += 1
            _log.warning("airflow %s ended with %s and is started again", component, process.returncode)
            # One that ends at once is seen by the next check: it may have restarts left.
            self.airflow.start_component(component)

    def _end_silent(self) -> None:
        """Kill each component whose last heartbeat is long ago: one that waits for a lock does not obey SIGTERM."""
        health = self._health()
        for component, key in HEALTH.items():
            part, process = health.get(key) or {}, self.airflow.processes.get(component)
            last = part.get(f"latest_{key}_heartbeat")
            if process is None or last is None or process.poll() is not None or part.get("status") == "healthy":
                continue
            # What a component did not write before it was started again is no silence of it.
            since = max(datetime.fromisoformat(last).timestamp(), psutil.Process(process.pid).create_time())
            if time.time() - since > SILENT_SECONDS:
                process.kill()
                process.wait()

    def _health(self) -> dict[str, Any]:
        import httpx

        try:
            found: dict[str, Any] = httpx.get(f"{self.airflow.url}/api/v2/monitor/health", timeout=10).json()
        except (httpx.HTTPError, ValueError):
            return {}
        return found
