"""The documents of a model archive, its provenance; they are equal for two equal runs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from modelway.job.contract import recorded_datasets
from modelway.runs.messages.checkpoints import StageReport
from modelway.runs.messages.code import CodePackage
from modelway.runs.messages.evaluation import Selection
from modelway.runs.messages.message import plain
from modelway.runs.reported import StoredEvents

#: how long an evaluation took differs from run to run
_TIMES = ("seconds", "startup_seconds")


def archive_documents(
    *,
    code: CodePackage,
    selected: Selection,
    training: Sequence[StageReport],
    datasets: Iterable[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the archive's documents by member name.

    :param training: the stages that were not skipped
    :param datasets: what they read, see ``stage_datasets``
    """
    checkpoint = selected.checkpoint
    return {
        "inputs/git_commit.yml": {
            # The commit's remote differs between checkouts of it.
            **{name: value for name, value in code.commit.to_dict().items() if name != "repository"},
            "code_digest": code.digest,
            "checkpoint": {
                "id": checkpoint.id,
                "stage": checkpoint.stage,
                "step": checkpoint.step,
                "digest": checkpoint.digest,
                "size": checkpoint.size,
            },
        },
        "inputs/run_config.yml": {
            "module": code.module,
            "stages": [{"name": stage.stage, "seed": stage.seed} for stage in training],
        },
        "inputs/training.yml": {
            "stages": [{"name": stage.stage, "params": stage.params} for stage in training],
            "datasets": list(datasets),
        },
        "outputs/meta.yml": {"name": code.model, "chosen_by": selected.rule},
        "outputs/summary.json": {
            "chosen": checkpoint.id,
            "rule": selected.rule,
            "metrics": selected.metrics,
            "evaluations": [
                {name: value for name, value in plain(each).items() if name not in _TIMES}
                for each in selected.evaluations
            ],
        },
    }


def stage_datasets(stage: StageReport, events: StoredEvents) -> list[dict[str, Any]]:
    """Return the data sets that a stage got or reported as read."""
    return [{"stage": stage.stage, **dataset} for dataset in recorded_datasets(events.of(stage.events))]
