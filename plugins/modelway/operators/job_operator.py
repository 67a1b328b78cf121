"""Operators that run one job: submitted or reused, followed in the worker, then deferred, and collected."""

import math
import time
import uuid
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowTaskTimeout

from modelway.backends.base import Backend, Handle, Job, JobState, JobStatus, Options
from modelway.errors import JobLost, ModelwayError, SubmitFailed
from modelway.failures import FailureKind
from modelway.fields.units import format_size
from modelway.following import metrics
from modelway.following.claim import Claim
from modelway.following.deferral import DeferredJob, abandoned_jobs, forget_deferral, record_deferral
from modelway.following.follower import Follower
from modelway.following.hosts import JobHost, stays_in_worker
from modelway.following.log_position import LogPosition
from modelway.following.marked import MARKS, record_marked
from modelway.following.memory import AttemptMemory
from modelway.following.started_jobs import StartedJob, forget_started, record_started
from modelway.following.task_state import CONTINUES, task_state
from modelway.hooks.backend import backend_from_airflow
from modelway.hooks.secrets import with_secrets
from modelway.operators import _argument_checks as checks
from modelway.operators._checks import Checks
from modelway.operators.base import ModelwayOperator, translate_errors
from modelway.operators.context import run_key
from modelway.runs.failure import failure_of, job_error, last_lines, submit_error

if TYPE_CHECKING:
    from modelway.triggers.job import JobTrigger

#: shorter waits are done in the worker, see docs/adr/0005-short-waits-stay-in-the-worker.md
PATIENCE_SECONDS = 15.0
POLL_SECONDS = 0.5


class JobOperator(ModelwayOperator):
    """An operator that runs one job: submit it (or reuse it), wait deferred, collect its output."""

    template_fields: Sequence[str] = ("backend", "options")
    accepts: ClassVar[Checks] = {"backend": checks.BACKEND, "options": checks.OPTIONS}
    _end_requested = False
    #: the attempt was ended by a mark in Airflow: the end of its job is no failure of its own
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
        """Store the output of a succeeded job and return the XCom."""

    def run(self, context: Context) -> Any:
        """Submit the job and wait for it, deferred unless it ends soon."""
        home = self.settings.home
        backend, handle = self._submit(context, home)
        record_started(home, StartedJob(handle=handle, run=run_key(context)))
        self.log.info("job %s in %s", handle.name, handle.place)
        claim = Claim(home=home, job=handle.name, attempt=int(context["ti"].try_number))
        if stays_in_worker(self.backend):
            return self._stay(context, backend, handle, claim=claim)
        status, offset = self._follow(context, backend, handle, claim=claim, patience=PATIENCE_SECONDS)
        if status.state.is_terminal:
            return self._conclude(context, handle, status)
        self._defer(context, handle, home=home, offset=offset)

    def _stay(self, context: Context, backend: Backend, handle: Handle, *, claim: Claim) -> Any:
        """Follow the job to its end: the triggerer may be on a host that cannot see it."""
        home, follower = self.settings.home, uuid.uuid4().hex
        # Of tasks whose process was killed here, and that have ended elsewhere meanwhile.
        for job in abandoned_jobs(home):
            self.log.warning("job %s was left here by a task that is over: it is stopped", job.handle.name)
            backend_from_airflow(job.handle.backend, home=home).cancel(job.handle)
            forget_deferral(home, job.follower)
        if (why := JobHost(context=context, job=self.job(context)).moved()) is not None:
            self.log.warning("%s", why)
        record_deferral(home, self._deferred(context, handle, follower))
        try:
            status, _ = self._follow(context, backend, handle, claim=claim, patience=math.inf)
        finally:
            forget_deferral(home, follower)
        return self._conclude(context, handle, status)

    def _defer(self, context: Context, handle: Handle, *, home: Path, offset: int) -> None:
        follower = uuid.uuid4().hex
        record_deferral(home, self._deferred(context, handle, follower))
        trigger = self.trigger(context, handle=handle.to_dict(), home=str(home), offset=offset, follower=follower)
        self.defer(trigger=trigger, method_name="resume")

    def trigger(self, context: Context, **job: Any) -> "JobTrigger":
        """Return the trigger that follows the job.

        :param job: the arguments of ``JobTrigger``
        """
        from modelway.triggers.job import JobTrigger

        return JobTrigger(**job)

    def _deferred(self, context: Context, handle: Handle, follower: str) -> DeferredJob:
        """Return the record of a job that this task follows."""
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
        """Start the job or reuse it; an earlier attempt may have raised its memory above the spec's."""
        job, options = self.job(context), Options(**self.options)
        limit = AttemptMemory(context=context, job=job, options=options).limit()
        if limit is not None and limit != options.memory_bytes:
            self.log.info("the job gets %s of memory: an attempt before ran out of it", format_size(limit))
        try:
            backend = backend_from_airflow(self.backend, home=home)
            final = self.final_options(replace(options, memory_bytes=limit))
            return backend, backend.submit(backend.build_request(job, final))
        except SubmitFailed as error:
            raise submit_error(error, stage=job.stage, options=options) from error

    def final_options(self, options: Options) -> Options:
        """Return the options with the secrets that the job gets, just before it is submitted."""
        return with_secrets(options)

    def _follow(
        self, context: Context, backend: Backend, handle: Handle, *, claim: Claim, patience: float
    ) -> tuple[JobStatus, int]:
        """Stream the job's log until the task defers; return the job's status and how far its log was read.

        :param patience: seconds until the task defers; infinite where it must not
        :raises JobLost: a later attempt of the task follows the job
        """
        if not self._end_requested:
            claim.acquire()
        follower, until = Follower(backend, handle), time.monotonic() + patience
        try:
            while True:
                if self._end_requested and self._hand_over(context, backend, handle, claim) and until < math.inf:
                    until = 0.0
                if (newer := claim.newer()) is not None:
                    raise JobLost(f"attempt {newer} of this task follows the job {handle.name}: this one ends")
                step = follower.step()
                for line in step.lines:
                    self.log.info("%s", line)
                if step.over or (time.monotonic() > until and not step.more):
                    return step.status, follower.offset
                if not step.more:
                    self.still_runs(context)
                    time.sleep(POLL_SECONDS)
        except AirflowTaskTimeout:
            self._stop(backend, handle, claim)
            raise
        finally:
            claim.release()

    def still_runs(self, context: Context) -> None:
        """Do what has to be done now and again while the worker follows the job: nothing here."""

    def resume(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Continue when the trigger reports that the job has ended."""
        with translate_errors(self, context):
            handle, status = Handle.from_dict(event["handle"]), JobStatus.from_dict(event["status"])
            home, follower = self.settings.home, event.get("follower", "")
            LogPosition(home=home, follower=follower).forget()
            forget_deferral(home, follower)
            return self._conclude(context, handle, status)

    def _conclude(self, context: Context, handle: Handle, status: JobStatus) -> Any:
        home = self.settings.home
        backend = backend_from_airflow(self.backend, home=home)
        job = self.job(context)
        self._measure(context, job, status)
        if status.failure is not FailureKind.UNREACHABLE:
            forget_started(home, handle)
        if status.state is not JobState.SUCCEEDED:
            raise self._failed(context, backend, handle, job, status)
        return self.collect(context, job=job, folder=backend.folder(handle), status=status)

    def _measure(self, context: Context, job: Job, status: JobStatus) -> None:
        """Send how the job ended, how long it ran, and how long its task waited for that."""
        about: dict[str, Any] = {"model": job.model, "stage": job.stage, "backend": self.backend}
        metrics.count("job.ended", **about, state=status.state.value, failure=status.failure and status.failure.value)
        if status.seconds is None:
            return
        metrics.timing("job.duration", status.seconds, **about)
        if (began := getattr(context["ti"], "start_date", None)) is not None:
            waited = (datetime.now(UTC) - began).total_seconds() - status.seconds
            metrics.timing("job.queued", waited, **about)

    def _failed(self, context: Context, backend: Backend, handle: Handle, job: Job, status: JobStatus) -> ModelwayError:
        """Return the error of a job that did not succeed; parts of a lost job may still run and are stopped."""
        options, last = Options(**self.options), tuple[str, ...]()
        # A backend that does not answer could not stop the job, and the next attempt reuses it.
        if status.failure is not FailureKind.UNREACHABLE:
            try:
                backend.cancel(handle)
                last = last_lines(backend, handle)
            except Exception as error:
                self.log.warning("the job's end cannot be read: %s: %s", type(error).__name__, error)
        failure = failure_of(status, handle=handle, stage=job.stage, rules=options.retry_rules, last=last)
        return job_error(failure, handle=handle, more=AttemptMemory(context=context, job=job, options=options).more)

    def on_kill(self) -> None:
        """Set the flag that the task has to end; ``_follow`` acts on it. After the deferral the trigger does.

        Airflow calls this from a signal handler, and what it interrupted continues afterwards. When the task takes
        longer than ``execution_timeout``, this is called too, after ``_follow`` has stopped the job.
        """
        self._end_requested = True

    def _hand_over(self, context: Context, backend: Backend, handle: Handle, claim: Claim) -> bool:
        """Stop the job if the task is over; return whether the triggerer must follow it, since only the worker ends."""
        self._end_requested = False
        try:
            state = task_state(context["ti"])
        except KeyError:
            state = "removed"
        except Exception as error:
            # The next attempt reuses the job, and the end of the run stops it.
            self.log.warning("job %s is left running: %s: %s", handle.name, type(error).__name__, error)
            return False
        if state not in CONTINUES:
            self._stop(backend, handle, claim)
            self.was_marked = state in MARKS and not claim.is_superseded()
            if self.was_marked:
                record_marked(self._deferred(context, handle, ""), state)
            return False
        self.log.info("job %s is left running: the worker has to end, the task is %s", handle.name, state)
        return state == "running" and not claim.is_superseded()

    def _stop(self, backend: Backend, handle: Handle, claim: Claim) -> None:
        if claim.is_superseded():
            self.log.info("job %s is left running: a later attempt of the task follows it", handle.name)
            return
        try:
            backend.cancel(handle)
        except Exception as error:
            self.log.error("job %s could not be stopped: %s: %s", handle.name, type(error).__name__, error)
