"""Evaluate another version on the data of a run, so that gates can compare with it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import Context

from modelway.backends.base import Handle, Job, JobStatus
from modelway.errors import ModelwayError
from modelway.operators import _argument_checks as checks
from modelway.operators._checks import Checks
from modelway.operators.context import job_key
from modelway.operators.evaluate import EvaluateCheckpointOperator, Result
from modelway.operators.job_operator import JobOperator
from modelway.runs.messages.checkpoints import Checkpoint
from modelway.runs.messages.code import RunPlan
from modelway.runs.messages.evaluation import EvaluatedVersion, Evaluation
from modelway.runs.messages.message import Xcom

if TYPE_CHECKING:
    from modelway.runs.versions import KnownVersions, StoredVersion

#: the XCom with the number of the version, which a deferred task continues with
_NUMBER = "version"


class EvaluateVersionOperator(EvaluateCheckpointOperator):
    """Evaluate a registered version as one job: its own checkpoint, by its own code, on the data of this run.

    The data sets, the data interval, the partition and the seed are those of this run; the parameters are those that
    the version was evaluated with. See docs/adr/0039-against-the-champion.md.

    An alias that does not exist yet is no failure: there is nothing to compare with. Nor is there in a backfill that
    moves nothing, or where the version is this run's own.

    :param code: what PlanRunOperator returned
    :param version: an alias such as ``champion``, ``v3``, or ``latest``; found when the task starts
    :param selected: what SelectCheckpointOperator returned: the version is found after that
    :param seed: makes the evaluation repeatable
    :param backend: where the job runs
    :param options: what it may use, see ``modelway.backends.base.Options``

    Returns ``{reference, version, reason, evaluation}``: ``evaluation`` as of EvaluateCheckpointOperator, or the
    ``reason`` why there is nothing to compare with.
    """

    template_fields: Sequence[str] = (*JobOperator.template_fields, "code", "version", "selected", "seed")
    accepts: ClassVar[Checks] = {
        **JobOperator.accepts,
        "code": checks.CODE,
        "version": checks.VERSION_REFERENCE,
        "selected": checks.OPTIONAL_SELECTED,
        "seed": checks.SEED,
    }
    _found: "StoredVersion | None" = None

    def __init__(self, *, code: Any, version: str, selected: Any = None, seed: Any = 0, **kwargs: Any) -> None:
        # Before the arguments are checked, which the parent does last.
        self.version = version
        self.selected = selected
        super().__init__(code=code, checkpoint=None, seed=seed, row_metrics=True, **kwargs)

    @property
    def checkpoints(self) -> list[Checkpoint]:
        """The checkpoint of the version."""
        return [self._stored.checkpoint]

    @property
    def _stored(self) -> "StoredVersion":
        if self._found is None:
            raise ModelwayError(f"the version '{self.version}' was not found yet")
        return self._found

    def run(self, context: Context) -> Any:
        """Find the version, and evaluate it."""
        plan, is_backfill = RunPlan.from_xcom(self.code), context["dag_run"].run_type.value == "backfill"
        if is_backfill and plan.blocked_reason:
            return self._nothing(plan.blocked_reason)
        self._found = self._known_versions(context).compared(str(self.version))
        if self._found is None:
            return self._nothing(f"there is no version '{self.version}' besides this run's own")
        self.log.info("%s is version %d", self.version, self._found.version)
        context["ti"].xcom_push(key=_NUMBER, value=self._found.version)
        return super().run(context)

    def _nothing(self, reason: str) -> Xcom:
        self.log.info("nothing to compare with: %s", reason)
        return EvaluatedVersion(reference=str(self.version), reason=reason).to_xcom()

    def _conclude(self, context: Context, handle: Handle, status: JobStatus) -> Any:
        """Collect the result; a deferred task continues with the version that it found when it started."""
        if self._found is None:
            number = context["ti"].xcom_pull(task_ids=self.task_id, key=_NUMBER)
            self._found = self._known_versions(context).stored(int(number))
        return super()._conclude(context, handle, status)

    def _known_versions(self, context: Context) -> "KnownVersions":
        from modelway.hooks.lineage import lineage_from_airflow
        from modelway.runs.versions import KnownVersions

        dag_run = context["dag_run"]
        store = lineage_from_airflow(self.settings.lineage_url)
        return KnownVersions(store, self.settings, model=self._model, dag_id=dag_run.dag_id, run_id=dag_run.run_id)

    def job(self, context: Context) -> Job:
        """Return the evaluation job of the version."""
        stored, plan = self._stored, RunPlan.from_xcom(self.code)
        return replace(
            super().job(context),
            key=job_key(context, item=f"v{stored.version}"),
            stage=f"evaluate version {stored.version} ({self.version})",
            code=stored.code,
            module=stored.module or plan.code.module,
            command=stored.command,
            params={**plan.params, **stored.evaluation_params},
        )

    def _to_xcom(self, results: list[Result]) -> Xcom:
        (result,) = results
        evaluation = result if isinstance(result, Evaluation) else None
        return EvaluatedVersion(
            reference=str(self.version),
            version=self._stored.version,
            reason="" if isinstance(result, Evaluation) else result.error,
            evaluation=evaluation,
        ).to_xcom()
