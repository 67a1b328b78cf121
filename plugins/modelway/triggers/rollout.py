"""The trigger that waits between two steps of a rollout, and aborts a rollout that a user stops."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from modelway.following.rollouts import abort_rollout
from modelway.hooks.connection import settings_from_airflow


class RolloutTrigger(BaseTrigger):
    """Fires when the step's time is over; aborts the rollout when a user ends the task meanwhile.

    Airflow stores its arguments: the lineage's URL, which may contain a password, is read by the triggerer itself.
    """

    def __init__(self, *, until: float, endpoint: str, target: str, run: str) -> None:
        """Wait for the moment ``until`` (seconds since the epoch).

        :param endpoint: the endpoint's name
        :param target: where it serves, such as ``local``
        :param run: the key of the DAG run whose rollout it is
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.until = until
        self.endpoint = endpoint
        self.target = target
        self.run_key = run

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what the triggerer needs to create this trigger again."""
        return (
            "modelway.triggers.rollout.RolloutTrigger",
            {"until": self.until, "endpoint": self.endpoint, "target": self.target, "run": self.run_key},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Sleep until the time has come."""
        await asyncio.sleep(max(0.0, self.until - time.time()))
        yield TriggerEvent({"endpoint": self.endpoint})

    async def on_kill(self) -> None:
        """Return all traffic to the stable version."""
        # Airflow returns a connection only this way, and not in the event loop's own thread.
        from asgiref.sync import sync_to_async

        whose = {"endpoint": self.endpoint, "target": self.target, "run": self.run_key}
        why = {"actor": "airflow", "reason": "a user ended the task"}
        await sync_to_async(lambda: abort_rollout(settings_from_airflow(), **whose, **why))()
