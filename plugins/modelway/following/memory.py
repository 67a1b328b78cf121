"""More memory for the next try of a job that ran out of it: kept where Airflow keeps a task's state between tries."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from airflow.sdk import Context

from modelway.backends.base import Job, Options

#: how much more the next try gets
FACTOR = 2


@dataclass(frozen=True, kw_only=True)
class TriedMemory:
    """The memory of a job's tries. A clear of the run begins with what the spec says again."""

    context: Context
    job: Job
    options: Options
    """what the spec says"""

    def limit(self) -> int | None:
        """Return what this try gets: the spec's limit, or more where a try before ran out."""
        asked = self.options.memory_bytes
        if asked is None or "task_state_store" not in self.context:
            return asked
        kept = self.context["task_state_store"].get(self._name)
        if not isinstance(kept, Mapping) or kept.get("clear_number") != self.job.clear_number:
            return asked
        return max(asked, int(str(kept["memory_bytes"])))

    def more(self) -> int | None:
        """Keep for the next try that it gets more, and return how much; None where there is no limit to raise."""
        limit = self.limit()
        if limit is None:
            return None
        more = limit * FACTOR
        self.context["task_state_store"].set(self._name, {"clear_number": self.job.clear_number, "memory_bytes": more})
        return more

    @property
    def _name(self) -> str:
        # By the job: a mapped task's place may be another item's after the next expansion.
        return f"memory-{hashlib.sha256(self.job.key.encode()).hexdigest()[:16]}"
