"""More memory for the next attempt of a job that ran out of it, in Airflow's store of a task's state."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from airflow.sdk import Context

from modelway.backends.base import Job, Options

#: factor of the next attempt's memory
FACTOR = 2


@dataclass(frozen=True, kw_only=True)
class AttemptMemory:
    """The memory of a job's attempts. After a clear of the run it is the spec's again."""

    context: Context
    job: Job
    options: Options
    """the spec's limit"""

    def limit(self) -> int | None:
        """Return the memory of this attempt: the spec's limit, or more where an earlier attempt ran out."""
        limit = self.options.memory_bytes
        if limit is None or "task_state_store" not in self.context:
            return limit
        stored = self.context["task_state_store"].get(self._name)
        if not isinstance(stored, Mapping) or stored.get("clear_number") != self.job.clear_number:
            return limit
        return max(limit, int(str(stored["memory_bytes"])))

    def more(self) -> int | None:
        """Raise the memory of the next attempt and return it; None where there is no limit to raise."""
        limit = self.limit()
        if limit is None:
            return None
        more = limit * FACTOR
        self.context["task_state_store"].set(self._name, {"clear_number": self.job.clear_number, "memory_bytes": more})
        return more

    @property
    def _name(self) -> str:
        # By the job: the map index may belong to another item after the next expansion.
        return f"memory-{hashlib.sha256(self.job.key.encode()).hexdigest()[:16]}"
