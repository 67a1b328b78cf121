"""Evaluate one checkpoint, or several in one job."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

from airflow.sdk import Context

from modelway import names
from modelway.artifacts.store import Artifact
from modelway.backends.base import Handle, Job, JobStatus
from modelway.errors import JobFailed, JobLost, ModelwayError
from modelway.failures import FailureKind
from modelway.fields.refusal import Refusal
from modelway.hooks.backend import backend_from_airflow
from modelway.job.evaluations import PREFIX, evaluation_outcomes, evaluations_cut_off
from modelway.job.events import append_event, finite_metrics, read_events
from modelway.job.left_files import is_below, name_below, open_below
from modelway.operators import _argument_checks as checks
from modelway.operators._checks import Checks
from modelway.operators.arguments import unused_params
from modelway.operators.context import clear_number, job_key, run_key
from modelway.operators.job_operator import JobOperator
from modelway.runs.job_fields import checkpoint_fields, plan_fields
from modelway.runs.messages.checkpoints import Checkpoint, to_xcom
from modelway.runs.messages.code import RunPlan
from modelway.runs.messages.evaluation import Evaluation, EvaluationReport, FailedEvaluation
from modelway.runs.messages.message import Xcom
from modelway.runs.reported import cost_of, store_events

#: one evaluation ends the whole job with these: the next attempt begins with the others
_OF_ONE = (FailureKind.OUT_OF_MEMORY, FailureKind.DEADLINE)
Result = Evaluation | FailedEvaluation


class EvaluateCheckpointOperator(JobOperator):
    """Run ``evaluate(job, checkpoint)`` of the model's code, or a command, as one job for one checkpoint or several.

    Expand it over the checkpoints of a stage, ``.partial(code=…).expand(checkpoint=train.output)``, or over the
    batches of DivideCheckpointsOperator. A checkpoint that is damaged, raises or kills its process fails the task,
    but no other evaluation: the task returns the results of the others, and SelectCheckpointOperator uses them.

    :param code: what PackageCodeOperator returned, or PlanRunOperator
    :param checkpoint: one of the checkpoints that TrainModelOperator returned, or a list of some
    :param job_params: the parameters that the code finds in ``job.params``; they precede those of a candidate
    :param seed: makes the evaluation repeatable
    :param command: a program that writes ``output/metrics.json``, in place of ``evaluate``
    :param row_metrics: whether to store each row's part in the metrics, which comparing with another version needs
    :param backend: where the job runs
    :param options: what it may use, see ``modelway.backends.base.Options``; ``timeout_seconds`` is for each checkpoint

    Returns ``{checkpoint: id, metrics: {name: number or None}, not_finite: {name: text}, seconds, startup_seconds,
    cost}``, a list of those for a list. NaN and the infinities are None among the metrics, since XCom cannot carry
    them, and ``nan``, ``inf`` or ``-inf`` in ``not_finite``. ``cost`` is an equal part of the job's cost. Where the
    evaluation drew charts or reported importances, ``report`` says where: ``{events: {uri, digest, size}, input}``.
    Where it recorded its inputs, ``rows`` says where they and the scores are: ``{rows: {uri, digest, size}, scores:
    …}``, and ``row_metrics`` where each row's part in the metrics is. A task that fails returns ``{checkpoint: id,
    error: text}`` for those without metrics.
    """

    template_fields: Sequence[str] = (
        *JobOperator.template_fields,
        "code",
        "checkpoint",
        "job_params",
        "seed",
        "command",
        "row_metrics",
    )
    accepts: ClassVar[Checks] = {
        **JobOperator.accepts,
        "code": checks.CODE,
        "checkpoint": checks.ONE_OR_SEVERAL,
        "job_params": checks.PARAMS,
        "seed": checks.SEED,
        "command": checks.COMMAND,
        "row_metrics": checks.FLAG,
    }

    def __init__(
        self,
        *,
        code: Any,
        checkpoint: Any,
        job_params: Any = None,
        seed: Any = 0,
        command: Any = None,
        row_metrics: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.code = code
        self.row_metrics = row_metrics
        self.checkpoint = checkpoint
        self.job_params = job_params
        self.seed = seed
        self.command = command
        self.check_arguments()

    def conflicts(self) -> Iterable[tuple[str, Refusal]]:
        """Return a refusal of Airflow's ``params`` where ``job_params`` are meant."""
        return unused_params(self)

    @property
    def checkpoints(self) -> list[Checkpoint]:
        """The checkpoints that the job evaluates."""
        checkpoints = [self.checkpoint] if isinstance(self.checkpoint, Mapping) else self.checkpoint
        return [Checkpoint.from_xcom(each) for each in checkpoints]

    @cached_property
    def _present(self) -> list[Checkpoint]:
        """The checkpoints that are still stored; all of them where none is, which the job then reports.

        Of a run that is cleared after its end, those that lost the selection may be gone.
        """
        stored = [each for each in self.checkpoints if self._is_stored(each)]
        for each in self._gone(stored) if stored else ():
            self.log.warning("checkpoint %s is left out: it is gone from the artifact store", each.id)
        return stored or self.checkpoints

    def _is_stored(self, checkpoint: Checkpoint) -> bool:
        return self.artifacts.find(checkpoint.digest, model=self._model, uri=checkpoint.uri) is not None

    def _gone(self, stored: Sequence[Checkpoint]) -> list[Checkpoint]:
        return [each for each in self.checkpoints if each not in stored]

    @property
    def which(self) -> str:
        """A readable name of what the job evaluates; a ``map_index_template`` can show it: ``{{ task.which }}``."""
        if not self.checkpoints:
            return "none"
        first, *others = self.checkpoints
        return f"{first.id} … {others[-1].id} ({len(others) + 1})" if others else first.id

    def run(self, context: Context) -> Any:
        """Submit the job, with time for each of its checkpoints, and wait for it; without any there is no job."""
        if not self.checkpoints:
            self.log.info("there is no checkpoint to evaluate")
            return []
        if seconds := self.options.get("timeout_seconds"):
            self.options = {**self.options, "timeout_seconds": seconds * len(self.checkpoints)}
        return super().run(context)

    def job(self, context: Context) -> Job:
        """Return the evaluation job."""
        plan = RunPlan.from_xcom(self.code)
        return Job(
            model=plan.code.model,
            run=run_key(context),
            key=job_key(context, item="+".join(checkpoint.id for checkpoint in self._present)),
            stage=f"evaluate {self.which}",
            action="evaluate",
            clear_number=clear_number(context),
            module=plan.code.module,
            command=tuple(self.command) if self.command else None,
            params={**plan.params, **(self.job_params or {})},
            seed=int(self.seed),
            code=plan.code.artifact,
            **checkpoint_fields({name: self._with_params(each) for name, each in self._inputs().items()}),
            **plan_fields(plan),
        )

    def _with_params(self, checkpoint: Checkpoint) -> Checkpoint:
        """Return a checkpoint with those of its candidate's parameters that ``job_params`` do not set."""
        if not checkpoint.params:
            return checkpoint
        own = {name: value for name, value in checkpoint.params.items() if name not in (self.job_params or {})}
        return replace(checkpoint, params=own)

    def _inputs(self) -> dict[str, Checkpoint]:
        """Return the checkpoints by the names of the job's inputs, see ``modelway.job.evaluations``."""
        checkpoints = self._present
        if len(checkpoints) == 1:
            return {"checkpoint": checkpoints[0]}
        return {
            f"{PREFIX}{number:04d}.{names.slug(checkpoint.id, limit=100)}": checkpoint
            for number, checkpoint in enumerate(checkpoints, start=1)
        }

    def collect(self, context: Context, *, job: Job, folder: Path, status: JobStatus) -> Any:
        """Return the metrics that the job recorded."""
        results = self._results(folder, seconds=status.seconds, missing="it left no metrics")
        return self._to_xcom(self._with_reports(results, folder=folder, status=status))

    def _with_reports(self, results: list[Result], *, folder: Path, status: JobStatus) -> list[Result]:
        """Return the results with the cost of each, and where its charts and importances are if there are any."""
        reported = {event.get("input") for event in read_events(folder) if event["kind"] in ("figure", "importance")}
        cost = cost_of(folder, status=status, options=self.options, backend=self.backend)
        cost = replace(
            cost, seconds=_part(cost.seconds, len(results)), cpu_seconds=_part(cost.cpu_seconds, len(results))
        )
        events = self._stored_events(folder) if reported else None
        found: list[Result] = []
        for name, result in zip(self._inputs(), results, strict=True):
            if isinstance(result, Evaluation):
                report = EvaluationReport(events=events, input=name) if events and name in reported else None
                rows, row_metrics = self._stored_rows(folder, name) or None, self._stored_row_metrics(folder, name)
                result = replace(result, cost=cost, report=report, rows=rows, row_metrics=row_metrics)
            found.append(result)
        return found

    def _stored_events(self, folder: Path) -> Artifact | None:
        """Store the job's events; an unavailable store loses the charts, but no evaluation."""
        try:
            return store_events(self.artifacts, folder, model=self._model, warn=self.log.warning)
        except (ModelwayError, OSError) as error:
            self.log.warning("the charts of these evaluations are not stored: %s", error)
            return None

    @property
    def _model(self) -> str:
        return RunPlan.from_xcom(self.code).code.model

    def _stored_rows(self, folder: Path, name: str) -> dict[str, Artifact]:
        """Store the rows that an evaluation recorded, with its scores; equal rows are stored once.

        :raises ModelwayError: the store is unavailable: without the rows the frozen model would be verified on less
        """
        from modelway.job.freezing.rows import recorded_files

        files = {kind: name_below(folder, path) for kind, path in recorded_files(folder / "output", name).items()}
        if not all(is_below(folder, each) for each in files.values()):
            return {}
        return {
            kind: self.artifacts.put(folder / each, model=self._model, opened=partial(open_below, folder, each))
            for kind, each in files.items()
        }

    def _stored_row_metrics(self, folder: Path, name: str) -> Artifact | None:
        """Store each row's part in the metrics of an evaluation, where a comparison needs it.

        :raises ModelwayError: the store is unavailable: without the rows versions would be compared on less
        """
        from modelway.job.row_metrics import metrics_file

        file = name_below(folder, metrics_file(folder / "output", name))
        if not self.row_metrics or not is_below(folder, file):
            return None
        return self.artifacts.put(folder / file, model=self._model, opened=partial(open_below, folder, file))

    def _to_xcom(self, results: list[Result]) -> Xcom | list[Xcom]:
        if isinstance(self.checkpoint, Mapping):
            return results[0].to_xcom()
        gone = [FailedEvaluation(checkpoint=each.id, error="it is gone") for each in self._gone(self._present)]
        return to_xcom([*results, *gone])

    def _results(self, folder: Path | None, *, seconds: float | None, missing: str) -> list[Result]:
        """Return the result of each checkpoint; ``missing`` is the error of one without a result."""
        outcomes = evaluation_outcomes(read_events(folder)) if folder else {}
        spent = sum(outcome.get("seconds", 0.0) for outcome in outcomes.values())
        startup = None if seconds is None else round(max(0.0, seconds - spent), 3)
        results: list[Result] = []
        for name, checkpoint in self._inputs().items():
            outcome = outcomes.get(name, {})
            if "metrics" not in outcome:
                results.append(FailedEvaluation(checkpoint=checkpoint.id, error=outcome.get("error", missing)))
                continue
            metrics = finite_metrics(outcome["metrics"])
            results.append(
                Evaluation(
                    checkpoint=checkpoint.id,
                    metrics=metrics,
                    not_finite={key: str(outcome["metrics"][key]) for key, value in metrics.items() if value is None},
                    seconds=outcome["seconds"],
                    startup_seconds=startup,
                )
            )
        return results

    def _conclude(self, context: Context, handle: Handle, status: JobStatus) -> Any:
        """Collect the job's results; when it failed, still push the results that it has."""
        try:
            return super()._conclude(context, handle, status)
        except ModelwayError as error:
            folder = self._folder(handle)
            results = self._results(folder, seconds=None, missing=_cause(error))
            if folder:
                results = self._with_reports(results, folder=folder, status=status)
            context["ti"].xcom_push(key="return_value", value=self._to_xcom(results))
            for result in results:
                if isinstance(result, FailedEvaluation):
                    self.log.error("checkpoint %s has no metrics: %s", result.checkpoint, result.error)
            if not error.retryable and status.failure in _OF_ONE and (left := _untouched(folder, self._inputs())):
                _give_up_current(folder, _cause(error))
                raise JobLost(f"{error.what}; {left} more are evaluated by the next attempt", do=error.do) from error
            if error.retryable and status.failure is FailureKind.BAD_EXIT and _all_given_up(folder):
                raise JobFailed(error.what, do=error.do) from error
            raise

    def _folder(self, handle: Handle) -> Path | None:
        """Return the folder of a failed job, None where it cannot be read."""
        try:
            return backend_from_airflow(self.backend, home=self.settings.home).folder(handle)
        except Exception as error:  # this must not hide why the job failed
            self.log.warning("the job's results cannot be read: %s: %s", type(error).__name__, error)
            return None


def _part(number: float | None, parts: int) -> float | None:
    return None if number is None else round(number / parts, 3)


def _untouched(folder: Path | None, inputs: Iterable[str]) -> int:
    """Return how many inputs were not reached when an evaluation ended the job."""
    events = read_events(folder) if folder else []
    outcomes, cut_off = evaluation_outcomes(events), evaluations_cut_off(events)
    if not any(cut_off.values()):
        return 0
    return sum(name not in outcomes and not cut_off.get(name) for name in inputs)


def _cause(error: ModelwayError) -> str:
    """Return what happened, without the text around it."""
    return error.failure.cause if error.failure else error.what


def _give_up_current(folder: Path | None, reason: str) -> None:
    """Record the evaluation that exceeded a limit as failed, so that no further attempt repeats it unchanged.

    Where the worker has only a copy of the job's folder this has no effect: the next attempt repeats it once, alone.
    """
    if folder:
        for name, times in evaluations_cut_off(read_events(folder)).items():
            if times:
                append_event(folder, "evaluation", input=name, error=reason, final=True)


def _all_given_up(folder: Path | None) -> bool:
    """Whether all failures exceeded a limit, which a rule for code that raises must not retry."""
    outcomes = evaluation_outcomes(read_events(folder)) if folder else {}
    failed = [outcome for outcome in outcomes.values() if "error" in outcome]
    return bool(failed) and all(outcome.get("final") for outcome in failed)
