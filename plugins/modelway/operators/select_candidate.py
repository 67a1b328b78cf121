"""Select the checkpoint that becomes the model among those of several candidates."""

from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any, ClassVar

from airflow.sdk import Context

from modelway.operators import _argument_checks as checks
from modelway.operators._checks import Checks
from modelway.operators._run_failures import run_failures
from modelway.operators.select import SelectCheckpointOperator
from modelway.runs.candidates import params_text
from modelway.runs.messages.candidates import Candidate, candidates_from_xcom
from modelway.runs.messages.checkpoints import Checkpoint, reports_from_xcom, to_xcom
from modelway.runs.messages.evaluation import Selection
from modelway.runs.messages.message import Xcom
from modelway.runs.sweep import check_failures, returned_by, sweep_of, training_of


class SelectCandidateOperator(SelectCheckpointOperator):
    """Select the best checkpoint of all candidates of a sweep, as SelectCheckpointOperator does.

    Its other parameters are those of SelectCheckpointOperator.

    :param stages: the names of the stages, in order
    :param candidates: those that were to train each stage, in the same order
    :param reports: the ``report`` of the TrainModelOperator of each stage
    :param method: how the candidates were found: ``grid``, ``random`` or ``halving``
    :param allowed_failures: how many trainings of the last stage may fail; None: all but one

    Returns ``{checkpoint, metrics, metric, rule, evaluations}``, as SelectCheckpointOperator does. The XCom
    ``training`` holds the reports of the selected candidate, as if it had been trained alone, and ``sweep`` what became
    of each: ``{method, selected, candidates: [{id, params, state, stage, reason, checkpoint, metrics, not_finite,
    seconds, cpu_seconds, gpu_seconds}]}``.
    """

    template_fields: Sequence[str] = (
        *SelectCheckpointOperator.template_fields,
        "stages",
        "candidates",
        "reports",
        "method",
        "allowed_failures",
    )
    accepts: ClassVar[Checks] = {
        **SelectCheckpointOperator.accepts,
        "stages": checks.STAGES,
        "candidates": checks.CANDIDATES,
        "reports": checks.REPORTS,
        "method": checks.METHOD,
        "allowed_failures": checks.ALLOWED_FAILURES,
    }

    def __init__(
        self,
        *,
        stages: Any,
        candidates: Any,
        reports: Any,
        method: str = "grid",
        allowed_failures: Any = None,
        **kwargs: Any,
    ) -> None:
        self.stages = stages
        self.candidates = candidates
        self.reports = reports
        self.method = method
        self.allowed_failures = allowed_failures
        super().__init__(**kwargs)

    def run(self, context: Context) -> Xcom:
        """Select the checkpoint, and record what became of the candidates."""
        stages = list(self._entered)
        reports = returned_by(self._entered, reports_from_xcom(self.reports))
        for stage, following in zip(stages, (*stages[1:], None), strict=True):
            # Where nothing was chosen for the stage after, the reason is this one's.
            if following is None or not self._entered[following]:
                check_failures(
                    self._entered[stage],
                    reports,
                    stage=stage,
                    allowed=self.allowed_failures,
                    failures=partial(run_failures, self.settings, context),
                )
        selected = super().run(context)
        sweep = sweep_of(
            method=self.method,
            entered=self._entered,
            reports=reports,
            selection=Selection.from_xcom(selected),
            mode=self.mode,
        )
        for each in sweep.candidates:
            self.log.info("%s %s after the stage '%s': %s", each.id, each.state, each.stage, params_text(each.params))
        context["ti"].xcom_push(key="sweep", value=sweep.to_xcom())
        training = training_of(sweep.selected, stages=stages, reports=reports)
        context["ti"].xcom_push(key="training", value=to_xcom(training))
        return selected

    @cached_property
    def _entered(self) -> dict[str, list[Candidate]]:
        """The candidates that were to train each stage, by its name, in order."""
        those = (candidates_from_xcom(each) for each in self.candidates)
        return dict(zip(map(str, self.stages), those, strict=True))

    def to_select_from(self) -> list[Checkpoint]:
        """Return the checkpoints of the candidates."""
        return returned_by(self._entered, super().to_select_from())
