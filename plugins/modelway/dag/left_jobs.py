"""No job outlives its run: what still runs when Airflow has ended a run is stopped.

Tasks stop their own jobs. This is for those that could not: their worker was killed and they had no try left, or the
run ended while no triggerer was there. Airflow calls it in the DAG processor, which has little time.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

_log = logging.getLogger(__name__)
#: the DAG processor ends a file's callbacks after 50 seconds
SECONDS = 20.0
#: a run with a task in one of these states goes on: it was cleared since it ended
_ACTIVE = frozenset({"deferred", "queued", "restarting", "running", "scheduled", "up_for_retry"})


def stop_left_jobs(context: Mapping[str, Any], *, model: str, backends: Collection[str]) -> None:
    """Stop the run's jobs that are not over, then those of other runs that lost their task.

    Whatever goes wrong is logged and raises nothing.
    """
    until = time.monotonic() + SECONDS
    _stop_of_run(context["dag"].dag_id, context["run_id"], model, backends, until)
    try:
        _stop_unwanted(until)
    except Exception as error:
        _log.warning("jobs that lost their task are not known: %s: %s", type(error).__name__, error)


def _stop_of_run(dag_id: str, run_id: str, model: str, backends: Collection[str], until: float) -> None:
    try:
        if _goes_on(dag_id, run_id):
            _log.info("run %s goes on again, its jobs are left alone", run_id)
            return
    except Exception as error:
        _log.debug("the tasks' states are not known: %s", error)
    for name in backends:
        try:
            backend = _backend(name)
        except Exception as error:
            _log.warning("what is left on the backend %s is not known: %s: %s", name, type(error).__name__, error)
            continue
        _in_time(until, f"look for jobs on {name}", partial(_stop, backend, model, f"{dag_id}/{run_id}", until))


def _stop_unwanted(until: float) -> None:
    """Stop jobs that Airflow told nobody about, such as those of a deleted run."""
    from modelway.hooks.settings import load_settings
    from modelway.triggers import _deferred as deferred

    home = load_settings().home
    for job in deferred.unwanted(home):
        backend = _backend(job.handle.backend)

        def stop(backend: Any = backend, job: deferred.DeferredJob = job) -> None:
            backend.cancel(job.handle)
            deferred.forget(home, job.follower)
            _log.warning("job %s was stopped: its task in run %s is over", job.handle.name, job.run_id)

        _in_time(until, f"stop job {job.handle.name}", stop)


def _backend(name: str) -> Any:
    from modelway.hooks.backend import backend_from_airflow
    from modelway.hooks.connection import settings_from_airflow

    return backend_from_airflow(name, home=settings_from_airflow().home)


def _stop(backend: Any, model: str, run: str, until: float) -> None:
    handles = backend.unfinished(model=model, run=run)
    threads = []
    for handle in handles:
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


def _goes_on(dag_id: str, run_id: str) -> bool:
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    states = RuntimeTaskInstance.get_task_states(dag_id=dag_id, run_ids=[run_id]).get(run_id, {})
    return any(str(getattr(state, "value", state)) in _ACTIVE for state in states.values())
