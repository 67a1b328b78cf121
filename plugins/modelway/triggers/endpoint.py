"""The trigger that follows a change of an endpoint whose platform takes minutes for it, while its task is deferred."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from modelway.endpoints.base import Change, EndpointStatus, Gradual
from modelway.endpoints.plain import read_spec
from modelway.errors import ModelwayError
from modelway.hooks.connection import settings_from_airflow
from modelway.hooks.endpoint import open_endpoint

#: changes that may be looked at at the same time; asyncio's own threads are few, and Airflow needs them
_LOOKS = ThreadPoolExecutor(max_workers=8, thread_name_prefix="modelway-endpoint")


class EndpointTrigger(BaseTrigger):
    """Makes the calls of a change, one after the other, and fires when nothing is left to do, or it failed.

    Another triggerer continues from what there is on the platform. The task that resumes looks once more: it finds the
    endpoint as desired, or the same error.
    """

    def __init__(
        self,
        *,
        target: str,
        platform: Mapping[str, Any],
        spec: Mapping[str, Any],
        change: Mapping[str, Any],
        poll_interval: float = 5.0,
    ) -> None:
        """Follow a change.

        :param target: where the endpoint serves, such as ``vertex``
        :param platform: the target's section, which says in which project and region
        :param spec: the desired endpoint, and ``change`` the change, as plain data
        :param poll_interval: seconds between two looks
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.target, self.platform, self.spec, self.change = target, platform, spec, change
        self.poll_interval = poll_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what the triggerer needs to create this trigger again."""
        names = ("target", "platform", "spec", "change", "poll_interval")
        return "modelway.triggers.endpoint.EndpointTrigger", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look every few seconds."""
        # Airflow returns a connection only this way, and not in the event loop's own thread.
        from asgiref.sync import sync_to_async

        port: Gradual | None = None
        change, spec = Change(**self.change), read_spec(self.spec)
        while True:
            await asyncio.sleep(self.poll_interval)
            try:
                port = port or await sync_to_async(self._open)()
                found = await asyncio.get_running_loop().run_in_executor(_LOOKS, port.advance, spec, change)
            except ModelwayError as error:
                if not error.retryable:
                    break
                self.log.warning("the endpoint cannot be changed now: %s", error)
                port = None
                continue
            except Exception as error:
                # The task meets it as well, and fails with it.
                self.log.error("%s: %s", type(error).__name__, error)
                break
            if isinstance(found, EndpointStatus):
                break
            if found.waits_for != change.waits_for:
                self.log.info("waiting for %s", found.waits_for)
            change = found
        yield TriggerEvent({"change": asdict(change)})

    def _open(self) -> Gradual:
        port = open_endpoint(self.target, settings_from_airflow(), platform=self.platform)
        assert isinstance(port, Gradual)
        return port
