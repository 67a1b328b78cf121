"""The trigger that waits between two steps of a rollout, and aborts a rollout that a user stops."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from modelway.hooks.connection import settings_from_airflow
from modelway.hooks.endpoint import open_endpoint
from modelway.hooks.settings import Settings
from modelway.lineage.records.version import RolloutRecord
from modelway.runs.traffic import deployed, record_weights, split


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


def abort_rollout(
    settings: Settings, *, endpoint: str, target: str, run: str, actor: str, reason: str
) -> RolloutRecord | None:
    """Close a running rollout as aborted and return all traffic to its stable version, if that still exists.

    Returns the closed rollout; ``None`` when it was not running, in which case nothing is done.
    """
    from modelway.hooks.lineage import lineage_from_airflow

    store = lineage_from_airflow(settings.lineage_url)
    rollout = store.rollout(endpoint, run)
    if rollout is None or rollout.state != "running":
        return None
    # Closed first: even if the endpoint fails below, no retry continues it.
    rollout = replace(rollout, state="aborted", detail={**rollout.detail, "reason": reason})
    store.save_rollout(rollout, actor=actor)
    port = open_endpoint(target, settings)
    status = port.status(endpoint)
    stable = rollout.detail.get("stable")
    if status is not None and stable in {predictor.version for predictor in deployed(status)}:
        status = port.set_weights(endpoint, split(status, {int(stable): 100}))
        record_weights(store, status, model=rollout.model, actor=actor)
    return rollout
