"""The plugin of Airflow: the pages and tabs, and a listener that stops the jobs and rollouts that outlived their run.

Airflow loads it in every process, tasks included, so nothing else is imported until the first request comes.
"""

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from airflow.configuration import conf
from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

from modelway.ui.extra_links import page_links


async def serve_pages(scope: Any, receive: Any, send: Any) -> None:
    """Answer a request of the api-server (an ASGI application)."""
    from modelway.ui.asgi import pages

    await pages()(scope, receive, send)


def _base_url() -> str:
    """Return ``[api] base_url`` without a slash at its end; empty where there is none."""
    return (conf.get("api", "base_url", fallback="") or "").rstrip("/")


def _base_path() -> str:
    """Return the path of ``[api] base_url``, without a slash at its end: Airflow's own links begin with it."""
    return urlsplit(_base_url()).path


def _start_follow_up(run: str, state: str, backends: Sequence[str]) -> None:
    """Start a process that stops the orphaned jobs of a run and records how they ended: ``following.orphaned_jobs``.

    :param run: ``<DAG id>/<run id>``
    """
    paths = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    try:
        stopping = subprocess.Popen(
            [sys.executable, "-m", "modelway.following.orphaned_jobs", run, state, *backends],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        logging.getLogger(__name__).error("the orphaned jobs of run %s are not stopped: %s", run, error)
        return
    # The one that started it lives long: it must not stay as a zombie.
    threading.Thread(target=stopping.wait, daemon=True).start()


class EndOfRuns:
    """Called by the scheduler when a run ends, and by the api-server when somebody marks one."""

    #: gets ``<DAG id>/<run id>``, the state and the backends of its jobs; ``modelway run`` does this work by itself
    follow_up: ClassVar[Callable[[str, str, Sequence[str]], None]] = staticmethod(_start_follow_up)

    @hookimpl
    def on_dag_run_success(self, dag_run: Any, msg: str) -> None:
        """Stop the orphaned jobs of a run that succeeded, such as of a task that was marked."""
        self._ended(dag_run, "success")

    @hookimpl
    def on_dag_run_failed(self, dag_run: Any, msg: str) -> None:
        """Stop the orphaned jobs of a run that failed or took too long."""
        self._ended(dag_run, "failed")

    def _ended(self, dag_run: Any, state: str) -> None:
        from modelway.ports import known

        _measure(dag_run, state)
        backends = {str(found) for task in dag_run.dag.tasks if (found := _backend_of(task))}
        used = sorted(backends.intersection(known("backends")))
        if used or any(getattr(task, "deployment", None) for task in dag_run.dag.tasks):
            type(self).follow_up(f"{dag_run.dag_id}/{dag_run.run_id}", state, used)


def _measure(dag_run: Any, state: str) -> None:
    """Send how a run of ours ended and how long it took, where ``[metrics]`` of Airflow's configuration says."""
    if "modelway" not in (dag_run.dag.tags or ()):
        return
    try:
        from airflow.observability import stats

        tags = {"model": dag_run.dag_id, "state": state}
        stats.incr("modelway.run.ended", tags=tags)
        if dag_run.start_date and dag_run.end_date:
            stats.timing("modelway.run.duration", dag_run.end_date - dag_run.start_date, tags=tags)
    except Exception as error:
        logging.getLogger(__name__).debug("the metrics of %s are not sent: %s", dag_run.run_id, error)


def _backend_of(task: Any) -> Any:
    """Return the backend of a task that runs a job, as its DAG was serialised."""
    return getattr(task, "backend", None) or (getattr(task, "partial_kwargs", None) or {}).get("backend")


class ModelwayPlugin(AirflowPlugin):
    """The pages with their place in the navigation, and the listener."""

    name = "modelway"
    listeners = [EndOfRuns()]
    operator_extra_links = page_links(f"{_base_url()}/modelway")
    fastapi_apps = [{"app": serve_pages, "url_prefix": "/modelway", "name": "modelway"}]
    external_views = [
        {"name": "Models", "href": f"{_base_path()}/modelway/models", "destination": "nav", "url_route": "models"},
        *(
            # A tab on the page of each DAG, run and task instance; Airflow fills in the names.
            {"name": name, "href": f"{_base_path()}/modelway/{path}", "destination": place, "url_route": route}
            for name, path, place, route in (
                ("Model", "of-dag?dag={DAG_ID}", "dag", "model"),
                ("Version", "of-run?dag={DAG_ID}&run={RUN_ID}", "dag_run", "version"),
                ("Version", "of-run?dag={DAG_ID}&run={RUN_ID}", "task_instance", "version-of-task"),
            )
        ),
    ]
