"""The trigger that follows the job of a version's acceptance tests, and shows meanwhile that its rollout lives."""

import time
from typing import Any

from modelway.following.rollouts import LIFE_SECONDS, show_life
from modelway.hooks.connection import settings_from_airflow
from modelway.hooks.lineage import lineage_from_airflow
from modelway.triggers.job import JobTrigger


class AcceptanceTrigger(JobTrigger):
    """Follows a job as any, which may take hours in which nothing else is recorded of the rollout."""

    def __init__(self, *, endpoint: str, run: str, **job: Any) -> None:
        """Follow the job of a rollout.

        :param endpoint: the endpoint's name
        :param run: the key of the DAG run whose rollout it is
        :param job: see ``JobTrigger``
        """
        super().__init__(**job)
        self.endpoint = endpoint
        self.run_key = run
        self._shows_life_at = 0.0

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what the triggerer needs to create this trigger again."""
        _, job = super().serialize()
        arguments = {**job, "endpoint": self.endpoint, "run": self.run_key}
        return "modelway.triggers.acceptance.AcceptanceTrigger", arguments

    async def still_runs(self) -> None:
        """Write the rollout's record as it is, now and again."""
        if time.monotonic() < self._shows_life_at:
            return
        self._shows_life_at = time.monotonic() + LIFE_SECONDS
        from asgiref.sync import sync_to_async

        try:
            await sync_to_async(self._write)()
        except Exception as error:
            self.log.warning("the rollout is not written now: %s: %s", type(error).__name__, error)

    def _write(self) -> None:
        store = lineage_from_airflow(settings_from_airflow().lineage_url)
        show_life(store, endpoint=self.endpoint, run=self.run_key)
