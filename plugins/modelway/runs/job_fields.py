"""The fields of ``Job`` that come from the messages of a run."""

from collections.abc import Mapping
from typing import Any, TypedDict

from modelway.artifacts.store import Artifact
from modelway.runs.messages.checkpoints import Checkpoint
from modelway.runs.messages.code import RunPlan


class CheckpointFields(TypedDict):
    """The fields of ``Job`` for its input files."""

    inputs: dict[str, Artifact]
    checkpoints: dict[str, Mapping[str, Any]]


class PlanFields(TypedDict):
    """The fields of ``Job`` that a plan sets for all jobs of the model's code."""

    datasets: dict[str, Mapping[str, Any]]
    interval: Mapping[str, str | None]
    partition: str | None


def checkpoint_fields(checkpoints: Mapping[str, Checkpoint]) -> CheckpointFields:
    """Return the fields for checkpoints by the names of a job's inputs."""
    return {
        "inputs": {name: checkpoint.artifact for name, checkpoint in checkpoints.items()},
        "checkpoints": {
            name: {
                "id": checkpoint.id,
                "stage": checkpoint.stage,
                "step": checkpoint.step,
                # Left out where there are none: another contract is another job.
                **({"params": dict(checkpoint.params)} if checkpoint.params else {}),
            }
            for name, checkpoint in checkpoints.items()
        },
    }


def plan_fields(plan: RunPlan) -> PlanFields:
    """Return the data sets and the data interval of a run; nothing in a DAG without a plan."""
    return {
        "datasets": {
            dataset.name: {"uri": dataset.uri, "digest": dataset.digest, "version": dataset.version}
            for dataset in plan.datasets
        },
        "interval": plan.interval.to_dict() if plan.interval else {},
        "partition": plan.partition,
    }
