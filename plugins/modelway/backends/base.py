"""The port of the backends: what a job is, how it is submitted, followed and stopped."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from modelway import names
from modelway.errors import CapabilityMissing
from modelway.failures import FailureKind, RetryRule
from modelway.fields.refusal import KeyPath, Refusal
from modelway.ports import Member, load

if TYPE_CHECKING:
    from modelway.artifacts.store import Artifact

#: what `make images` makes
JOB_IMAGE = "modelway-job:0.1.0"
#: what the name of a folder begins with where a worker writes an archive, in the job's folder
ARCHIVES = ".archive-"


class JobState(StrEnum):
    """The state of a job."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"
    """the backend does not answer now; the job may well continue"""

    @property
    def is_terminal(self) -> bool:
        """Whether the job will not change any more."""
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a job may use; what a backend does not support is refused before anything runs."""

    cpu: float | None = field(default=None, metadata={"help": "CPU cores"})
    memory_bytes: int | None = field(default=None, metadata={"help": "memory of all processes together, in bytes"})
    disk_bytes: int | None = field(default=None, metadata={"help": "scratch space on the job's machine, in bytes"})
    gpu: int = field(default=0, metadata={"help": "whole GPUs of each node"})
    gpu_type: str = field(default="nvidia.com/gpu", metadata={"help": "the vendor's key of a GPU"})
    nodes: int = field(default=1, metadata={"help": "machines that work on the job together"})
    processes_per_node: int = field(default=1, metadata={"help": "processes of each node, as torchrun counts them"})
    timeout_seconds: int | None = field(default=None, metadata={"help": "the job is stopped after this time"})
    image: str | None = field(
        default=None, metadata={"help": "the image of a container; default: the default job image"}
    )
    storage: Mapping[str, Any] | None = field(
        default=None, metadata={"help": "where the jobs' folders are: the spec's section storage"}
    )
    platform: Mapping[str, Any] = field(
        default_factory=dict, metadata={"help": "what only this backend knows: the spec's section of its name"}
    )
    retry_rules: Mapping[str, str] = field(
        default_factory=dict, metadata={"help": "kind of failure to retry, more-memory or fail, see modelway.failures"}
    )


def image_of(options: Options) -> str:
    """Return the image of a job's containers: the spec's, else ``MODELWAY_JOB_IMAGE``, else ``JOB_IMAGE``."""
    return options.image or os.environ.get("MODELWAY_JOB_IMAGE") or JOB_IMAGE


@dataclass(frozen=True, kw_only=True)
class Job:
    """One unit of work for a backend.

    A job is known by ``(model, run, key)``: submitting it again finds it again. ``clear_number`` counts how often the
    DAG run was cleared: a job that succeeded before a clear is run again after it, one that failed continues.
    """

    model: str
    run: str
    key: str
    """what the job is within its run, such as the task's id"""
    stage: str
    """the stage's name as the model's author knows it"""
    action: str
    """``train``, ``evaluate``, ``freeze``, ``verify``, ``image`` or ``accept``"""
    clear_number: int = 0
    module: str | None = None
    """the model's Python file inside the code package"""
    command: tuple[str, ...] | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    code: "Artifact | None" = None
    inputs: "Mapping[str, Artifact]" = field(default_factory=dict)
    checkpoints: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """the inputs that are checkpoints: name → ``{id, stage, step}``, and ``params`` of a candidate's"""
    datasets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """name → ``{uri, digest, version}``"""
    interval: Mapping[str, str | None] = field(default_factory=dict)
    """the run's data interval: ``start`` and ``end`` in ISO 8601, None where there is none"""
    partition: str | None = None
    stop: Mapping[str, Any] | None = None
    """when the training of a candidate ends early, see ``modelway.job.early_end``"""
    freeze_format: str | None = None
    """the format that a job freezes into, see ``modelway.job.freezing.freeze.FORMATS``"""
    endpoint: Mapping[str, Any] | None = None
    """where the version that the job accepts is served: ``{url, model, version}``"""

    def contract(self) -> dict[str, Any]:
        """Return the content of ``job.json`` (see ``modelway.job.contract``)."""
        return {
            "format": 1,
            "model": self.model,
            "run": self.run,
            "stage": self.stage,
            "action": self.action,
            "module": self.module,
            "command": list(self.command) if self.command else None,
            "params": dict(self.params),
            "seed": self.seed,
            "datasets": {name: dict(dataset) for name, dataset in self.datasets.items()},
            "interval": {side: self.interval.get(side) for side in ("start", "end")},
            "partition": self.partition,
            # The default is left out: another contract is another job, and older ones do not have it.
            **({"freeze_format": self.freeze_format} if self.freeze_format not in (None, "onnx") else {}),
            **({"stop": dict(self.stop)} if self.stop else {}),
            **({"endpoint": dict(self.endpoint)} if self.endpoint else {}),
            "inputs": {name: f"inputs/{name}" for name in self.inputs},
            "checkpoints": {name: dict(known) for name, known in self.checkpoints.items()},
            "digests": {
                "code": self.code.digest if self.code else None,
                **{name: artifact.digest for name, artifact in self.inputs.items()},
            },
        }

    def name(self, attempt: int) -> str:
        """Return the job's name at an attempt."""
        return names.job_name(model=self.model, run=self.run, stage=self.key, attempt=attempt)


@dataclass(frozen=True, kw_only=True)
class Handle:
    """Identifies a submitted job, for any process."""

    backend: str
    name: str
    place: str
    """where the backend keeps the job: a folder, a namespace, a project"""
    attempt: int
    mark: str = ""
    """identifies the job for a process that does not see its place, where the backend has such a thing"""

    def to_dict(self) -> dict[str, Any]:
        """Return the handle as plain data for a trigger."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Handle":
        """Read a handle from plain data."""
        return cls(**data)


@dataclass(frozen=True, kw_only=True)
class JobStatus:
    """What is known of a job now."""

    state: JobState
    reason: str | None = None
    """one line that says why a job failed"""
    retryable: bool = False
    """whether another attempt can succeed, unless the spec says otherwise"""
    failure: FailureKind | None = None
    """what made a job fail; None for a job that did not"""
    waiting: str | None = None
    """why a job does not run yet, as the backend says it"""
    peak_memory_bytes: int | None = None
    seconds: float | None = None
    image_digest: str | None = None
    """digest of its container's image: the registry's, else the engine's or node's own"""

    def to_dict(self) -> dict[str, Any]:
        """Return the status as plain data for a trigger's event."""
        return asdict(self) | {
            "state": self.state.value,
            "failure": self.failure.value if self.failure else None,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "JobStatus":
        """Read a status from plain data."""
        failure = FailureKind(data["failure"]) if data.get("failure") else None
        return cls(**{**data, "state": JobState(data["state"]), "failure": failure})

    @classmethod
    def failed(cls, kind: FailureKind, reason: str, **known: Any) -> "JobStatus":
        """Return the status of a job that failed; whether it is worth a retry follows from the kind."""
        retryable = kind.rule is not RetryRule.FAIL
        return cls(state=JobState.FAILED, failure=kind, reason=reason, retryable=retryable, **known)


class Backend(Protocol):
    """Where jobs run; opened by a ``BackendMember``."""

    capabilities: frozenset[str]
    """of: cancel, logs, gpu, gpu_type, cpu_limit, memory_limit, disk_limit, multi_node, multi_node_on_store (several
    nodes whose folder is on an object store), multi_process, image, storage
    """

    def build_request(self, job: Job, options: Options) -> Any:
        """Return what would be sent: pure, printable, comparable.

        :raises CapabilityMissing: an option that this backend does not support
        """

    def submit(self, request: Any) -> Handle:
        """Start the job, or find the one that was started before for the same (model, run, key)."""

    def describe(self, handle: Handle) -> JobStatus:
        """Return the job's status."""

    def logs(self, handle: Handle, *, offset: int = 0) -> tuple[str, int]:
        """Return what the job printed since ``offset``, whole lines while it runs, and the new offset.

        What an offset counts is up to the backend: 0 is the start, and the same job returns the same lines again.
        """

    def cancel(self, handle: Handle) -> None:
        """Stop the job with everything it started; a job that is over is left alone."""

    def folder(self, handle: Handle) -> Path:
        """Return the job's folder as a local path, with ``output/`` and ``events.jsonl``.

        Where the worker cannot see the job's own folder, this is a copy of it as it is now.
        """

    def unfinished(self, *, run: str) -> list[Handle]:
        """Return the jobs of a run that are not over, so that none outlives its run."""


@runtime_checkable
class Paced(Protocol):
    """A backend whose jobs want to be inspected less often where there are many."""

    @property
    def poll_seconds(self) -> float:
        """How long a follower waits between two inspections of one job."""


@runtime_checkable
class Refusable(Protocol):
    """A backend that knows whether its credentials were refused."""

    @property
    def credentials_refused(self) -> bool:
        """Whether they were, and not only for now: its connection may have new ones."""


@runtime_checkable
class RunFolders(Protocol):
    """A backend that can remove what the jobs of a run leave, once nobody needs it."""

    def discard(self, *, model: str, run: str, storage: Mapping[str, Any] | None = None) -> int:
        """Remove code, inputs and output of a run's jobs that are over; return how many bytes became free here.

        Logs and reports stay.

        :param storage: the spec's section ``storage``, for a backend whose jobs' folders are there
        """


@runtime_checkable
class JobFolders(RunFolders, Protocol):
    """A backend whose jobs' folders stay until they are removed."""

    def discard_old(
        self, *, model: str, before: datetime, storage: Mapping[str, Any] | None = None, dry_run: bool = False
    ) -> int:
        """Do so for all jobs of a model that ended before a time.

        :param dry_run: only return how many bytes would become free
        """


@runtime_checkable
class OwnFolders(JobFolders, Protocol):
    """A backend that keeps them on this machine, and knows whose they are."""

    def models(self) -> list[str]:
        """Return the names of the models that have such folders."""


@dataclass(frozen=True, kw_only=True)
class BackendMember(Member[Backend]):
    """The descriptor of a backend; ``open(*, home, client=None)`` returns the backend.

    ``capabilities`` is what it can support on one machine or another, see ``Backend.capabilities``. Its section stands
    in the spec under its name.
    """

    hook: str | None = None
    """Import path of the hook of an Airflow provider whose ``get_conn()`` is the client, for the optional connection
    ``modelway_<name>``; None: the client is that connection's host"""
    secret_form: str | None = None
    """how ``env`` of its section refers to a secret, where it has one"""
    gives_secrets: bool = False
    """whether the worker gives a job the values of its secrets; else they are kept where the job runs"""
    of_host: bool = False
    """whether its jobs are processes of the host of their task, which no other host can see"""
    refused: Callable[[Mapping[str, Any], KeyPath], Iterable[tuple[KeyPath, Refusal]]] | None = None
    """finds what a spec, as written, requests that this backend cannot give, beyond what follows from its
    capabilities; called for each section whose jobs run on it, with the section's path"""
    stop_command: Callable[[Handle], str] | None = None
    """returns the command by which a person stops a job without modelway"""


def backend_member(name: str) -> BackendMember:
    """Return the descriptor of the backend of that name.

    :raises CapabilityMissing: there is no such backend
    """
    member = load("backends", name)
    if not isinstance(member, BackendMember):
        raise CapabilityMissing(f"'{name}' is not described as a backend", do="Let its MEMBER be a BackendMember")
    return member


def load_backend(name: str, *, home: Path, client: Any = None) -> Backend:
    """Return the backend of that name.

    :param home: the embedded home folder, for backends that keep something on this machine
    :param client: the client of the backend's SDK, where the caller has one; else the backend finds its own
    :raises CapabilityMissing: there is no such backend
    """
    return backend_member(name).open(home=home, client=client)
