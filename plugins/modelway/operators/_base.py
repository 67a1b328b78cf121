"""What all operators share: how an error of ours becomes a task's failure, and how jobs are followed."""

import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowFailException

from modelway.artifacts.store import Artifact, ArtifactStore
from modelway.backends.base import Backend, Handle, Job, JobState, JobStatus, Options, read_log
from modelway.errors import JobFailed, JobLost, ModelwayError
from modelway.hooks.backend import backend_from_airflow
from modelway.hooks.connection import settings_from_airflow

#: how many of a failed job's last lines its error repeats
LAST_LINES = 20
#: shorter waits are done in the worker, see docs/adr/0005-short-waits-stay-in-the-worker.md
PATIENCE_SECONDS = 15.0
POLL_SECONDS = 0.5


class ModelwayOperator(BaseOperator):
    """An operator whose work is in ``run``; a terminal error of ours fails the task without further tries."""

    def execute(self, context: Context) -> Any:
        """Run the operator."""
        with failures_told(self, context):
            return self.run(context)

    @abstractmethod
    def run(self, context: Context) -> Any:
        """Do the work and return what goes to XCom: ids, URIs, digests and a few numbers."""


@contextmanager
def failures_told(operator: BaseOperator, context: Context) -> Iterator[None]:
    """Log an error of ours in plain words, leave it as XCom ``failure``, and fail the task the way the error asks."""
    try:
        yield
    except ModelwayError as error:
        context["ti"].xcom_push(key="failure", value=str(error))
        operator.log.error("%s", error)
        if error.retryable:
            raise
        raise AirflowFailException(str(error)) from None


class JobOperator(ModelwayOperator):
    """An operator whose work is one job: submit it (or find it again), wait deferred, collect what it made."""

    template_fields: Sequence[str] = ("backend", "options")
    _following: tuple[Backend, Handle] | None = None
    _killed = False

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
        home = settings_from_airflow().home
        backend = backend_from_airflow(self.backend, home=home)
        handle = backend.submit(backend.build_request(self.job(context), Options(**self.options)))
        self.log.info("job %s in %s", handle.name, handle.place)
        status, offset = self._follow(backend, handle)
        if status.state.is_terminal:
            return self._conclude(context, handle, status)
        from modelway.triggers.job import JobTrigger

        trigger = JobTrigger(handle=handle.to_dict(), home=str(home), offset=offset)
        self.defer(trigger=trigger, method_name="resume")

    def _follow(self, backend: Backend, handle: Handle) -> tuple[JobStatus, int]:
        """Stream the job's log for as long as patience lasts; return its status and how far its log was read."""
        self._following = backend, handle
        if self._killed:
            backend.cancel(handle)
        offset, until = 0, time.monotonic() + PATIENCE_SECONDS
        while True:
            status = backend.describe(handle)
            lines, offset = read_log(backend, handle, offset=offset)
            for line in lines:
                self.log.info("%s", line)
            if status.state.is_terminal or time.monotonic() > until:
                self._following = None
                return status, offset
            time.sleep(POLL_SECONDS)

    def resume(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Go on when the trigger has seen the job end."""
        with failures_told(self, context):
            handle, status = Handle.from_dict(event["handle"]), JobStatus.from_dict(event["status"])
            return self._conclude(context, handle, status)

    def _conclude(self, context: Context, handle: Handle, status: JobStatus) -> Any:
        backend = backend_from_airflow(self.backend, home=settings_from_airflow().home)
        if status.state is not JobState.SUCCEEDED:
            # Of a job that vanished, parts may live on.
            backend.cancel(handle)
            lines, _ = read_log(backend, handle)
            raise _failure(self.job(context).stage, handle, status, lines[-LAST_LINES:])
        return self.collect(context, job=self.job(context), folder=backend.folder(handle), status=status)

    def on_kill(self) -> None:
        """Stop the job when a user ends the task while the worker still follows it; later the trigger does.

        Airflow calls this from a signal handler, and what it interrupted goes on afterwards.
        """
        self._killed = True
        if self._following:
            backend, handle = self._following
            backend.cancel(handle)


def _failure(stage: str, handle: Handle, status: JobStatus, last: Sequence[str]) -> ModelwayError:
    lines = "\n".join(f"  | {line}" for line in last)
    reason = status.reason or f"the job ended as {status.state.value}"
    told = f"stage '{stage}' failed: {reason}"
    kind = JobLost if status.retryable else JobFailed
    return kind(
        told, do=f"Read the job's last lines, or all of them in {handle.place}/try-{handle.attempt}/log.txt:\n{lines}"
    )


def run_key(context: Context) -> str:
    """Return what names this DAG run among all runs of all DAGs."""
    dag_run = context["dag_run"]
    return f"{dag_run.dag_id}/{dag_run.run_id}"


def job_key(context: Context, *, item: str | None = None) -> str:
    """Return what names a task's job within its run; mapped tasks give the ``item`` they work on, never their index."""
    task_id = context["ti"].task_id
    return f"{task_id}/{item}" if item else task_id


def actor(context: Context) -> str:
    """Return who triggered the run, or ``airflow`` when its schedule did."""
    return context["dag_run"].triggering_user_name or "airflow"


def clear_number(context: Context) -> int:
    """Return how often the DAG run was cleared."""
    return context["dag_run"].clear_number or 0


def store_from(settings: Any) -> ArtifactStore:
    """Return the artifact store of a deployment."""
    return ArtifactStore(settings.artifact_root)


def code_of(code: Mapping[str, Any]) -> Artifact:
    """Return the code package that PackageCodeOperator gave."""
    return Artifact.from_dict(code)


def plan_of(code: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what PlanRunOperator decided; nothing in a DAG without one."""
    plan: Mapping[str, Any] = code.get("plan") or {}
    return plan


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
