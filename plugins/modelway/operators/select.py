"""Select the checkpoint that becomes the model."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from airflow.sdk import Context

from modelway.operators import _argument_checks as checks
from modelway.operators._checks import Checks
from modelway.operators.base import ModelwayOperator
from modelway.runs.messages.checkpoints import Checkpoint, checkpoints_from_xcom
from modelway.runs.messages.evaluation import evaluations_from_xcom
from modelway.runs.messages.message import Xcom
from modelway.runs.selection import select_checkpoint


class SelectCheckpointOperator(ModelwayOperator):
    """Select the checkpoint with the least value of a metric, or the greatest, among those within the constraints.

    NaN and infinite values are never selected and within no constraint; a checkpoint without an evaluation is left out;
    of equal values the earliest checkpoint wins, since it trained least. The reason of each checkpoint that is left out
    is logged and returned.

    :param checkpoints: the checkpoints that were to be evaluated, in order, also of several trainings
    :param evaluations: what EvaluateCheckpointOperator returned for them; failed ones may be missing
    :param metric: the metric's name
    :param mode: ``min`` or ``max``
    :param constraints: limits of other metrics by their names: ``{"accuracy": ">= 0.9", "latency_ms": "<= 20"}``

    Returns ``{checkpoint, metrics, metric, rule, evaluations}``, where an evaluation is
    ``{checkpoint, stage, step, digest, metrics, not_finite, seconds, startup_seconds}`` and, for one that cannot be
    selected, ``left_out``. Where they are known there are also ``cost``, of all evaluations together, and ``report``,
    where the charts of the selected one are, and ``rows``, where the rows of its evaluation are.
    """

    template_fields: Sequence[str] = ("checkpoints", "evaluations", "metric", "mode", "constraints")
    accepts: ClassVar[Checks] = {
        "checkpoints": checks.CHECKPOINTS,
        "evaluations": checks.EVALUATIONS,
        "metric": checks.METRIC,
        "mode": checks.MODE,
        "constraints": checks.CONSTRAINTS,
    }

    def __init__(
        self,
        *,
        checkpoints: Any,
        evaluations: Any,
        metric: str = "loss",
        mode: str = "min",
        constraints: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.checkpoints = checkpoints
        self.evaluations = evaluations
        self.metric = metric
        self.mode = mode
        self.constraints = constraints
        self.check_arguments()

    def run(self, context: Context) -> Xcom:
        """Select the checkpoint."""
        selected = select_checkpoint(
            checkpoints=self.to_select_from(),
            evaluations=evaluations_from_xcom(self.evaluations),
            metric=self.metric,
            mode=self.mode,
            constraints=self.constraints,
        )
        for one in selected.evaluations:
            if one.left_out:
                self.log.warning("checkpoint %s is left out: %s", one.checkpoint, one.left_out)
        self.log.info("%s: %s with %s", selected.rule, selected.checkpoint.id, selected.metrics)
        return selected.to_xcom()

    def to_select_from(self) -> list[Checkpoint]:
        """Return the checkpoints of which one is selected."""
        return checkpoints_from_xcom(self.checkpoints)
