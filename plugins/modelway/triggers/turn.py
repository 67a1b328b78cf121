"""The trigger that waits until no other rollout is running at an endpoint."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from modelway.hooks.connection import settings_from_airflow
from modelway.hooks.lineage import lineage_from_airflow

POLL_SECONDS = 5.0


class TurnTrigger(BaseTrigger):
    """Fires when the endpoint is free, or after ``seconds``: the task then checks whether the other run still lives."""

    def __init__(self, *, endpoint: str, run: str, seconds: float) -> None:
        """Wait for the rollouts of other runs than ``run``, by its key."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.endpoint = endpoint
        self.run_key = run
        self.seconds = seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what the triggerer needs to create this trigger again."""
        arguments = {"endpoint": self.endpoint, "run": self.run_key, "seconds": self.seconds}
        return "modelway.triggers.turn.TurnTrigger", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Read the rollouts now and again."""
        # Airflow returns a connection only this way, and not in the event loop's own thread.
        from asgiref.sync import sync_to_async

        until = time.monotonic() + self.seconds
        while await sync_to_async(self._may_be_busy)() and time.monotonic() < until:
            await asyncio.sleep(min(POLL_SECONDS, self.seconds))
        yield TriggerEvent({"endpoint": self.endpoint})

    def _may_be_busy(self) -> bool:
        """Return whether another rollout is running, as far as can be said; the task that resumes finds out."""
        try:
            rollouts = lineage_from_airflow(settings_from_airflow().lineage_url).rollouts(self.endpoint)
        except Exception as error:
            self.log.warning("the rollouts of %s cannot be read: %s: %s", self.endpoint, type(error).__name__, error)
            return True
        return any(each.state == "running" and each.run_id != self.run_key for each in rollouts)
