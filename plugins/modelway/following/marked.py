"""The record of an attempt that was ended by a mark: a user marked its task, or its run, while the job ran."""

import logging
from datetime import UTC, datetime

from modelway.following.deferral import DeferredJob

#: the states that a mark sets
MARKS = frozenset({"failed", "success", "skipped"})
#: the rule that the lineage records for such an attempt
RULE = "marked"

_log = logging.getLogger(__name__)


def record_marked(job: DeferredJob, state: str | None) -> None:
    """Record that an attempt was ended by a mark; an unavailable lineage only causes a warning."""
    if state not in MARKS or not job.model:
        return
    try:
        from modelway.hooks.lineage import lineage_from_airflow
        from modelway.lineage.records.version import FailureRecord

        record = FailureRecord(
            model=job.model,
            dag_id=job.dag_id,
            run_id=job.run_id,
            key=job.key,
            attempt=job.attempt,
            cause=f"the task was marked {state} in Airflow, by itself or with its run, while its job ran",
            advice="Clear the task to continue from the last checkpoint" if state != "success" else "",
            at=datetime.now(UTC),
            stage=job.stage or None,
            job=job.handle.name,
            rule=RULE,
            # An attempt marked as a success has not failed.
            resolved_by=job.attempt if state == "success" else None,
        )
        lineage_from_airflow().record_failure(record)
    except Exception as error:
        _log.warning("that the task was marked is not in the lineage: %s: %s", type(error).__name__, error)
