"""The trigger that judges a step of a rollout while its task is deferred, and returns the traffic when it has to."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from airflow.triggers.base import BaseTrigger, TriggerEvent

from modelway.errors import RolloutAborted
from modelway.following.rollouts import abort_rollout
from modelway.hooks.connection import settings_from_airflow
from modelway.hooks.endpoint import open_endpoint_of
from modelway.hooks.lineage import lineage_from_airflow
from modelway.hooks.settings import Settings
from modelway.lineage.records.steering import held_since
from modelway.runs.rollout import Rollout
from modelway.triggers.job import SETTLE_SECONDS

#: how long the trigger waits for a lineage or a connection that cannot be read, after the step's time
_PATIENCE_SECONDS = 3600.0
#: how often the task's log says what the trigger waits for
_SAY_SECONDS = 60.0
#: looks that may wait for an endpoint at the same time; asyncio's own threads are few, and Airflow needs them
_LOOKS = ThreadPoolExecutor(max_workers=16, thread_name_prefix="modelway-rollout")
Found = TypeVar("Found")


class RolloutTrigger(BaseTrigger):
    """Looks at the endpoint every few seconds and fires when the step is over, or the rollout.

    What it finds is stored in the lineage at each look, so that another triggerer continues from there. A version that
    does worse loses its traffic here, at once, and so does one whose task a user ends. Airflow stores the arguments:
    the lineage's URL, which may contain a password, is read by the triggerer itself.
    """

    def __init__(
        self,
        *,
        until: float,
        endpoint: str,
        target: str,
        run: str,
        step: int | None = None,
        poll_interval: float = 5.0,
    ) -> None:
        """Judge a step that lasts until the moment ``until`` (seconds since the epoch), or longer.

        :param endpoint: the endpoint's name
        :param target: where it serves, such as ``local``
        :param run: the key of the DAG run whose rollout it is
        :param step: the index of the step; None: a task of an earlier modelway waits, for the time alone
        :param poll_interval: seconds between two looks
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.until = until
        self.endpoint = endpoint
        self.target = target
        self.run_key = run
        self.step = step
        self.poll_interval = poll_interval
        self._settings: Settings | None = None
        self._rollout: Rollout | None = None
        self._said = -_SAY_SECONDS

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what the triggerer needs to create this trigger again."""
        names = ("until", "endpoint", "target", "step", "poll_interval")
        arguments = {name: getattr(self, name) for name in names} | {"run": self.run_key}
        return "modelway.triggers.rollout.RolloutTrigger", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look until there is a verdict; a task that resumes too soon may count as lost, so that it comes later."""
        settled = time.monotonic() + SETTLE_SECONDS
        if self.step is None:
            await asyncio.sleep(max(0.0, self.until - time.time()))
        else:
            # One that is created again after a long hold has as much patience as another with a lineage out of reach.
            self.until = max(self.until, time.time())
            while not await self._is_over():
                await asyncio.sleep(self.poll_interval)
            await asyncio.sleep(max(0.0, settled - time.monotonic()))
        yield TriggerEvent({"endpoint": self.endpoint})

    async def on_kill(self) -> None:
        """Return all traffic to the stable version."""
        await self._abort("a user ended the task")

    async def _is_over(self) -> bool:
        """Look once and return whether the task has something to do: the next step, or to fail."""
        try:
            rollout = await self._open()
            record = await in_thread(lambda: rollout.record)
            if record.step != self.step:
                return True
            if held_since(record.detail) is not None:
                # The step lasts as long as a person holds it.
                self.until = max(self.until, time.time())
            verdict = await in_thread(rollout.inspect)
        except RolloutAborted as error:
            await self._abort(error.what)
            return True
        except Exception as error:
            self.log.warning("the rollout cannot be judged now: %s: %s", type(error).__name__, error)
            self._rollout = None
            # The task fails with the same error, and is tried again.
            return time.time() > self.until + _PATIENCE_SECONDS
        if verdict.action == "rollback":
            await self._abort(verdict.reason)
        elif time.monotonic() > self._said + _SAY_SECONDS:
            self._said = time.monotonic()
            self.log.info("%s: %s", verdict.action, verdict.reason)
        return verdict.action != "hold"

    async def _open(self) -> Rollout:
        if self._rollout is None:
            # Airflow returns a connection only this way, and not in the event loop's own thread.
            from asgiref.sync import sync_to_async

            def opened() -> tuple[Settings, Rollout]:
                settings = settings_from_airflow()
                store = lineage_from_airflow(settings.lineage_url)
                record = store.rollout(self.endpoint, self.run_key)
                port = open_endpoint_of(record, settings, target=self.target)
                return settings, Rollout(store=store, port=port, endpoint=self.endpoint, run=self.run_key)

            self._settings, self._rollout = await sync_to_async(opened)()
        return self._rollout

    async def _abort(self, reason: str) -> None:
        from asgiref.sync import sync_to_async

        settings = self._settings or await sync_to_async(settings_from_airflow)()
        abort = partial(abort_rollout, settings, endpoint=self.endpoint, target=self.target, run=self.run_key)
        try:
            closed = await sync_to_async(abort)(actor="airflow", reason=reason)
        except Exception as error:
            # The task's retry, the end of its run and the next deployment return it.
            self.log.error("the traffic is not returned yet: %s: %s", type(error).__name__, error)
            return
        if closed is not None:
            self.log.error("the rollout of version %d is aborted; its traffic goes back: %s", closed.version, reason)


async def in_thread(function: Callable[[], Found]) -> Found:
    """Return what a function returns that waits for an endpoint or the lineage."""
    return await asyncio.get_running_loop().run_in_executor(_LOOKS, function)
