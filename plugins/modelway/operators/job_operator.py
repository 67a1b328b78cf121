"""Operators whose work is one job: submitted or found again, followed in the worker, then deferred, and collected."""

import time
import uuid
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowTaskTimeout

from modelway.artifacts.store import Artifact
from modelway.backends.base import Backend, Handle, Job, JobState, JobStatus, Options
from modelway.errors import ModelwayError, SubmitFailed
from modelway.failures import FailureKind
from modelway.following.claim import Claim
from modelway.following.deferral import DeferredJob, forget, note
from modelway.following.follower import Follower
from modelway.following.log_position import LogPosition
from modelway.following.marked import MARKS, record_marked
from modelway.following.memory import TriedMemory
from modelway.following.started_jobs import StartedJob, forget_started, record_started
from modelway.following.task_state import GOES_ON, task_state
from modelway.hooks.backend import backend_from_airflow
from modelway.hooks.secrets import with_secrets
from modelway.operators import _argument_checks as checks
from modelway.operators._checks import Checks
from modelway.operators.base import ModelwayOperator, failures_told, plan_of
from modelway.operators.context import run_key
from modelway.runs.failure import failure_of, job_error, last_lines, submit_error
from modelway.spec.units import format_size

#: shorter waits are done in the worker, see docs/adr/0005-short-waits-stay-in-the-worker.md
PATIENCE_SECONDS = 15.0
POLL_SECONDS = 0.5


class JobOperator(ModelwayOperator):
    """An operator whose work is one job: submit it (or find it again), wait deferred, collect what it made."""

    template_fields: Sequence[str] = ("backend", "options")
    accepts: ClassVar[Checks] = {"backend": checks.BACKEND, "options": checks.OPTIONS}
    _asked_to_end = False
    #: a person's mark ended the try: what its job ends with is no failure of its own
    was_marked = False

    def __init__(self, *, backend: str = "local", options: Any = None, **kwargs: Any) -> None:
        """Run on ``backend`` with ``options`` (see ``modelway.backends.base.Options``)."""
        super().__init__(**kwargs)
        self.backend = backend
        self.options = options or {}

    @abstractmethod
    def job(self, context: Context) -> Job:
        """Return the job to run."""

    @abstractmethod
    def collect(self, context: Context, *, job: Job, folder: Path, status: JobStatus) -> Any:
        """Store what the succeeded job left in its folder and return what goes to XCom."""

    def run(self, context: Context) -> Any:
        """Submit the job and wait for it, deferred unless it ends soon."""
        home = self.settings.home
        backend, handle = self._submit(context, home)
        record_started(home, StartedJob(handle=handle, run=run_key(context)))
        self.log.info("job %s in %s", handle.name, handle.place)
        status, offset = self._follow(context, backend, handle, claim=Claim(home=home, job=handle.name))
        if status.state.is_terminal:
            return self._conclude(context, handle, status)
        self._defer(context, handle, home=home, offset=offset)

    def _defer(self, context: Context, handle: Handle, *, home: Path, offset: int) -> None:
        from modelway.triggers.job import JobTrigger

        follower = uuid.uuid4().hex
        note(home, self._deferred(context, handle, follower))
        trigger = JobTrigger(handle=handle.to_dict(), home=str(home), offset=offset, follower=follower)
        self.defer(trigger=trigger, method_name="resume")

    def _deferred(self, context: Context, handle: Handle, follower: str) -> DeferredJob:
        """Return what is noted of a job that this task follows."""
        ti, job = context["ti"], self.job(context)
        return DeferredJob(
            follower=follower,
            handle=handle,
            dag_id=ti.dag_id,
            run_id=ti.run_id,
            task_id=ti.task_id,
            map_index=-1 if ti.map_index is None else ti.map_index,
            model=job.model,
            key=job.key,
            attempt=int(ti.try_number),
            stage=job.stage,
        )

    def _submit(self, context: Context, home: Path) -> tuple[Backend, Handle]:
        """Start the job, or find it again; a try before may have given it more memory than the spec does."""
        job, options = self.job(context), Options(**self.options)
        limit = TriedMemory(context=context, job=job, options=options).limit()
        if limit is not None and limit != options.memory_bytes:
            self.log.info("the job gets %s of memory: a try before ran out of it", format_size(limit))
        try:
            backend = backend_from_airflow(self.backend, home=home)
            given = with_secrets(replace(options, memory_bytes=limit))
            return backend, backend.submit(backend.build_request(job, given))
        except SubmitFailed as error:
            raise submit_error(error, stage=job.stage, options=options) from error

    def _follow(self, context: Context, backend: Backend, handle: Handle, *, claim: Claim) -> tuple[JobStatus, int]:
        """Stream the job's log for as long as patience lasts; return its status and how far its log was read."""
        if not self._asked_to_end:
            claim.take()
        follower, until = Follower(backend, handle), time.monotonic() + PATIENCE_SECONDS
        try:
            while True:
                if self._asked_to_end and self._hand_over(context, backend, handle, claim):
                    until = 0.0
                step = follower.step()
                for line in step.lines:
                    self.log.info("%s", line)
                if step.over or (time.monotonic() > until and not step.more):
                    return step.status, follower.offset
                if not step.more:
                    time.sleep(POLL_SECONDS)
        except AirflowTaskTimeout:
            self._stop(backend, handle, claim)
            raise
        finally:
            claim.give_up()

    def resume(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Go on when the trigger has seen the job end."""
        with failures_told(self, context):
            handle, status = Handle.from_dict(event["handle"]), JobStatus.from_dict(event["status"])
            home, follower = self.settings.home, event.get("follower", "")
            LogPosition(home=home, follower=follower).forget()
            forget(home, follower)
            return self._conclude(context, handle, status)

    def _conclude(self, context: Context, handle: Handle, status: JobStatus) -> Any:
        home = self.settings.home
        backend = backend_from_airflow(self.backend, home=home)
        job = self.job(context)
        if status.failure is not FailureKind.UNREACHABLE:
            forget_started(home, handle)
        if status.state is not JobState.SUCCEEDED:
            raise self._failed(context, backend, handle, job, status)
        return self.collect(context, job=job, folder=backend.folder(handle), status=status)

    def _failed(self, context: Context, backend: Backend, handle: Handle, job: Job, status: JobStatus) -> ModelwayError:
        """Return the error of a job that did not succeed; of one that vanished, parts may live on and are stopped."""
        options, last = Options(**self.options), tuple[str, ...]()
        # What does not answer could not be told to stop, and the next try finds its job again.
        if status.failure is not FailureKind.UNREACHABLE:
            try:
                backend.cancel(handle)
                last = last_lines(backend, handle)
            except Exception as error:
                self.log.warning("the job's end cannot be read: %s: %s", type(error).__name__, error)
        failure = failure_of(status, handle=handle, stage=job.stage, rules=options.retry_rules, last=last)
        return job_error(failure, handle=handle, more=TriedMemory(context=context, job=job, options=options).more)

    def on_kill(self) -> None:
        """Take note that the worker asks the task to end; ``_follow`` sees to it. Later the trigger does.

        Airflow calls this from a signal handler, and what it interrupted goes on afterwards. When the task takes longer
        than ``execution_timeout``, this is called too, after ``_follow`` has stopped the job.
        """
        self._asked_to_end = True

    def _hand_over(self, context: Context, backend: Backend, handle: Handle, claim: Claim) -> bool:
        """Stop the job if the task is over; say whether the triggerer is to follow it, since only the worker ends."""
        self._asked_to_end = False
        try:
            state = task_state(context["ti"])
        except KeyError:
            state = "removed"
        except Exception as error:
            # Whoever comes next finds the job, and the end of the run stops it.
            self.log.warning("job %s is left running: %s: %s", handle.name, type(error).__name__, error)
            return False
        if state not in GOES_ON:
            self._stop(backend, handle, claim)
            self.was_marked = state in MARKS and not claim.is_anothers()
            if self.was_marked:
                record_marked(self._deferred(context, handle, ""), state)
            return False
        self.log.info("job %s is left running: the worker has to end, the task is %s", handle.name, state)
        return state == "running" and not claim.is_anothers()

    def _stop(self, backend: Backend, handle: Handle, claim: Claim) -> None:
        if claim.is_anothers():
            self.log.info("job %s is left running: a later try of the task follows it", handle.name)
            return
        try:
            backend.cancel(handle)
        except Exception as error:
            self.log.error("job %s could not be stopped: %s: %s", handle.name, type(error).__name__, error)


def checkpoint_inputs(given: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return checkpoints by the names of a job's inputs, as fields of ``Job``."""
    return {
        "inputs": {name: Artifact.from_dict(checkpoint) for name, checkpoint in given.items()},
        "checkpoints": {
            name: {key: checkpoint.get(key) for key in ("id", "stage", "step")} for name, checkpoint in given.items()
        },
    }


def planned_inputs(code: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a plan gives to the jobs of the model's code besides parameters, as fields of ``Job``."""
    plan = plan_of(code)
    return {
        "datasets": {
            dataset["name"]: {key: dataset[key] for key in ("uri", "digest", "version")}
            for dataset in plan.get("datasets", ())
        },
        "interval": plan.get("interval", {}),
        "partition": plan.get("partition"),
    }
