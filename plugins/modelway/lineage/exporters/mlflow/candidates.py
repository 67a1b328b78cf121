"""A candidate of a sweep as a run of MLflow's below the run of the version: its parameters, metrics and tags."""

from typing import Any

from modelway.lineage.exporters.mlflow.batches import (
    Batch,
    divided,
    metric_entity,
    param_entities,
    started,
    tag_entities,
)
from modelway.lineage.exporters.mlflow.names import Keys
from modelway.lineage.records.version import CandidateRecord, VersionDetail

#: MLflow's own tag by which its pages show a run below another one
PARENT = "mlflow.parentRunId"
#: the name of the candidate, by which its run is found again
CANDIDATE = "modelway.candidate"
#: what a training that ended early or failed is in MLflow; every other one is finished
_STATUS = {"stopped": "KILLED", "failed": "FAILED"}


def status_of(candidate: CandidateRecord) -> str:
    """Return the status of a candidate's run."""
    return _STATUS.get(candidate.state, "FINISHED")


def ended(candidate: CandidateRecord, version: VersionDetail) -> int:
    """Return when a candidate's run ends: the lineage knows how long it trained and not when."""
    return started(version) + int(1000 * (candidate.seconds or 0.0))


def candidate_batches(candidate: CandidateRecord, version: VersionDetail) -> list[Batch]:
    """Return the batches of a candidate's run; its metrics are those of its best checkpoint."""
    entities = [*tag_entities(_tags(candidate, version)), *param_entities({"": candidate.params})]
    time, keys = started(version), Keys()
    for name, value in candidate.metrics.items():
        if value is not None:
            entities.append(metric_entity(keys.key(name), value, step=0, time=time))
    return divided(entities)


def _tags(candidate: CandidateRecord, version: VersionDetail) -> dict[str, Any]:
    return {
        "modelway.model": version.summary.model,
        "modelway.version": version.summary.number,
        "modelway.state": candidate.state,
        "modelway.stage": candidate.stage,
        "modelway.reason": candidate.reason or None,
        "modelway.checkpoint": candidate.checkpoint,
        "modelway.seconds": candidate.seconds,
        "modelway.cpu_seconds": candidate.cpu_seconds,
        "modelway.gpu_seconds": candidate.gpu_seconds,
        "mlflow.user": version.run.actor,
        "mlflow.source.name": version.run.dag_id,
        "mlflow.source.type": "JOB",
    }
