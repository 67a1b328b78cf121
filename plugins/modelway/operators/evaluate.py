"""Evaluate one checkpoint, or several in one job."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from airflow.sdk import Context

from modelway import names
from modelway.backends.base import Handle, Job, JobStatus
from modelway.errors import JobFailed, JobLost, ModelwayError
from modelway.failures import FailureKind
from modelway.hooks.backend import backend_from_airflow
from modelway.job.evaluations import PREFIX, evaluation_outcomes, evaluations_cut_off
from modelway.job.events import append_event, finite_metrics, read_events
from modelway.job.freezing.rows import recorded_files
from modelway.job.left_files import is_below, name_below, open_below
from modelway.operators import _argument_checks as checks
from modelway.operators._checks import Checks
from modelway.operators.arguments import unused_params
from modelway.operators.base import code_of, plan_of
from modelway.operators.context import clear_number, job_key, run_key
from modelway.operators.job_operator import JobOperator, checkpoint_inputs, planned_inputs
from modelway.runs.reported import cost_of, store_events
from modelway.spec.problems import Refusal

#: they end a whole job for what one evaluation does: the next try has the others first
_OF_ONE = (FailureKind.OUT_OF_MEMORY, FailureKind.DEADLINE)


class EvaluateCheckpointOperator(JobOperator):
    """Run ``evaluate(job, checkpoint)`` of the model's code, or a command, as one job for one checkpoint or several.

    Expand it over the checkpoints of a stage, ``.partial(code=…).expand(checkpoint=train.output)``, or over what
    DivideCheckpointsOperator made of them. A checkpoint that is damaged, raises or kills its process fails the task,
    and no evaluation but its own: the task leaves the results of the others, and SelectCheckpointOperator takes them.

    :param code: what PackageCodeOperator returned, or PlanRunOperator
    :param checkpoint: one of the checkpoints that TrainModelOperator returned, or a list of some
    :param job_params: the parameters that the code finds in ``job.params``
    :param seed: makes the evaluation repeatable
    :param command: a program that writes ``output/metrics.json``, in place of ``evaluate``
    :param backend: where the job runs
    :param options: what it may use, see ``modelway.backends.base.Options``; ``timeout_seconds`` is for each checkpoint

    Returns ``{checkpoint: id, metrics: {name: number or None}, not_finite: {name: text}, seconds, startup_seconds,
    cost}``, a list of those for a list. NaN and the infinities are None among the metrics, since XCom cannot carry
    them, and ``nan``, ``inf`` or ``-inf`` in ``not_finite``. ``cost`` is an equal share of what the job took. Where the
    evaluation drew charts or told importances, ``report`` says where: ``{events: {uri, digest, size}, input}``. Where
    it recorded its inputs, ``rows`` says where they and the scores are: ``{rows: {uri, digest, size}, scores: …}``. A
    task that fails leaves ``{checkpoint: id, error: text}`` for those that it has no metrics of.
    """

    template_fields: Sequence[str] = (
        *JobOperator.template_fields,
        "code",
        "checkpoint",
        "job_params",
        "seed",
        "command",
    )
    accepts: ClassVar[Checks] = {
        **JobOperator.accepts,
        "code": checks.CODE,
        "checkpoint": checks.ONE_OR_SEVERAL,
        "job_params": checks.PARAMS,
        "seed": checks.SEED,
        "command": checks.COMMAND,
    }

    def __init__(
        self,
        *,
        code: Any,
        checkpoint: Any,
        job_params: Any = None,
        seed: Any = 0,
        command: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.code = code
        self.checkpoint = checkpoint
        self.job_params = job_params
        self.seed = seed
        self.command = command
        self.check_arguments()

    def conflicts(self) -> Iterable[tuple[str, Refusal]]:
        """Return that Airflow's ``params`` are given where ``job_params`` are meant."""
        return unused_params(self)

    @property
    def checkpoints(self) -> list[Mapping[str, Any]]:
        """The checkpoints that the job evaluates."""
        return [self.checkpoint] if isinstance(self.checkpoint, Mapping) else list(self.checkpoint)

    @property
    def which(self) -> str:
        """What the job evaluates, for people; a ``map_index_template`` can show it: ``{{ task.which }}``."""
        first, *others = self.checkpoints
        return f"{first['id']} … {others[-1]['id']} ({len(others) + 1})" if others else str(first["id"])

    def run(self, context: Context) -> Any:
        """Submit the job, with time for each of its checkpoints, and wait for it."""
        if seconds := self.options.get("timeout_seconds"):
            self.options = {**self.options, "timeout_seconds": seconds * len(self.checkpoints)}
        return super().run(context)

    def job(self, context: Context) -> Job:
        """Return the evaluation job."""
        return Job(
            model=self.code["model"],
            run=run_key(context),
            key=job_key(context, item="+".join(str(checkpoint["id"]) for checkpoint in self.checkpoints)),
            stage=f"evaluate {self.which}",
            action="evaluate",
            clear_number=clear_number(context),
            module=self.code["module"],
            command=tuple(self.command) if self.command else None,
            params={**plan_of(self.code).get("params", {}), **(self.job_params or {})},
            seed=int(self.seed),
            code=code_of(self.code),
            **checkpoint_inputs(self._inputs()),
            **planned_inputs(self.code),
        )

    def _inputs(self) -> dict[str, Mapping[str, Any]]:
        """Return the checkpoints by the names of the job's inputs, see ``modelway.job.evaluations``."""
        checkpoints = self.checkpoints
        if len(checkpoints) == 1:
            return {"checkpoint": checkpoints[0]}
        return {
            f"{PREFIX}{number:04d}.{names.slug(str(checkpoint['id']), limit=100)}": checkpoint
            for number, checkpoint in enumerate(checkpoints, start=1)
        }

    def collect(self, context: Context, *, job: Job, folder: Path, status: JobStatus) -> Any:
        """Return the metrics that the job recorded."""
        results = self._results(folder, seconds=status.seconds, missing="it left no metrics")
        self._add_reports(results, folder=folder, status=status)
        return self._told(results)

    def _add_reports(self, results: list[dict[str, Any]], *, folder: Path, status: JobStatus) -> None:
        """Add to each result what it cost, and where its charts and importances are if there are any."""
        events = read_events(folder)
        told = {event.get("input") for event in events if event["kind"] in ("figure", "importance")}
        cost = cost_of(folder, status=status, options=self.options)
        share = {
            name: round(cost[name] / len(results), 3) for name in ("seconds", "cpu_seconds") if cost[name] is not None
        }
        stored = self._stored(folder) if told else None
        for name, result in zip(self._inputs(), results, strict=True):
            if "error" in result:
                continue
            result["cost"] = {**cost, **share, "backend": self.backend}
            if stored and name in told:
                result["report"] = {"events": stored, "input": name}
            if rows := self._stored_rows(folder, name):
                result["rows"] = rows

    def _stored(self, folder: Path) -> dict[str, Any] | None:
        """Store the job's events; a store that is away costs the charts and no evaluation."""
        try:
            store = self.artifacts
            stored = store_events(store, folder, model=self.code["model"], warn=self.log.warning)
            return stored.to_dict() if stored else None
        except (ModelwayError, OSError) as error:
            self.log.warning("the charts of these evaluations are not stored: %s", error)
            return None

    def _stored_rows(self, folder: Path, name: str) -> dict[str, Any]:
        """Store the rows that an evaluation recorded with its scores; the same rows are stored once.

        :raises ModelwayError: the store is unavailable: without them the frozen model would be verified on less
        """
        files = {kind: name_below(folder, path) for kind, path in recorded_files(folder / "output", name).items()}
        if not all(is_below(folder, each) for each in files.values()):
            return {}
        store, model = self.artifacts, self.code["model"]
        return {
            kind: store.put(folder / each, model=model, opened=partial(open_below, folder, each)).to_dict()
            for kind, each in files.items()
        }

    def _told(self, results: list[dict[str, Any]]) -> Any:
        return results[0] if isinstance(self.checkpoint, Mapping) else results

    def _results(self, folder: Path | None, *, seconds: float | None, missing: str) -> list[dict[str, Any]]:
        """Return the result of each checkpoint, ``missing`` being that of one without any."""
        outcomes = evaluation_outcomes(read_events(folder)) if folder else {}
        spent = sum(outcome.get("seconds", 0.0) for outcome in outcomes.values())
        startup = None if seconds is None else round(max(0.0, seconds - spent), 3)
        results: list[dict[str, Any]] = []
        for name, checkpoint in self._inputs().items():
            outcome = outcomes.get(name, {})
            if "metrics" not in outcome:
                results.append({"checkpoint": checkpoint["id"], "error": outcome.get("error", missing)})
                continue
            metrics = finite_metrics(outcome["metrics"])
            results.append(
                {
                    "checkpoint": checkpoint["id"],
                    "metrics": metrics,
                    "not_finite": {
                        key: str(outcome["metrics"][key]) for key, value in metrics.items() if value is None
                    },
                    "seconds": outcome["seconds"],
                    "startup_seconds": startup,
                }
            )
        return results

    def _conclude(self, context: Context, handle: Handle, status: JobStatus) -> Any:
        """Collect what the job left; when it failed, leave the results that it has all the same."""
        try:
            return super()._conclude(context, handle, status)
        except ModelwayError as error:
            folder = self._folder(handle)
            results = self._results(folder, seconds=None, missing=_cause(error))
            if folder:
                self._add_reports(results, folder=folder, status=status)
            context["ti"].xcom_push(key="return_value", value=self._told(results))
            for result in results:
                if "error" in result:
                    self.log.error("checkpoint %s has no metrics: %s", result["checkpoint"], result["error"])
            if not error.retryable and status.failure in _OF_ONE and (left := _untouched(folder, self._inputs())):
                _give_up_what_was_at_hand(folder, _cause(error))
                raise JobLost(f"{error.what}; {left} more are evaluated by the next try", do=error.do) from error
            if error.retryable and status.failure is FailureKind.BAD_EXIT and _all_given_up(folder):
                raise JobFailed(error.what, do=error.do) from error
            raise

    def _folder(self, handle: Handle) -> Path | None:
        """Return the folder of a job that failed, where it can be had."""
        try:
            return backend_from_airflow(self.backend, home=self.settings.home).folder(handle)
        except Exception as error:  # it must not hide why the job failed
            self.log.warning("the job's results cannot be read: %s: %s", type(error).__name__, error)
            return None


def _untouched(folder: Path | None, inputs: Iterable[str]) -> int:
    """Return how many inputs wait behind an evaluation that was cut off."""
    events = read_events(folder) if folder else []
    outcomes, cut_off = evaluation_outcomes(events), evaluations_cut_off(events)
    if not any(cut_off.values()):
        return 0
    return sum(name not in outcomes and not cut_off.get(name) for name in inputs)


def _cause(error: ModelwayError) -> str:
    """Return what happened, without the words around it."""
    return error.failure.cause if error.failure else error.what


def _give_up_what_was_at_hand(folder: Path | None, reason: str) -> None:
    """Record as failed what took too much, so that no further try takes it up unchanged.

    Where the worker has but a copy of the job's folder this has no effect: the next try takes it up once, alone.
    """
    if folder:
        for name, times in evaluations_cut_off(read_events(folder)).items():
            if times:
                append_event(folder, "evaluation", input=name, error=reason, final=True)


def _all_given_up(folder: Path | None) -> bool:
    """Whether what failed is only what took too much, which a rule for code that raises must not bring back."""
    outcomes = evaluation_outcomes(read_events(folder)) if folder else {}
    failed = [outcome for outcome in outcomes.values() if "error" in outcome]
    return bool(failed) and all(outcome.get("final") for outcome in failed)
