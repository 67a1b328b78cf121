"""The checks of watched models, and the trigger that makes them while the monitor's task has no worker."""

import asyncio
import contextvars
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

from airflow.triggers.base import BaseTrigger, TaskSuccessEvent, TriggerEvent

from modelway.artifacts.store import ArtifactStore
from modelway.endpoints.base import Endpoint
from modelway.following import metrics
from modelway.following.hosts import refuse_elsewhere
from modelway.hooks.connection import settings_from_airflow
from modelway.hooks.endpoint import open_endpoint
from modelway.hooks.lineage import lineage_from_airflow
from modelway.hooks.settings import Settings
from modelway.runs.monitoring import Checked, Watched, check_model
from modelway.triggers.job import SETTLE_SECONDS

#: models that are checked at the same time
_CHECKS = ThreadPoolExecutor(max_workers=8, thread_name_prefix="modelway-monitor")


class Log(Protocol):
    """The log of a task or of its trigger."""

    def info(self, event: str, *args: object) -> Any:
        """Write a line."""

    def warning(self, event: str, *args: object) -> Any:
        """Write a line of what went wrong."""


class MonitorTrigger(BaseTrigger):
    """Checks each model once; ends the task where nothing is requested, so that no worker starts again for it.

    What a check finds is in the lineage when it ends: a triggerer that is killed repeats some checks, which then count
    little, and a request whose event was not sent is sent by a later run.
    """

    def __init__(self, *, models: Sequence[Mapping[str, Any]], requests: Sequence[Mapping[str, Any]] = ()) -> None:
        """Check the models, each as ``Watched.to_dict`` returned it.

        :param requests: what the task found itself, as :func:`request_of` returns it; fired with the rest
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.models = models
        self.requests = requests

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what the triggerer needs to create this trigger again."""
        arguments = {"models": list(self.models), "requests": list(self.requests)}
        return "modelway.triggers.monitor.MonitorTrigger", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Check all models, and fire with the requests."""
        # Airflow returns a connection only this way, and not in the event loop's own thread.
        from asgiref.sync import sync_to_async

        settled = time.monotonic() + SETTLE_SECONDS
        watched = [Watched.from_dict(each) for each in self.models]
        settings = await sync_to_async(settings_from_airflow)()
        ports = await sync_to_async(open_ports)(watched, settings, self.log)
        loop = asyncio.get_running_loop()
        checks = (
            # A line belongs to the task's log by its context.
            loop.run_in_executor(
                _CHECKS, partial(contextvars.copy_context().run, check_logged, each, settings, ports, self.log)
            )
            for each in watched
            if each.place in ports
        )
        found = [each for each in await asyncio.gather(*checks) if each is not None]
        requests = [*self.requests, *(request_of(each) for each in found if each.request is not None)]
        # A task that resumes too soon may count as lost.
        await asyncio.sleep(max(0.0, settled - time.monotonic()))
        yield TriggerEvent({"requests": requests}) if requests else TaskSuccessEvent()


def open_ports(watched: Iterable[Watched], settings: Settings, log: Log) -> dict[str, Endpoint]:
    """Return the endpoint ports by place; one that cannot be opened is logged, and its models are not checked."""
    found = {}
    for place, one in sorted({each.place: each for each in watched}.items()):
        try:
            found[place] = open_endpoint(one.target, settings, platform=one.platform)
        except Exception as error:
            log.warning("endpoints of %s are not checked: %s: %s", one.target, type(error).__name__, error)
    return found


def check_logged(watched: Watched, settings: Settings, ports: Mapping[str, Endpoint], log: Log) -> Checked | None:
    """Check one model; what fails is logged, and no other model is affected."""
    try:
        store = lineage_from_airflow(settings.lineage_url)
        refuse_elsewhere(store, endpoint=watched.endpoint, target=watched.target)
        found = check_model(
            watched,
            store=store,
            port=ports[watched.place],
            artifacts=ArtifactStore(settings.artifact_root),
            now=datetime.now(UTC),
        )
    except Exception as error:
        log.warning("%s is not checked: %s: %s", watched.endpoint, type(error).__name__, error)
        return None
    log.info("%s: %s", watched.endpoint, found.text)
    _measure(watched, found)
    return found


def _measure(watched: Watched, found: Checked) -> None:
    """Send what a check found of the version that serves."""
    about = {"model": watched.model, "endpoint": watched.endpoint, "version": found.version}
    if found.version is None:
        return
    metrics.count("monitor.rows", found.rows, **about)
    if found.drift is not None:
        metrics.gauge("monitor.drift", found.drift, **about)
    if found.quality is not None:
        metrics.gauge("monitor.quality", found.quality, **about)
    if found.error is not None:
        metrics.gauge("monitor.error", found.error, **about)
    if found.request is not None and found.is_new:
        metrics.count("monitor.retraining", model=watched.model, endpoint=watched.endpoint, rule=found.request.rule)


def request_of(checked: Checked) -> dict[str, Any]:
    """Return what the event of a request says."""
    request = checked.request
    assert request is not None
    return {
        "model": request.model,
        "request": request.id,
        "rule": request.rule,
        "reason": request.reason,
        "rebuild": request.rebuild,
    }
