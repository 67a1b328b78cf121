"""Choose the candidates of a sweep that train the next stage."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from airflow.sdk import Context

from modelway.operators import _argument_checks as checks
from modelway.operators._checks import Checks
from modelway.operators._run_failures import run_failures
from modelway.operators.base import ModelwayOperator
from modelway.runs.candidates import params_text
from modelway.runs.messages.candidates import candidates_from_xcom
from modelway.runs.messages.checkpoints import checkpoints_from_xcom, reports_from_xcom, to_xcom
from modelway.runs.messages.evaluation import evaluations_from_xcom
from modelway.runs.messages.message import Xcom
from modelway.runs.sweep import Halving, check_failures, next_candidates, returned_by


class ChooseCandidatesOperator(ModelwayOperator):
    """Choose which candidates train the next stage: all that trained the stage before, or the best of them.

    Give it a trigger rule that lets it run when some of the trainings failed. See docs/sweeps.md.

    :param candidates: those that were to train the stage before, as DrawCandidatesOperator or this operator returned
    :param stage: the name of that stage
    :param reports: the ``report`` of its TrainModelOperator
    :param checkpoints: what its TrainModelOperator returned
    :param evaluations: what EvaluateCheckpointOperator returned for its checkpoints, where ``eta`` decides
    :param eta: one of so many continues; None: all
    :param metric: the metric of a candidate's last checkpoint by which they are ranked
    :param mode: ``min`` or ``max``
    :param constraints: limits of other metrics, which a candidate must be within to continue
    :param allowed_failures: how many trainings of the stage may fail; None: all but one

    Returns ``[{id, params, checkpoint, place}]``; expand a TrainModelOperator over it.
    """

    template_fields: Sequence[str] = (
        "candidates",
        "stage",
        "reports",
        "checkpoints",
        "evaluations",
        "eta",
        "metric",
        "mode",
        "constraints",
        "allowed_failures",
    )
    accepts: ClassVar[Checks] = {
        "candidates": checks.CANDIDATES,
        "stage": checks.STAGE,
        "reports": checks.REPORTS,
        "checkpoints": checks.CHECKPOINTS,
        "evaluations": checks.EVALUATIONS,
        "eta": checks.OPTIONAL_COUNT,
        "metric": checks.METRIC,
        "mode": checks.MODE,
        "constraints": checks.CONSTRAINTS,
        "allowed_failures": checks.ALLOWED_FAILURES,
    }

    def __init__(
        self,
        *,
        candidates: Any,
        stage: str,
        reports: Any,
        checkpoints: Any,
        evaluations: Any = None,
        eta: Any = None,
        metric: str = "loss",
        mode: str = "min",
        constraints: Mapping[str, str] | None = None,
        allowed_failures: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.candidates = candidates
        self.stage = stage
        self.reports = reports
        self.checkpoints = checkpoints
        self.evaluations = evaluations
        self.eta = eta
        self.metric = metric
        self.mode = mode
        self.constraints = constraints
        self.allowed_failures = allowed_failures
        self.check_arguments()

    def run(self, context: Context) -> list[Xcom]:
        """Choose them."""
        candidates = candidates_from_xcom(self.candidates)
        entered = {self.stage: candidates}
        reports = returned_by(entered, reports_from_xcom(self.reports))
        failed = check_failures(
            candidates,
            reports,
            stage=self.stage,
            allowed=self.allowed_failures,
            failures=partial(run_failures, self.settings, context),
        )
        if failed:
            self.log.warning("failed in the stage '%s': %s", self.stage, ", ".join(failed))
        halving = None
        if self.eta is not None:
            limits = self.constraints or {}
            halving = Halving(eta=int(self.eta), metric=self.metric, mode=self.mode, constraints=limits)
        chosen = next_candidates(
            candidates,
            stage=self.stage,
            reports=reports,
            checkpoints=returned_by(entered, checkpoints_from_xcom(self.checkpoints)),
            evaluations=evaluations_from_xcom(self.evaluations),
            halving=halving,
        )
        for each in chosen:
            self.log.info("%s continues: %s", each.id, params_text(each.params))
        self.log.info("%d of %d candidates continue after the stage '%s'", len(chosen), len(candidates), self.stage)
        return to_xcom(chosen)
