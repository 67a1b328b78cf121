"""Verify a frozen model."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import Context

from modelway.backends.base import Job, JobStatus
from modelway.errors import JobFailed, UnknownVersion, VerificationFailed
from modelway.job.left_files import document_below
from modelway.operators import _argument_checks as checks
from modelway.operators._checks import Checks
from modelway.operators.context import clear_number, job_key, run_key
from modelway.operators.job_operator import JobOperator
from modelway.runs.messages.evaluation import EvaluatedVersion, Selection, evaluated_versions_from_xcom
from modelway.runs.messages.message import Xcom
from modelway.runs.messages.version import FrozenModel, VerifiedModel
from modelway.spec.gates import Gate, gate_of

if TYPE_CHECKING:
    from modelway.runs.comparison import Comparison


class VerifyModelOperator(JobOperator):
    """Load a frozen model in a fresh process and compare it with its checkpoint; then check the gates.

    The process has neither the training code nor torch, and may not unpickle, start programs or open connections.

    :param model: the model's name
    :param archive: what FreezeModelOperator returned
    :param selected: what SelectCheckpointOperator returned; the gates apply to its metrics
    :param gates: limits of metrics by their names: ``{"accuracy": ">= 0.9", "loss": "<= champion * 1.05"}``
    :param compared: what EvaluateVersionOperator returned, for each version that a gate compares with
    :param tolerance: ``{"absolute": …, "relative": …}`` between frozen model and checkpoint
    :param accept_worse: whether a model that misses a gate which compares with a version is registered all the same; it
        then moves neither alias nor traffic
    :param backend: where the job runs
    :param options: what it may use, see ``modelway.backends.base.Options``

    Returns ``{members, sizes, calls, batches, batches_reason, rows, rows_of, rows_from, metric, max_abs_difference,
    tolerance, gates, comparisons}``: how many golden inputs and real rows the frozen model answered as its checkpoint
    did, ``metric``, ``{name, evaluated, served, returned}``, where it could be computed again, and how it compares with
    other versions; see docs/verification.md.
    """

    template_fields: Sequence[str] = (
        *JobOperator.template_fields,
        "model",
        "archive",
        "selected",
        "gates",
        "compared",
        "tolerance",
        "accept_worse",
    )
    accepts: ClassVar[Checks] = {
        **JobOperator.accepts,
        "model": checks.MODEL,
        "archive": checks.ARCHIVE,
        "selected": checks.OPTIONAL_SELECTED,
        "gates": checks.GATES,
        "compared": checks.EVALUATED_VERSIONS,
        "tolerance": checks.TOLERANCE,
        "accept_worse": checks.FLAG,
    }

    def __init__(
        self,
        *,
        model: str,
        archive: Any,
        selected: Any = None,
        gates: Mapping[str, Any] | None = None,
        compared: Any = None,
        tolerance: Mapping[str, float] | None = None,
        accept_worse: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.archive = archive
        self.selected = selected
        self.gates = gates
        self.compared = compared
        self.tolerance = tolerance
        self.accept_worse = accept_worse
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
        comparisons = self._check_gates()
        gates = {name: gate_of(value) for name, value in (self.gates or {}).items()}
        passed = {name: [gate.op, gate.limit] for name, gate in gates.items() if isinstance(gate, Gate)}
        found = {**report, "gates": passed, "comparisons": [each.to_dict() for each in comparisons]}
        return VerifiedModel(report=found).to_xcom()

    def _check_gates(self) -> "list[Comparison]":
        """Check the gates; return how the model compares with other versions."""
        # A DAG file makes many of these tasks and checks no gate.
        from modelway.lineage.records.verification import comparison_text
        from modelway.runs.gates import check_gates
        from modelway.runs.measured import read_measured, read_other

        selected, others = self._selection(), evaluated_versions_from_xcom(self.compared)
        metrics = selected.metrics if selected else {}
        if not others:
            return check_gates(gates=self.gates or {}, metrics=metrics)
        for evaluated in others:
            self._refuse_moved(evaluated)
        read = partial(read_measured, self.artifacts)
        comparisons = check_gates(
            gates=self.gates or {},
            metrics=metrics,
            candidate=read(metrics, selected.row_metrics if selected else None),
            others={each.reference: read_other(each, read=read) for each in others},
            accept_worse=self.accept_worse,
        )
        for each in comparisons:
            self.log.info("%s", comparison_text(each.to_dict()))
        return comparisons

    def _refuse_moved(self, evaluated: EvaluatedVersion) -> None:
        """Refuse a comparison with a version that an alias does not name any more.

        :raises VerificationFailed: another version has the alias since
        """
        from modelway.hooks.lineage import lineage_from_airflow

        if evaluated.version is None:
            return
        store = lineage_from_airflow(self.settings.lineage_url)
        try:
            now: int | None = store.find(self.model, evaluated.reference)
        except UnknownVersion:
            now = None
        if now not in (None, evaluated.version):
            raise VerificationFailed(
                f"{evaluated.reference} is version {now} since, this run was compared with version {evaluated.version}",
                do=f"Clear the task that evaluated {evaluated.reference}, with the tasks after it",
            )
