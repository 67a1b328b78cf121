"""``python -m modelway.following.orphaned_jobs RUN STATE BACKEND…``: stop the jobs of a run that Airflow has ended.

Tasks stop their own jobs. This is for those that could not: their worker was killed and they had no attempt left, the
run took too long, or somebody marked it, while no triggerer ran. The listener of ``modelway/plugin.py`` starts it when
a run ends, as a separate process: scheduler and api-server must neither wait for a backend nor import its SDK.

It also aborts rollouts that the run left behind, flushes the exporters' queue and exports the failure of a failed run.
"""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING, Any

from modelway.following.rollouts import abort_rollouts_of
from modelway.platforms.processes.ending import Ending

if TYPE_CHECKING:
    from modelway.lineage.store import Lineage

_log = logging.getLogger(__name__)
SECONDS = 120.0
#: longer than in a task: nobody waits for this process
EXPORT_SECONDS = 60.0


def stop_orphaned_jobs(run: str, backends: Collection[str]) -> None:
    """Stop the run's jobs that are not over; errors are logged and not raised.

    :param run: ``<DAG id>/<run id>``
    """
    until = time.monotonic() + SECONDS
    for name in backends:
        try:
            backend = _backend(name)
        except Exception as error:
            _log.warning("the jobs on the backend %s are not known: %s: %s", name, type(error).__name__, error)
            continue
        _in_time(until, f"find the jobs on {name}", partial(_stop, backend, run, until))


def record_end(run: str, state: str) -> None:
    """Record for the exporters that the run ended; errors are logged and not raised.

    :param run: ``<DAG id>/<run id>``
    :param state: ``failed`` or ``success``
    """
    from modelway.hooks.lineage import flush_exporters

    dag_id, _, run_id = run.partition("/")

    def record(store: "Lineage") -> None:
        if state == "failed":
            store.exports.record_run_failed(dag_id=dag_id, run_id=run_id)

    flush_exporters(before=record, seconds=EXPORT_SECONDS)


def _backend(name: str) -> Any:
    from modelway.hooks.backend import backend_from_airflow
    from modelway.hooks.settings import load_settings

    # The environment says where jobs are: they are stopped even if Airflow cannot say where the lineage is.
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
    """Start the work in a thread that does not delay the end of the process."""

    def run() -> None:
        try:
            work()
        except Exception as error:
            _log.error("could not %s: %s: %s", what, type(error).__name__, error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def main() -> None:
    """Do all of it for the run that the words of the command name."""
    abort_rollouts_of(sys.argv[1], state=sys.argv[2])
    stop_orphaned_jobs(sys.argv[1], sys.argv[3:])
    record_end(sys.argv[1], sys.argv[2])


if __name__ == "__main__":
    # Airflow's own processes read connections from its database, tasks from its API: this is one of the former.
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    Ending().run(main)
