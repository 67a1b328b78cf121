"""Jobs as containers of a Docker engine, here or elsewhere: a volume per generation, a container per attempt.

See docs/docker.md for users. What a worker knows of a job is on the engine, in labels and in the volume, so that any
worker finds it again; ``<home>/jobs-docker/<volume>`` is only a copy of what was read. A container is created under a
temporary name, gets its files, and is then renamed: the first to rename it has the attempt, and then it is started.
"""

import contextlib
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from modelway.backends.base import Handle, Job, JobState, JobStatus, Options, image_of
from modelway.backends.docker import files
from modelway.backends.docker.containers import (
    GROUP,
    KEEP_SECONDS,
    MANAGED,
    DockerRequest,
    is_of_deployment,
    job_labels,
    run_labels,
)
from modelway.backends.docker.log import LogReader
from modelway.backends.docker.member import MEMBER
from modelway.backends.docker.status import moment, status_of
from modelway.backends.folders import generations
from modelway.backends.folders.merged_log import read_merged
from modelway.errors import CapabilityMissing, JobLost, SubmitFailed
from modelway.failures import FailureKind
from modelway.job.agent.exit_report import checked_report
from modelway.platforms.deployment import deployment, known_deployment
from modelway.platforms.docker.engine import Engine, Object

#: time for a cancelled job to end by itself
CANCEL_SECONDS = 1
#: the agent enforces the timeout; a container that is still running so much later is stopped from outside
BACKSTOP_SECONDS = 900
#: a container without its name was left by an interrupted submit
UNNAMED_SECONDS = 3600
#: how many old containers, and volumes, one submit removes
REMOVED_AT_ONCE = 20
_NVIDIA = "nvidia.com/gpu"


@dataclass(frozen=True, kw_only=True)
class _Attempt:
    """An attempt's container by the engine's list and its labels."""

    id: str
    name: str
    attempt: int
    generation: int
    volume: str


class DockerBackend:
    """Creates, finds again, follows and stops containers."""

    capabilities = MEMBER.capabilities

    def __init__(self, *, home: Path, client: Any = None) -> None:
        """Work on the engine of ``client`` (the SDK's DockerClient, or an address), else of DOCKER_HOST, else here."""
        self.home = home.absolute()
        self.engine = Engine(client)
        self._logs = LogReader()

    def build_request(self, job: Job, options: Options) -> DockerRequest:
        """Return what would be created; see the port."""
        if options.nodes > 1:
            raise CapabilityMissing(
                f"{options.nodes} nodes requested, the backend 'docker' has one engine",
                do="Set nodes to 1 (processes_per_node may be more), or choose the backend kubernetes",
            )
        if options.disk_bytes:
            raise CapabilityMissing(
                "a limit of the disk was requested, the backend 'docker' has none for volumes",
                do="Remove resources.disk, or choose the backend kubernetes",
            )
        self._refuse_gpus(options)
        _refuse_references(options)
        cores = self.engine.info["NCPU"] if options.cpu else 0
        if options.cpu and options.cpu > cores:
            raise CapabilityMissing(
                f"{options.cpu:g} CPU cores requested, the engine's machine has {cores}",
                do=f"Set resources.cpu to at most {cores}",
            )
        return DockerRequest(job=job, options=options, contract=job.contract(), image=image_of(options))

    def _refuse_gpus(self, options: Options) -> None:
        if not options.gpu:
            return
        if options.gpu_type != _NVIDIA:
            raise CapabilityMissing(
                f"{options.gpu_type} requested, the backend 'docker' knows {_NVIDIA} only",
                do=f"Set resources.gpu_type to {_NVIDIA}, or choose the backend kubernetes",
            )
        if "nvidia" not in self.engine.info["Runtimes"]:
            raise CapabilityMissing(
                f"{options.gpu} GPU requested, the backend 'docker' has none: its engine has no runtime nvidia",
                do="Install the NVIDIA container toolkit on the engine's machine, or set resources.gpu to 0",
            )

    def submit(self, request: DockerRequest) -> Handle:
        """Create the job's container or find it again; see the port.

        :raises SubmitFailed: the engine refused it or did not answer
        :raises DigestMismatch: the code or an input is damaged
        :raises NotWritable: the worker has no place to pack the job's files
        """
        own = deployment(self.home)
        attempts = self._attempts(request.job, own)
        generation, volume = self._generation(request, attempts, own)
        last = attempts[-1] if attempts else None
        if last and last.generation != generation:
            self.cancel(_handle(last))
        elif last:
            status = self.describe(_handle(last))
            if status.state is JobState.UNKNOWN:
                raise SubmitFailed(
                    f"it is not known whether job {last.name} runs: {status.reason}", kind=FailureKind.UNREACHABLE
                )
            if status.state is JobState.PENDING:
                self.engine.start(last.id)
            if status.state is JobState.SUCCEEDED or not status.state.is_terminal:
                return _handle(last)
        attempt = last.attempt + 1 if last else 1
        handle = self._create(request, generation=generation, attempt=attempt, volume=volume, own=own)
        # Objects of other programs, or of other versions of this one, must not harm a job that has started.
        with contextlib.suppress(SubmitFailed, KeyError, ValueError):
            self._remove_old(request.job)
        return handle

    def _attempts(self, job: Job, own: str) -> list[_Attempt]:
        listed = self.engine.containers(job_labels(job))
        found = (_attempt_of(one) for one in listed if is_of_deployment(one["Labels"], own))
        return sorted((one for one in found if one), key=lambda one: one.attempt)

    def _generation(self, request: DockerRequest, attempts: list[_Attempt], own: str) -> tuple[int, str]:
        """Return the generation that continues, or a new one, and its volume, whose labels say what it started with."""
        listed = self.engine.volumes(job_labels(request.job))
        volumes = {int(v["Labels"][f"{GROUP}/generation"]): v for v in listed if is_of_deployment(v["Labels"], own)}
        newest = max([*volumes, *(one.generation for one in attempts)], default=None)
        if newest in volumes and not self._is_past(request, attempts, newest, volumes[newest]["Labels"]):
            return newest, volumes[newest]["Name"]
        new = 0 if newest is None else newest + 1
        return new, request.volume(new, deployment=own)

    def _is_past(
        self, request: DockerRequest, attempts: list[_Attempt], newest: int, labels: Mapping[str, str]
    ) -> bool:
        """Whether the newest generation is for another request, or was done before a clear."""
        last = attempts[-1] if attempts and attempts[-1].generation == newest else None
        cleared = labels[f"{GROUP}/clear"] != str(request.job.clear_number)
        if labels[f"{GROUP}/contract"] != request.contract_digest:
            return True
        return bool(cleared and last and self.describe(_handle(last)).state is JobState.SUCCEEDED)

    def _create(self, request: DockerRequest, *, generation: int, attempt: int, volume: str, own: str) -> Handle:
        name = request.name(attempt, deployment=own)
        handle = Handle(backend="docker", name=name, place=volume, attempt=attempt)
        with files.pack_inputs(request, scratch=self.home / "jobs-docker") as packed:
            self.engine.create_volume(volume, request.volume_labels(generation, deployment=own))
            body = request.container(generation=generation, attempt=attempt, volume=volume, deployment=own)
            container = self.engine.create(body, f"{name}.{uuid.uuid4().hex[:8]}")
            try:
                self.engine.put(container, path="/", archive=packed)
                folder = PurePosixPath(request.folder)
                self.engine.put(container, path=str(folder.parent), archive=files.pack_folder(folder.name))
                mine = self.engine.rename(container, name)
            except SubmitFailed:
                with contextlib.suppress(SubmitFailed):
                    self.engine.remove(container)
                raise
        if not mine:
            # Another process was faster: the attempt is theirs.
            self.engine.remove(container)
        self.engine.start(name)
        return handle

    def describe(self, handle: Handle) -> JobStatus:
        """Return the job's status; see the port."""
        try:
            return self._inspect(handle)
        except SubmitFailed as error:
            if error.kind is FailureKind.UNREACHABLE:
                return JobStatus(state=JobState.UNKNOWN, reason=error.what)
            return JobStatus.failed(error.kind, error.what)

    def _inspect(self, handle: Handle) -> JobStatus:
        place = self._attempt(handle) / generations.RECORD
        known = generations.read(place) or {}
        inspected = self.engine.inspect(handle.name)
        if inspected is None:
            if known:
                return JobStatus.from_dict(known["status"])
            reason = f"the container {handle.name} is not on the engine any more"
            return JobStatus.failed(FailureKind.VANISHED, reason)
        if known.get("container") == inspected["Id"]:
            return JobStatus.from_dict(known["status"])
        status = self._status(handle, inspected)
        if status.state.is_terminal:
            status = replace(status, image_digest=self.engine.image_digest(inspected))
            with files.writable(place.parent):
                generations.write(place, {"container": inspected["Id"], "status": status.to_dict()})
        return status

    def _status(self, handle: Handle, inspected: Object) -> JobStatus:
        if inspected["State"].get("Running"):
            return self._over_time(handle, inspected) or status_of(inspected, report=None, cancelled=False)
        folder = _folder_of(inspected, handle)
        left = files.read_json(self.engine.get(inspected["Id"], f"{folder}/exit-0.json"))
        report = checked_report(left) if left is not None else None
        marked = self.engine.get(inspected["Id"], f"{folder}/{generations.CANCELLED}")
        return status_of(inspected, report=report, cancelled=marked is not None)

    def _over_time(self, handle: Handle, inspected: Object) -> JobStatus | None:
        timeout = inspected["Config"]["Labels"][f"{GROUP}/timeout"]
        started = moment(inspected["State"]["StartedAt"])
        if not timeout or started is None or time.time() - started < int(timeout) + BACKSTOP_SECONDS:
            return None
        self.engine.stop(inspected["Id"], grace_seconds=CANCEL_SECONDS)
        return JobStatus.failed(FailureKind.DEADLINE, f"stopped after its timeout of {timeout} seconds, from outside")

    def logs(self, handle: Handle, *, offset: int = 0) -> tuple[str, int]:
        """Return what was printed since ``offset``; see the port."""
        attempt = self._attempt(handle)
        try:
            with files.locked(attempt):
                ended = generations.read(attempt / generations.RECORD)
                inspected = self.engine.inspect(handle.name)
                if inspected is None:
                    return read_merged(attempt, nodes=1, offset=offset, over=True)
                return self._logs.read(
                    self.engine,
                    container=inspected["Id"],
                    at=_folder_of(inspected, handle),
                    attempt=attempt,
                    offset=offset,
                    over=ended is not None and ended["container"] == inspected["Id"],
                )
        except SubmitFailed as error:
            # For a job that is over an empty answer would mean that nothing of its log is left.
            if error.kind is FailureKind.UNREACHABLE and not (attempt / generations.RECORD).exists():
                return "", offset
            raise

    def cancel(self, handle: Handle) -> None:
        """Stop the job's container and mark the attempt as cancelled; see the port.

        :raises SubmitFailed: the engine refused it or did not answer
        """
        inspected = self.engine.inspect(handle.name)
        if inspected is None or self._inspect(handle).state.is_terminal:
            return
        folder = PurePosixPath(inspected["Config"]["Labels"][f"{GROUP}/folder"])
        mark = files.pack_mark(folder.name, f"try-{handle.attempt}", name=generations.CANCELLED)
        self.engine.put(inspected["Id"], path=str(folder.parent), archive=mark)
        self.engine.stop(inspected["Id"], grace_seconds=CANCEL_SECONDS)

    def folder(self, handle: Handle) -> Path:
        """Return a copy of the job's folder on this machine, as it is now; see the port.

        :raises JobLost: neither the container nor a copy is there
        :raises SubmitFailed: the engine refused it or did not answer
        """
        copy = self.home / "jobs-docker" / handle.place
        with files.locked(copy):
            inspected = self.engine.inspect(handle.name)
            ended = generations.read(copy / f"try-{handle.attempt}" / generations.RECORD) or {}
            whole = (generations.read(copy / "copied.json") or {}).get("container")
            if inspected is None:
                if not whole:
                    raise JobLost(f"the container {handle.name} is not on the engine any more, nor a copy of its files")
                return copy
            if whole != inspected["Id"]:
                at = inspected["Config"]["Labels"][f"{GROUP}/folder"]
                files.copy_folder(lambda: self.engine.get(inspected["Id"], at) or iter(()), to=copy)
                if ended.get("container") == inspected["Id"]:
                    generations.write(copy / "copied.json", {"container": inspected["Id"]})
        return copy

    def discard(self, *, model: str, run: str, storage: Mapping[str, Any] | None = None) -> int:
        """Remove the containers and volumes of a run's jobs that are over, and copies of them; see ``RunFolders``."""
        own, by_volume = known_deployment(self.home), dict[str, list[_Attempt | None]]()
        for one in self.engine.containers({**run_labels(run=run), f"{GROUP}/model": model}):
            if is_of_deployment(one["Labels"], own):
                by_volume.setdefault(one["Labels"][f"{GROUP}/volume"], []).append(_attempt_of(one))
        freed = 0
        for volume, attempts in by_volume.items():
            # One without a name is about to be started.
            if not all(each and self.describe(_handle(each)).state.is_terminal for each in attempts):
                continue
            copy = self.home / "jobs-docker" / volume
            with files.locked(copy):
                freed += generations.discard_parts(copy)
            for attempt in filter(None, attempts):
                self.engine.remove(attempt.id)
            self.engine.remove_volume(volume)
        return freed

    def unfinished(self, *, run: str) -> list[Handle]:
        """Return the jobs of a run that are not over; see the port."""
        own = known_deployment(self.home)
        listed = [one for one in self.engine.containers(run_labels(run=run)) if is_of_deployment(one["Labels"], own)]
        running = [one for one in listed if one["State"] in ("created", "running", "paused", "restarting")]
        handles = [_handle(one) for one in map(_attempt_of, running) if one]
        return [handle for handle in handles if not self.describe(handle).state.is_terminal]

    def _attempt(self, handle: Handle) -> Path:
        return self.home / "jobs-docker" / handle.place / f"try-{handle.attempt}"

    def _remove_old(self, job: Job) -> None:
        """Remove what other runs left beyond their retention, and what interrupted submits left."""
        now, volumes = time.time(), set()
        listed = self.engine.containers({MANAGED: "yes"})
        old = [one for one in listed if not _is_of(one, job) and now - one["Created"] > _retention_seconds(one)]
        for one in old[:REMOVED_AT_ONCE]:
            over = self._ended_at(one["Id"])
            if over is not None and now - over > _retention_seconds(one):
                self.engine.remove(one["Id"])
                volumes.add(one["Labels"][f"{GROUP}/volume"])
        # A volume may have no container: the submit was interrupted, or somebody pruned the containers.
        for one in self.engine.volumes({MANAGED: "yes"}, unused=True):
            made = datetime.fromisoformat(one["CreatedAt"].replace("Z", "+00:00")).timestamp()
            if not _is_of(one, job) and now - made > max(UNNAMED_SECONDS, _keep_seconds(one)):
                volumes.add(one["Name"])
        for name in list(volumes)[:REMOVED_AT_ONCE]:
            self.engine.remove_volume(name)

    def _ended_at(self, container: str) -> float | None:
        """Return when a container ended, or was created if it never started; None for one that may still run."""
        inspected = self.engine.inspect(container)
        if inspected is None or inspected["State"].get("Running"):
            return None
        return moment(inspected["State"]["FinishedAt"]) or moment(inspected["Created"])


def _refuse_references(options: Options) -> None:
    for name, value in options.platform.get("env", {}).items():
        if not isinstance(value, str):
            raise CapabilityMissing(
                f"the variable {name} of docker.env is a reference, and only a worker of Airflow reads its value",
                do="Give the text itself where there is no Airflow",
            )


def _attempt_of(listed: Mapping[str, Any]) -> _Attempt | None:
    """Read a container of the engine's list; None for one that never got its name."""
    labels = listed["Labels"]
    name = labels[f"{GROUP}/name"]
    if f"/{name}" not in listed["Names"]:
        return None
    return _Attempt(
        id=listed["Id"],
        name=name,
        attempt=int(labels[f"{GROUP}/attempt"]),
        generation=int(labels[f"{GROUP}/generation"]),
        volume=labels[f"{GROUP}/volume"],
    )


def _folder_of(inspected: Object, handle: Handle) -> str:
    """Return an attempt's folder as its container sees it."""
    return f"{inspected['Config']['Labels'][f'{GROUP}/folder']}/try-{handle.attempt}"


def _is_of(listed: Mapping[str, Any], job: Job) -> bool:
    """Whether a container or volume is of a job's own run; what never got its name belongs to no run."""
    labels = listed["Labels"]
    of_run = (labels[f"{GROUP}/model"], labels[f"{GROUP}/run"]) == (job.model, job.run)
    return of_run and ("Names" not in listed or _attempt_of(listed) is not None)


def _retention_seconds(listed: Mapping[str, Any]) -> int:
    """Return for how many seconds a container is kept."""
    return UNNAMED_SECONDS if _attempt_of(listed) is None else _keep_seconds(listed)


def _keep_seconds(listed: Mapping[str, Any]) -> int:
    """Return for how many seconds its job's spec keeps it; objects of earlier versions have the default."""
    return int(listed["Labels"].get(f"{GROUP}/keep") or KEEP_SECONDS)


def _handle(one: _Attempt) -> Handle:
    return Handle(backend="docker", name=one.name, place=one.volume, attempt=one.attempt)
