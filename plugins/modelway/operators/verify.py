"""Verify a frozen model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from airflow.sdk import Context

from modelway.backends.base import Job, JobStatus
from modelway.errors import JobFailed
from modelway.job.left_files import document_below
from modelway.operators import _argument_checks as checks
from modelway.operators._checks import Checks
from modelway.operators.context import clear_number, job_key, run_key
from modelway.operators.job_operator import JobOperator
from modelway.runs.gates import check_gates
from modelway.runs.messages.evaluation import Selection
from modelway.runs.messages.message import Xcom
from modelway.runs.messages.version import FrozenModel, VerifiedModel
from modelway.spec.gates import gate_of


class VerifyModelOperator(JobOperator):
    """Load a frozen model in a fresh process and compare it with its checkpoint; then check the gates.

    The process has neither the training code nor torch, and may not unpickle, start programs or open connections.

    :param model: the model's name
    :param archive: what FreezeModelOperator returned
    :param selected: what SelectCheckpointOperator returned; the gates apply to its metrics
    :param gates: limits of metrics by their names: ``{"accuracy": ">= 0.9"}``
    :param tolerance: ``{"absolute": …, "relative": …}`` between frozen model and checkpoint
    :param backend: where the job runs
    :param options: what it may use, see ``modelway.backends.base.Options``

    Returns ``{members, sizes, calls, batches, batches_reason, rows, rows_of, rows_from, metric, max_abs_difference,
    tolerance, gates}``: how many golden inputs and real rows the frozen model answered as its checkpoint did, and
    ``metric``, ``{name, evaluated, served, returned}``, where it could be computed again; see docs/verification.md.
    """

    template_fields: Sequence[str] = (
        *JobOperator.template_fields,
        "model",
        "archive",
        "selected",
        "gates",
        "tolerance",
    )
    accepts: ClassVar[Checks] = {
        **JobOperator.accepts,
        "model": checks.MODEL,
        "archive": checks.ARCHIVE,
        "selected": checks.OPTIONAL_SELECTED,
        "gates": checks.GATES,
        "tolerance": checks.TOLERANCE,
    }

    def __init__(
        self,
        *,
        model: str,
        archive: Any,
        selected: Any = None,
        gates: Mapping[str, Any] | None = None,
        tolerance: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.archive = archive
        self.selected = selected
        self.gates = gates
        self.tolerance = tolerance
        self.check_arguments()

    def job(self, context: Context) -> Job:
        """Return the verification job: it gets the archive and nothing else."""
        return Job(
            model=self.model,
            run=run_key(context),
            key=job_key(context),
            stage="verify",
            action="verify",
            clear_number=clear_number(context),
            params={"absolute": 1e-4, "relative": 1e-3, **(self.tolerance or {}), **self._evaluated()},
            inputs={"archive": FrozenModel.from_xcom(self.archive).archive},
        )

    def _evaluated(self) -> dict[str, Any]:
        """Return the metrics to compute again, and the one by which the checkpoint was selected."""
        if (selected := self._selection()) is None:
            return {}
        return {"metric": selected.metric, "evaluated": dict(selected.metrics)}

    def _selection(self) -> Selection | None:
        return Selection.from_xcom(self.selected) if self.selected else None

    def collect(self, context: Context, *, job: Job, folder: Path, status: JobStatus) -> Xcom:
        """Check the gates and return the report."""
        report = document_below(folder, "output/verify.json")
        if report is None:
            raise JobFailed("verifying left no report", where=str(folder / "output" / "verify.json"))
        gates = {name: gate_of(value) for name, value in (self.gates or {}).items()}
        selected = self._selection()
        check_gates(gates=self.gates or {}, metrics=selected.metrics if selected else {})
        passed = {name: [gate.op, gate.limit] for name, gate in gates.items()}
        return VerifiedModel(report={**report, "gates": passed}).to_xcom()
