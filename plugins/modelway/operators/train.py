"""Train one stage of a model."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from airflow.sdk import Context
from airflow.sdk.configuration import conf

from modelway.backends.base import Job, JobStatus
from modelway.errors import DigestMismatch, JobFailed
from modelway.fields.refusal import Refusal, shown
from modelway.job.checkpoints import open_recorded
from modelway.job.contract import damage, recorded_checkpoints
from modelway.operators import _argument_checks as checks
from modelway.operators._checks import Checks
from modelway.operators.arguments import is_known, same_source, unused_params
from modelway.operators.context import clear_number, job_key, map_index, run_key
from modelway.operators.job_operator import JobOperator
from modelway.runs.batches import evenly_spaced
from modelway.runs.candidates import params_text
from modelway.runs.job_fields import checkpoint_fields, plan_fields
from modelway.runs.mapped import map_item
from modelway.runs.messages.candidates import Candidate
from modelway.runs.messages.checkpoints import Checkpoint, StageReport, to_xcom
from modelway.runs.messages.code import RunPlan
from modelway.runs.messages.message import Xcom
from modelway.runs.reported import cost_of, gpus, stopped_early, store_events


class TrainModelOperator(JobOperator):
    """Run ``train(job)`` of the model's code, or a command, as one job, and store its checkpoints.

    After a killed attempt the next one continues from the stage's last whole checkpoint. By the plan of
    the run, the stage gets data sets and more parameters, is skipped, or starts from an earlier version's checkpoint.
    Expanded over parameters, ``.partial(code=…).expand(job_params=[…])``, each training is a stage ``<stage>-<index>``.
    Expanded over candidates, it has the stage's name and returns its own checkpoints alone, with the candidate's name
    before theirs; a candidate that has finished is not trained again when the run is cleared.

    :param code: what PackageCodeOperator returned, or PlanRunOperator
    :param stage: the stage's name; checkpoints are named after it
    :param job_params: the parameters that the code finds in ``job.params``
    :param seed: makes the stage repeatable
    :param start_from: the checkpoints that the TrainModelOperator of the stage before returned
    :param command: a program to run in place of ``train(job)``
    :param candidate: one of the candidates that DrawCandidatesOperator or ChooseCandidatesOperator returned: its
        parameters precede ``job_params``, and it starts from its own checkpoint
    :param stop: when the training of a candidate ends early: ``{metric, above, below, from_step}``
    :param backend: where the job runs
    :param options: what it may use, see ``modelway.backends.base.Options``

    Returns the checkpoints of the stages before and of this one, ``[{id, stage, step, uri, digest, size}]``; expand an
    EvaluateCheckpointOperator over it, which gets evenly spaced ones where Airflow does not map over all. The XCom
    ``report`` (``task.output["report"]``) holds ``{stage, params, seed, events, backend, seconds, cpu_seconds, gpu,
    peak_memory_bytes, image_digest, skipped}``.
    """

    template_fields: Sequence[str] = (
        *JobOperator.template_fields,
        "code",
        "stage",
        "job_params",
        "seed",
        "start_from",
        "command",
        "candidate",
        "stop",
    )
    accepts: ClassVar[Checks] = {
        **JobOperator.accepts,
        "code": checks.CODE,
        "stage": checks.STAGE,
        "job_params": checks.PARAMS,
        "seed": checks.SEED,
        "start_from": checks.START_FROM,
        "command": checks.COMMAND,
        "candidate": checks.CANDIDATE,
        "stop": checks.PARAMS,
    }

    def __init__(
        self,
        *,
        code: Any,
        stage: str = "train",
        job_params: Any = None,
        seed: Any = 0,
        start_from: Any = None,
        command: Any = None,
        candidate: Any = None,
        stop: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.code = code
        self.stage = stage
        self.job_params = job_params
        self.seed = seed
        self.start_from = start_from
        self.command = command
        self.candidate = candidate
        self.stop = stop
        self.check_arguments()

    def conflicts(self) -> Iterable[tuple[str, Refusal]]:
        """Return a refusal of a stage name that another training of the same code has: checkpoint names would clash."""
        yield from unused_params(self)
        if not self.has_dag() or not is_known(self.stage):  # type: ignore[no-untyped-call]
            return
        for task in self.dag.tasks:
            if not isinstance(task, TrainModelOperator) or task is self or task.stage != self.stage:
                continue
            if same_source(task.code, self.code):
                yield "stage", _duplicate_stage(task.task_id, self.stage)

    @classmethod
    def mapped_conflicts(cls, shared: Mapping[str, Any], dag: Any) -> Iterable[tuple[str, Refusal]]:
        """Return a refusal of a stage name that another mapped training of the same code has."""
        stage, code = shared.get("stage", "train"), shared.get("code")
        for task in dag.tasks if dag else ():
            other = getattr(task, "partial_kwargs", {})
            if getattr(task, "operator_class", None) is not cls or other.get("stage", "train") != stage:
                continue
            if same_source(other.get("code"), code):
                yield "stage", _duplicate_stage(task.task_id, stage)

    def run(self, context: Context) -> Any:
        """Train, unless the run skips the stage."""
        if self.stage not in RunPlan.from_xcom(self.code).skip:
            return super().run(context)
        self.log.info("stage '%s' is skipped, as the run's parameter skip says", self.stage)
        report = StageReport(
            stage=self._name(context),
            seed=int(self.seed),
            backend=self.backend,
            gpu=gpus(self.options),
            skipped=True,
            candidate=self._of.id if self._of else None,
            place=self._of.place if self._of else None,
        )
        context["ti"].xcom_push(key="report", value=report.to_xcom())
        return [] if self._of else to_xcom(self._start_from())

    @property
    def _of(self) -> Candidate | None:
        """The candidate that is trained."""
        return Candidate.from_xcom(self.candidate) if self.candidate else None

    @property
    def which(self) -> str:
        """A readable name of the candidate; a ``map_index_template`` can show it: ``{{ task.which }}``."""
        return f"{self._of.id} {params_text(self._of.params)}" if self._of else self.stage

    def _start_from(self) -> list[Checkpoint]:
        """Return the checkpoints of the stages before, of a candidate its last one."""
        if self._of:
            return [self._of.checkpoint] if self._of.checkpoint else []
        return [Checkpoint.from_xcom(each) for each in self.start_from or ()]

    def _name(self, context: Context) -> str:
        """Return the stage's name among all stages of the run."""
        index = None if self._of else map_index(self, context)
        return self.stage if index is None else f"{self.stage}-{index}"

    def _item(self, context: Context) -> str | None:
        """Return what distinguishes the job of a mapped task from those of the other tasks."""
        before = [checkpoint.digest for checkpoint in self._start_from()]
        if of := self._of:
            params = {**(self.job_params or {}), **of.params}
            return map_item(of.id, params=params, seed=self.seed, command=self.command, start_from=before)
        if (index := map_index(self, context)) is None:
            return None
        return map_item(index, params=self.job_params, seed=self.seed, command=self.command, start_from=before)

    def job(self, context: Context) -> Job:
        """Return the training job."""
        plan = RunPlan.from_xcom(self.code)
        checkpoints = self._start_from() or ([plan.base.checkpoint] if plan.base else [])
        of = self._of
        return Job(
            model=plan.code.model,
            run=run_key(context),
            key=job_key(context, item=self._item(context)),
            stage=self._name(context),
            action="train",
            # A candidate that has finished is found again after a clear.
            clear_number=0 if of else clear_number(context),
            module=plan.code.module,
            command=tuple(self.command) if self.command else None,
            params={**plan.params, **(self.job_params or {}), **(of.params if of else {})},
            seed=int(self.seed),
            stop=self.stop if of else None,
            code=plan.code.artifact,
            **checkpoint_fields({"checkpoint": checkpoints[-1]} if checkpoints else {}),
            **plan_fields(plan),
        )

    def collect(self, context: Context, *, job: Job, folder: Path, status: JobStatus) -> list[Xcom]:
        """Store the checkpoints and the events."""
        made = self._stored_checkpoints(context, job, folder)
        if not made:
            raise JobFailed(
                f"stage '{self.stage}' ended without a whole checkpoint",
                where=str(folder),
                do="Write one with `with job.checkpoint(step=…) as path:`, or into output/checkpoints from a command",
            )
        checkpoints, notes = (made, []) if self._of else self._mappable([*self._start_from(), *made])
        cost = cost_of(folder, status=status, options=self.options, backend=self.backend)
        report = StageReport(
            **vars(cost),
            stage=self._name(context),
            params=dict(job.params),
            seed=job.seed,
            events=store_events(self.artifacts, folder, model=job.model, warn=self.log.warning, notes=notes),
            candidate=self._of.id if self._of else None,
            place=self._of.place if self._of else None,
            stopped=stopped_early(folder) if self._of else None,
        )
        context["ti"].xcom_push(key="report", value=report.to_xcom())
        return to_xcom(checkpoints)

    def _stored_checkpoints(self, context: Context, job: Job, folder: Path) -> list[Checkpoint]:
        """Store the stage's whole checkpoints."""
        stored, of = [], self._of
        for checkpoint in recorded_checkpoints(folder):
            if problem := damage(checkpoint):
                self.log.warning("checkpoint %s is left out: %s", checkpoint.id, problem)
                continue
            opened = partial(open_recorded, checkpoint)
            # The job is over, so that nobody writes to its checkpoints any more.
            artifact = self.artifacts.put(checkpoint.path, model=job.model, opened=opened, shared=True)
            if artifact.digest != checkpoint.digest:
                raise DigestMismatch("the checkpoint changed while it was stored", where=str(checkpoint.path))
            stored.append(
                Checkpoint(
                    id=f"{of.id}-{checkpoint.id}" if of else checkpoint.id,
                    stage=self._name(context),
                    step=checkpoint.step,
                    uri=artifact.uri,
                    digest=artifact.digest,
                    size=artifact.size,
                    candidate=of.id if of else None,
                    params=of.params if of else None,
                    place=of.place if of else None,
                )
            )
        return stored

    def _mappable(self, checkpoints: list[Checkpoint]) -> tuple[list[Checkpoint], list[str]]:
        """Return at most as many checkpoints as Airflow maps over, evenly spaced, where a task is mapped, and a note.

        Airflow refuses to store a longer list, which would lose the training.
        """
        most = conf.getint("core", "max_map_length")
        if len(checkpoints) <= most or not any(self.iter_mapped_dependants()):
            return checkpoints, []
        note = (
            f"of {len(checkpoints)} checkpoints {most} are passed on, evenly spaced and the last one: Airflow maps "
            "tasks over no more ([core] max_map_length); all are in the artifact store, and DivideCheckpointsOperator "
            "(per_job: auto) takes all"
        )
        self.log.warning("%s", note)
        return evenly_spaced(checkpoints, most), [note]


def _duplicate_stage(task_id: str, stage: str) -> Refusal:
    what = f"the training '{task_id}' has the stage {shown(stage)} too"
    return Refusal(what, do="Give each training of a model a stage of its own")
