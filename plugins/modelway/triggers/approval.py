"""The trigger that judges a version while a person is asked whether it gets all traffic."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

from airflow.triggers.base import TriggerEvent

from modelway.errors import RolloutAborted
from modelway.following.task_state import CONTINUES, UNKNOWN, state_now
from modelway.triggers.job import SETTLE_SECONDS
from modelway.triggers.rollout import RolloutTrigger, in_thread


class ApprovalTrigger(RolloutTrigger):
    """Looks at the endpoint every few seconds until the question is answered, or the rollout is over.

    A version that does worse loses its traffic here, at once, and the question is closed. Airflow resumes the task
    itself when a person answers; an answer that came before the task was deferred is found here.
    """

    def __init__(
        self, *, ti_id: str, closing: str, endpoint: str, target: str, run: str, step: int, poll_interval: float = 5.0
    ) -> None:
        """Judge until the question of a task instance is answered.

        :param ti_id: of the task instance that asks
        :param closing: the option by which the question is closed when the version is rolled back
        :param endpoint: the endpoint's name
        :param target: where it serves, such as ``local``
        :param run: the key of the DAG run whose rollout it is
        :param step: the index of the step, which lasts until the answer
        :param poll_interval: seconds between two looks
        """
        super().__init__(until=0.0, endpoint=endpoint, target=target, run=run, step=step, poll_interval=poll_interval)
        self.ti_id = ti_id
        self.closing = closing

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what the triggerer needs to create this trigger again."""
        names = ("ti_id", "closing", "endpoint", "target", "step", "poll_interval")
        arguments = {name: getattr(self, name) for name in names} | {"run": self.run_key}
        return "modelway.triggers.approval.ApprovalTrigger", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look until there is an answer, or nothing to answer any more."""
        settled = time.monotonic() + SETTLE_SECONDS
        while (event := await self._answer()) is None:
            if await self._has_ended():
                await self._close()
                event = {"endpoint": self.endpoint}
                break
            await asyncio.sleep(self.poll_interval)
        await asyncio.sleep(max(0.0, settled - time.monotonic()))
        yield TriggerEvent(event)

    async def on_kill(self) -> None:
        """Return all traffic when a user ends the task; Airflow calls this for an answer as well.

        Where the task's state cannot be read nothing is done: the end of its run returns the traffic.
        """
        state = await state_now(self.task_instance)
        if state in CONTINUES or state == UNKNOWN:
            self.log.info("the rollout continues: its task is %s", state)
            return
        await super().on_kill()

    async def _answer(self) -> dict[str, Any] | None:
        """Return the answer as Airflow hands it to a task, None while there is none."""
        from airflow.sdk.execution_time.hitl import get_hitl_detail_content_detail
        from asgiref.sync import sync_to_async

        try:
            found = await sync_to_async(get_hitl_detail_content_detail)(ti_id=UUID(self.ti_id))
        except Exception as error:
            self.log.warning("the answer cannot be read now: %s: %s", type(error).__name__, error)
            return None
        if not (found.response_received and found.chosen_options):
            return None
        user = found.responded_by_user
        return {
            "chosen_options": list(found.chosen_options),
            "params_input": found.params_input or {},
            "responded_at": found.responded_at,
            "responded_by_user": None if user is None else {"id": user.id, "name": user.name},
        }

    async def _has_ended(self) -> bool:
        """Look once and return whether the rollout is over: rolled back here, or ended by somebody else."""
        try:
            rollout = await self._open()
            if (await in_thread(lambda: rollout.record)).state != "running":
                return True
            verdict = await in_thread(rollout.inspect)
        except RolloutAborted as error:
            await self._abort(error.what)
            return True
        except Exception as error:
            self.log.warning("the rollout cannot be judged now: %s: %s", type(error).__name__, error)
            self._rollout = None
            return False
        if verdict.action == "rollback":
            await self._abort(verdict.reason)
        return verdict.action == "rollback"

    async def _close(self) -> None:
        """Answer the question in nobody's name, so that nobody believes it open; a person may have been faster."""
        from airflow.sdk.execution_time.hitl import update_hitl_detail_response
        from asgiref.sync import sync_to_async

        try:
            await sync_to_async(update_hitl_detail_response)(
                ti_id=UUID(self.ti_id), chosen_options=[self.closing], params_input={}
            )
        except Exception as error:
            self.log.info("the question is not closed: %s: %s", type(error).__name__, error)
