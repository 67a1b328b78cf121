"""The trigger that follows the job of a version's acceptance tests, and shows meanwhile that its rollout lives."""

from typing import Any

from modelway.triggers.job import JobTrigger
from modelway.triggers.life import SignOfLife


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
        self._life = SignOfLife(endpoint=endpoint, run=run)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what the triggerer needs to create this trigger again."""
        _, job = super().serialize()
        arguments = {**job, "endpoint": self.endpoint, "run": self.run_key}
        return "modelway.triggers.acceptance.AcceptanceTrigger", arguments

    async def still_runs(self) -> None:
        """Write the rollout's record as it is, now and again."""
        await self._life.show()
