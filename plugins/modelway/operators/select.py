"""Select the checkpoint that becomes the model."""

from collections.abc import Mapping, Sequence
from typing import Any

from airflow.sdk import Context

from modelway.errors import NothingToSelect
from modelway.operators._base import ModelwayOperator


class SelectCheckpointOperator(ModelwayOperator):
    """Select the checkpoint with the least value of a metric, or the greatest.

    NaN and infinite values are never selected; a checkpoint without an evaluation is left out; of equal values the
    earliest checkpoint wins, since it trained least.

    :param checkpoints: the checkpoints that were to be evaluated, in order
    :param evaluations: what EvaluateCheckpointOperator returned for them; failed ones may be missing
    :param metric: the metric's name
    :param mode: ``min`` or ``max``

    Returns ``{checkpoint, metrics, rule, evaluations}``, where an evaluation is
    ``{checkpoint, stage, step, digest, metrics, not_finite}`` and, for one that cannot be selected, ``left_out``.
    """

    template_fields: Sequence[str] = ("checkpoints", "evaluations", "metric", "mode")

    def __init__(
        self, *, checkpoints: Any, evaluations: Any, metric: str = "loss", mode: str = "min", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.checkpoints = checkpoints
        self.evaluations = evaluations
        self.metric = metric
        self.mode = mode

    def run(self, context: Context) -> dict[str, Any]:
        """Select the checkpoint."""
        selected = select_checkpoint(
            checkpoints=list(self.checkpoints), evaluations=list(self.evaluations), metric=self.metric, mode=self.mode
        )
        for evaluation in selected["evaluations"]:
            if "left_out" in evaluation:
                self.log.warning("checkpoint %s is left out: %s", evaluation["checkpoint"], evaluation["left_out"])
        self.log.info("%s: %s with %s", selected["rule"], selected["checkpoint"]["id"], selected["metrics"])
        return selected


def select_checkpoint(
    *, checkpoints: Sequence[Mapping[str, Any]], evaluations: Sequence[Mapping[str, Any]], metric: str, mode: str
) -> dict[str, Any]:
    """Return the selection, see the operator.

    :raises NothingToSelect: no checkpoint has a finite value of the metric, or the mode is none
    """
    if mode not in ("min", "max"):
        raise NothingToSelect(f"'{mode}' is not a mode", known=("max", "min"), given=mode)
    by_id = {evaluation["checkpoint"]: evaluation for evaluation in evaluations if evaluation}
    told: list[dict[str, Any]] = []
    best: Mapping[str, Any] | None = None
    sign = 1.0 if mode == "min" else -1.0
    for checkpoint in checkpoints:
        evaluation = by_id.get(checkpoint["id"])
        problem = _unusable(evaluation, metric)
        entry: dict[str, Any] = {
            "checkpoint": checkpoint["id"],
            **{key: checkpoint.get(key) for key in ("stage", "step", "digest")},
            "metrics": evaluation["metrics"] if evaluation else {},
            "not_finite": evaluation.get("not_finite", {}) if evaluation else {},
        }
        told.append(entry | {"left_out": problem} if problem else entry)
        if problem or evaluation is None:
            continue
        if best is None or sign * evaluation["metrics"][metric] < sign * by_id[best["id"]]["metrics"][metric]:
            best = checkpoint
    if best is None:
        reasons = (
            "; ".join(f"{entry['checkpoint']}: {entry['left_out']}" for entry in told) or "there are no checkpoints"
        )
        raise NothingToSelect(
            f"no checkpoint can be selected by {metric}: {reasons}",
            do="Look for a diverging loss (lower the learning rate, check the data), or set select.metric to a metric "
            "that evaluate returns",
        )
    return {
        "checkpoint": dict(best),
        "metrics": by_id[best["id"]]["metrics"],
        "rule": f"{'least' if mode == 'min' else 'greatest'} {metric} of {len(checkpoints)} checkpoints",
        "evaluations": told,
    }


def _unusable(evaluation: Mapping[str, Any] | None, metric: str) -> str | None:
    """Return why a checkpoint cannot be selected, or ``None`` when it can."""
    if evaluation is None:
        return "its evaluation failed"
    if metric not in evaluation["metrics"]:
        return f"evaluate returned no '{metric}', only {', '.join(evaluation['metrics'])}"
    if evaluation["metrics"][metric] is None:
        return f"its {metric} is not a finite number"
    return None
