"""The trigger that follows a change of an endpoint whose platform takes minutes for it, while its task is deferred."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from modelway.endpoints.base import Change, EndpointStatus, Gradual
from modelway.endpoints.plain import read_spec
from modelway.errors import EndpointNotReady, ImageInvalid, ModelwayError
from modelway.hooks.connection import settings_from_airflow
from modelway.hooks.endpoint import open_endpoint
from modelway.triggers.life import SignOfLife

#: changes that may be looked at at the same time; asyncio's own threads are few, and Airflow needs them
_LOOKS = ThreadPoolExecutor(max_workers=8, thread_name_prefix="modelway-endpoint")
#: how long a platform that does not answer is waited for; then its task meets that, and is tried again
_SILENCE_SECONDS = 1800.0

#: how a change itself fails; what it left behind is removed then, so that looking once more would begin it anew
_FAILURES: Mapping[str, type[ModelwayError]] = {each.__name__: each for each in (EndpointNotReady, ImageInvalid)}


class EndpointTrigger(BaseTrigger):
    """Makes the calls of a change, one after the other, and fires when nothing is left to do, or it failed.

    Another triggerer continues from what there is on the platform. The task that resumes raises the change's failure
    (:func:`failure_of`), or looks once more: it finds the endpoint as desired, a split that others changed, or the same
    refusal. Only a platform that does not answer is waited for, half an hour at most.
    """

    def __init__(
        self,
        *,
        target: str,
        platform: Mapping[str, Any],
        spec: Mapping[str, Any],
        change: Mapping[str, Any],
        run: str,
        poll_interval: float = 5.0,
    ) -> None:
        """Follow a change.

        :param target: where the endpoint serves, such as ``vertex``
        :param platform: the target's section, which says in which project and region
        :param spec: the desired endpoint, and ``change`` the change, as plain data
        :param run: the key of the DAG run whose rollout it is
        :param poll_interval: seconds between two looks
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.target, self.platform, self.spec, self.change = target, platform, spec, change
        self.run_key, self.poll_interval = run, poll_interval
        self._life = SignOfLife(endpoint=str(spec["name"]), run=run)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what the triggerer needs to create this trigger again."""
        names = ("target", "platform", "spec", "change", "poll_interval")
        arguments = {name: getattr(self, name) for name in names} | {"run": self.run_key}
        return "modelway.triggers.endpoint.EndpointTrigger", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look every few seconds."""
        # Airflow returns a connection only this way, and not in the event loop's own thread.
        from asgiref.sync import sync_to_async

        port: Gradual | None = None
        change, spec = Change(**self.change), read_spec(self.spec)
        failure: dict[str, Any] | None = None
        answered = time.monotonic()
        while True:
            await asyncio.sleep(self.poll_interval)
            await self._life.show()
            try:
                port = port or await sync_to_async(self._open)()
                found = await asyncio.get_running_loop().run_in_executor(_LOOKS, port.advance, spec, change)
            except ModelwayError as error:
                failure = _plain(error)
                if failure is not None or not error.retryable:
                    break
                self.log.warning("the endpoint cannot be changed now: %s", error)
                if time.monotonic() > answered + _SILENCE_SECONDS:
                    break
                port = None
                continue
            except Exception as error:
                # The task meets it as well, and fails with it.
                self.log.error("%s: %s", type(error).__name__, error)
                break
            answered = time.monotonic()
            if isinstance(found, EndpointStatus):
                break
            if found.waits_for != change.waits_for:
                self.log.info("waiting for %s", found.waits_for)
            change = found
            if found.is_outdated:
                self.log.info("somebody changed the weights meanwhile: they are read again")
                break
        yield TriggerEvent({"change": asdict(change), "failure": failure})

    def _open(self) -> Gradual:
        port = open_endpoint(self.target, settings_from_airflow(), platform=self.platform)
        assert isinstance(port, Gradual)
        return port


def failure_of(event: Mapping[str, Any]) -> ModelwayError | None:
    """Return the error that the change of an event failed with; None where it did not."""
    failure = event.get("failure")
    if failure is None:
        return None
    error = _FAILURES[failure["kind"]](failure["what"], where=failure["where"], do=failure["do"])
    error.retryable = failure["retryable"]
    return error


def _plain(error: ModelwayError) -> dict[str, Any] | None:
    """Return the failure of a change as plain data; None for any other error."""
    kind = next((name for name, each in _FAILURES.items() if isinstance(error, each)), None)
    if kind is None:
        return None
    return {"kind": kind, "what": error.what, "where": error.where, "do": error.do, "retryable": error.retryable}
