"""``python -m modelway.following.orphaned_jobs RUN STATE BACKEND…``: stop the jobs of a run that Airflow has ended.

Tasks stop their own jobs. This is for those that could not: their worker was killed and they had no try left, the run
took too long, or somebody marked it, while no triggerer was there. The listener of ``modelway/plugin.py`` starts
it when a run ends, as a process of its own: scheduler and api-server must neither wait for a backend nor hold its SDK.

Those who are told what the lineage learns get what still waits for them, and hear of a run that failed.
"""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelway.lineage.store import Lineage

_log = logging.getLogger(__name__)
SECONDS = 120.0
#: nobody waits for this process
TELL_SECONDS = 60.0


def stop_left_jobs(run: str, backends: Collection[str]) -> None:
    """Stop the run's jobs that are not over; whatever goes wrong is logged and raises nothing.

    :param run: ``<DAG id>/<run id>``
    """
    until = time.monotonic() + SECONDS
    for name in backends:
        try:
            backend = _backend(name)
        except Exception as error:
            _log.warning("what is left on the backend %s is not known: %s: %s", name, type(error).__name__, error)
            continue
        _in_time(until, f"look for jobs on {name}", partial(_stop, backend, run, until))


def tell_end(run: str, state: str) -> None:
    """Tell the exporters that the run ended; whatever goes wrong is logged and raises nothing.

    :param run: ``<DAG id>/<run id>``
    :param state: ``failed`` or ``success``
    """
    from modelway.hooks.lineage import flush_exporters

    dag_id, _, run_id = run.partition("/")

    def record(lineage: "Lineage") -> None:
        if state == "failed":
            lineage.exports.record_run_failed(dag_id=dag_id, run_id=run_id)

    flush_exporters(before=record, seconds=TELL_SECONDS)


def _backend(name: str) -> Any:
    from modelway.hooks.backend import backend_from_airflow
    from modelway.hooks.settings import load_settings

    # Where jobs lie says the environment: they are stopped though Airflow cannot be asked where the lineage is.
    return backend_from_airflow(name, home=load_settings().home)


def _stop(backend: Any, run: str, until: float) -> None:
    threads = []
    for handle in backend.unfinished(run=run):
        _log.warning("job %s outlived its run and is stopped", handle.name)
        threads.append(_thread(f"stop job {handle.name}", partial(backend.cancel, handle)))
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))


def _in_time(until: float, what: str, work: Callable[[], None]) -> None:
    thread = _thread(what, work)
    thread.join(max(0.0, until - time.monotonic()))
    if thread.is_alive():
        _log.error("to %s takes too long; see what is left with the backend's own tools", what)


def _thread(what: str, work: Callable[[], None]) -> threading.Thread:
    """Start the work in a thread that keeps no process from ending."""

    def told() -> None:
        try:
            work()
        except Exception as error:
            _log.error("could not %s: %s: %s", what, type(error).__name__, error)

    thread = threading.Thread(target=told, daemon=True)
    thread.start()
    return thread


if __name__ == "__main__":
    # Airflow's own processes read connections from its database, tasks ask for them: this is one of the former.
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    stop_left_jobs(sys.argv[1], sys.argv[3:])
    tell_end(sys.argv[1], sys.argv[2])
