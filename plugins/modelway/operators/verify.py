"""Verify a frozen model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from airflow.sdk import Context

from modelway.artifacts.store import Artifact
from modelway.backends.base import Job, JobStatus
from modelway.errors import JobFailed, VerificationFailed
from modelway.job.left_files import document_below
from modelway.names import nearest
from modelway.operators import _argument_checks as checks
from modelway.operators._checks import Checks
from modelway.operators.context import clear_number, job_key, run_key
from modelway.operators.job_operator import JobOperator
from modelway.spec.gates import gate_of


class VerifyModelOperator(JobOperator):
    """Load a frozen model in a fresh process and compare it with its checkpoint; then check the gates.

    The process has neither the training code nor torch, and may not unpickle, start programs or open connections.

    :param model: the model's name
    :param archive: what FreezeModelOperator returned
    :param selected: what SelectCheckpointOperator returned; its metrics are what the gates look at
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
        """Return the verifying job: it gets the archive and nothing else."""
        return Job(
            model=self.model,
            run=run_key(context),
            key=job_key(context),
            stage="verify",
            action="verify",
            clear_number=clear_number(context),
            params={"absolute": 1e-4, "relative": 1e-3, **(self.tolerance or {}), **self._evaluated()},
            inputs={"archive": Artifact.from_dict(self.archive)},
        )

    def _evaluated(self) -> dict[str, Any]:
        """Return the metrics that are computed again, and the one that the checkpoint was selected by."""
        if not self.selected:
            return {}
        return {"metric": self.selected.get("metric"), "evaluated": dict(self.selected["metrics"])}

    def collect(self, context: Context, *, job: Job, folder: Path, status: JobStatus) -> dict[str, Any]:
        """Check the gates and return the report."""
        report = document_below(folder, "output/verify.json")
        if report is None:
            raise JobFailed("verifying left no report", where=str(folder / "output" / "verify.json"))
        gates = {name: gate_of(given) for name, given in (self.gates or {}).items()}
        check_gates(gates=self.gates or {}, metrics=self.selected["metrics"] if self.selected else {})
        return {**report, "gates": {name: [gate.op, gate.limit] for name, gate in gates.items()}}


def check_gates(*, gates: Mapping[str, Any], metrics: Mapping[str, float | None]) -> None:
    """Compare metrics with their gates.

    :raises VerificationFailed: a metric is missing, not finite or on the wrong side; all of them are named
    """
    missed = []
    for name, given in gates.items():
        gate, value = gate_of(given), metrics.get(name)
        if name not in metrics:
            near = nearest(name, metrics)
            meant = f", did you mean '{near}'?" if near else ""
            missed.append(f"evaluate returned no '{name}', only {', '.join(metrics) or 'nothing'}{meant}")
        elif value is None:
            missed.append(f"{name} has no finite value, must be {gate.op} {gate.limit:g}")
        elif not gate.passes(value):
            missed.append(f"{name} is {value:.6g}, must be {gate.op} {gate.limit:g}")
    if missed:
        raise VerificationFailed(
            f"the model misses {len(missed)} of {len(gates)} gates: {'; '.join(missed)}",
            do="Set verify.gates to metrics that evaluate returns and to what the model must reach, or train otherwise",
        )
