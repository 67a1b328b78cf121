"""Jobs as processes on this machine: each in a session of its own, watched by a supervisor that outlives the worker.

Folder of a job, below ``<home>/jobs/<model>/<run>/<key>/``:

- ``g0``, ``g1``, …: one per generation (a clear after success, or another code, parameter or input begins a new one);
  each is the contract's folder: ``job.json``, ``code/``, ``inputs/``, ``output/``, ``events.jsonl``
- ``g0/try-1``, …: one per try: ``request.json``, ``log.txt``, ``process.json`` (who runs), ``exit.json`` (how it ended)
"""

import os
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelway import names
from modelway.artifacts.code_package import unpack_code_package
from modelway.artifacts.store import Artifact, ArtifactStore
from modelway.backends.base import Handle, Job, JobState, JobStatus, Options
from modelway.backends.folders import generations
from modelway.backends.folders.merged_log import read_log
from modelway.backends.folders.runner import runner_folder
from modelway.backends.local import processes
from modelway.backends.variables import job_variables
from modelway.errors import CapabilityMissing, JobLost
from modelway.failures import FailureKind

#: variables of the worker that a job sees; everything else, Airflow's secrets above all, stays out
ALLOWED = (
    *("HOME", "LANG", "LC_ALL", "PATH", "SSL_CERT_FILE", "TMPDIR", "TZ", "LD_LIBRARY_PATH"),
    "OMP_WAIT_POLICY",
    *("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES"),
)
#: says which command started a process, so that the next one finds what a killed one left
MARK = "MODELWAY_STARTED_BY"
SUPERVISOR = "modelway.backends.local.supervise"
#: what this backend gives where the machine has it; lint reads it without importing this file
POSSIBLE = frozenset({"cancel", "logs", "memory_limit", "cpu_limit", "gpu", "multi_process"})
START_SECONDS = 30.0
GRACE_SECONDS = 10.0
_WRITABLE = "Make it writable for the Airflow worker, or point MODELWAY_HOME to a folder that is"


@dataclass(frozen=True, kw_only=True)
class LocalRequest:
    """What will be started: everything but the try's number is fixed here."""

    job: Job
    folder: Path
    contract: Mapping[str, Any]
    options: Options
    environment: Mapping[str, str]


class LocalBackend:
    """Starts, finds again, follows and stops processes of this machine."""

    capabilities = POSSIBLE - (set() if processes.gpu_count() else {"gpu"})

    def __init__(self, *, home: Path) -> None:
        """Keep jobs under ``<home>/jobs`` and virtual environments under ``<home>/venvs``."""
        self.home = home.absolute()

    def build_request(self, job: Job, options: Options) -> LocalRequest:
        """Return what would be started; see the port."""
        if options.gpu > (gpus := processes.gpu_count()):
            raise CapabilityMissing(
                f"{options.gpu} GPU asked for, the backend 'local' has {gpus or 'none'} on this machine",
                do="Set resources.gpu to 0, or choose a backend or machine with a GPU",
            )
        if options.nodes > 1:
            raise CapabilityMissing(
                f"{options.nodes} nodes asked for, the backend 'local' has only this machine",
                do="Set nodes to 1 (processes_per_node may be more), or choose the backend kubernetes",
            )
        cores = processes.core_count()
        if options.cpu and options.cpu > cores:
            raise CapabilityMissing(
                f"{options.cpu:g} CPU cores asked for, this machine has {cores}",
                do=f"Set resources.cpu to at most {cores}",
            )
        folder = self.home / "jobs" / names.slug(job.model) / names.slug(job.run) / names.slug(job.key)
        return LocalRequest(
            job=job, folder=folder, contract=job.contract(), options=options, environment=_environment(job, options)
        )

    def submit(self, request: LocalRequest) -> Handle:
        """Start the job or adopt the one that runs or succeeded; see the port.

        :raises DigestMismatch: the code or an input is damaged
        :raises NotWritable: the jobs' folder cannot be written
        """
        with generations.locked(request.folder, do=_WRITABLE):
            generation = self._generation(request)
            last = _last_attempt(generation)
            if last and self._adoptable(last):
                return _handle(request, last)
            self._prepare(request, generation)
            attempt = generation / f"try-{generations.number(last) + 1 if last else 1}"
            self._start(request, attempt)
            return _handle(request, attempt)

    def _generation(self, request: LocalRequest) -> Path:
        """Return the folder of the generation that goes on, or of the new one that begins."""
        existing = generations.numbered(request.folder, "g*")
        if not existing:
            return request.folder / "g0"
        newest = existing[-1]
        begun = generations.read(newest / "generation.json") or {}
        last = _last_attempt(newest)
        succeeded = last is not None and _status(last).state is JobState.SUCCEEDED
        cleared = succeeded and begun.get("clear_number") != request.job.clear_number
        if generations.text(begun.get("contract")) == generations.text(request.contract) and not cleared:
            # What a clear finds running is its own from now on: once done, it is not done again for the same clear.
            generations.write(newest / "generation.json", {**begun, "clear_number": request.job.clear_number})
            return newest
        if last:
            processes.abandon(last)
            processes.stop(last, grace_seconds=GRACE_SECONDS)
        return request.folder / f"g{generations.number(newest) + 1}"

    def _adoptable(self, attempt: Path) -> bool:
        """Whether the try runs or has succeeded; one that died without a word is stopped for good."""
        if _status(attempt).state in (JobState.RUNNING, JobState.SUCCEEDED):
            return True
        processes.abandon(attempt)
        processes.stop(attempt, grace_seconds=GRACE_SECONDS)
        return False

    def _prepare(self, request: LocalRequest, generation: Path) -> None:
        """Put code and inputs in their places; what is there from an earlier try is taken again from the store."""
        store = ArtifactStore("")
        generation.mkdir(parents=True, exist_ok=True)
        generations.write(
            generation / "generation.json",
            {"contract": request.contract, "clear_number": request.job.clear_number},
        )
        generations.write(generation / "job.json", request.contract)
        if request.job.code:
            _unpack(store, request.job.code, generation / "code")
        for name, artifact in request.job.inputs.items():
            (generation / "inputs" / name).unlink(missing_ok=True)
            store.fetch(artifact, to=generation / "inputs" / name)

    def _start(self, request: LocalRequest, attempt: Path) -> None:
        attempt.mkdir()
        runner = runner_folder(self.home / "jobs")
        requirements = attempt.parent / "code" / "requirements.txt"
        generations.write(
            attempt / "request.json",
            {
                "folder": str(attempt.parent),
                "environment": {**request.environment, "PYTHONPATH": str(runner)},
                "cpu": request.options.cpu,
                "memory_bytes": request.options.memory_bytes,
                "processes": request.options.processes_per_node,
                "timeout_seconds": request.options.timeout_seconds,
                "requirements": str(requirements) if requirements.is_file() else None,
                "venvs": str(self.home / "venvs"),
                "name": request.job.name(generations.number(attempt)),
            },
        )
        plugins = Path(__file__).resolve().parents[3]
        with (attempt / "supervisor.txt").open("ab") as output:
            supervisor = subprocess.Popen(
                [sys.executable, "-P", "-m", SUPERVISOR, str(attempt)],
                cwd=attempt,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**request.environment, **_own_settings(), "PYTHONPATH": str(plugins)},
            )
        # Whoever submitted may live long: the ended supervisor must not stay as a zombie.
        threading.Thread(target=supervisor.wait, daemon=True).start()
        deadline = time.monotonic() + START_SECONDS
        while not (attempt / "process.json").exists():
            if time.monotonic() > deadline:
                processes.abandon(attempt)
                text = (attempt / "supervisor.txt").read_text()[-500:]
                raise JobLost(f"the job did not start within {START_SECONDS:g} seconds: {text}", where=str(attempt))
            time.sleep(0.02)

    def describe(self, handle: Handle) -> JobStatus:
        """Return where the job stands; see the port."""
        return _status(_attempt(handle))

    def logs(self, handle: Handle, *, offset: int = 0) -> tuple[str, int]:
        """Return what was printed since ``offset``; see the port."""
        attempt = _attempt(handle)
        return read_log(attempt, "log.txt", offset, over=_status(attempt).state.is_terminal)

    def cancel(self, handle: Handle) -> None:
        """Stop the job's whole session; see the port."""
        attempt = _attempt(handle)
        if not _status(attempt).state.is_terminal:
            generations.mark(attempt / "cancelled")
        processes.abandon(attempt)
        processes.stop(attempt, grace_seconds=GRACE_SECONDS)

    def folder(self, handle: Handle) -> Path:
        """Return the contract's folder; see the port."""
        return Path(handle.place)

    def unfinished(self, *, run: str) -> list[Handle]:
        """Return the jobs of a run that run; see the port."""
        found = []
        for folder in (self.home / "jobs").glob(f"*/{names.slug(run)}/*"):
            for attempt in () if folder.is_symlink() else generations.attempts(folder):
                if not _status(attempt).state.is_terminal:
                    # Only a name for people: where the job's processes are found says the folder.
                    name = str((generations.read(attempt / "request.json") or {}).get("name", attempt.name))[:100]
                    number = generations.number(attempt)
                    found.append(Handle(backend="local", name=name, place=str(attempt.parent), attempt=number))
        return found


BACKEND = LocalBackend


def _environment(job: Job, options: Options) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ALLOWED if name in os.environ}
    # By default idle threads of OpenMP spin, which slows all other work of the machine down, this job included.
    waiting = {"OMP_WAIT_POLICY": "PASSIVE"}
    return {**waiting, **kept, **job_variables(job, options)}


def _own_settings() -> dict[str, str]:
    """Return what the supervisor alone sees: the starter's mark, and pip's settings, whose URLs may hold a password."""
    return {name: value for name, value in os.environ.items() if name.startswith("PIP_") or name == MARK}


def _handle(request: LocalRequest, attempt: Path) -> Handle:
    number = generations.number(attempt)
    return Handle(backend="local", name=request.job.name(number), place=str(attempt.parent), attempt=number)


def _attempt(handle: Handle) -> Path:
    return Path(handle.place) / f"try-{handle.attempt}"


def _status(attempt: Path) -> JobStatus:
    if (ended := generations.read(attempt / "exit.json")) is not None:
        return JobStatus.from_dict(ended)
    if processes.alive(attempt):
        return JobStatus(state=JobState.RUNNING)
    # It may have ended between the two looks.
    if (ended := generations.read(attempt / "exit.json")) is not None:
        return JobStatus.from_dict(ended)
    if (attempt / "cancelled").exists():
        return JobStatus(state=JobState.CANCELLED, reason="the job was cancelled")
    if not (attempt / "process.json").exists() and not (attempt / "claim").exists() and attempt.is_dir():
        return JobStatus(state=JobState.PENDING)
    return JobStatus.failed(
        FailureKind.VANISHED, "the job vanished: its supervisor was killed or the machine restarted"
    )


def _last_attempt(generation: Path) -> Path | None:
    tries = generations.numbered(generation, "try-*")
    return tries[-1] if tries else None


def _unpack(store: ArtifactStore, code: Artifact, to: Path) -> None:
    beside = to.with_name(f"code.{uuid.uuid4().hex}")
    for left in to.parent.glob(f"{to.name}.*"):
        shutil.rmtree(left, ignore_errors=True)
    package = store.fetch(code, to=beside / "package.zip")
    unpack_code_package(package=package, to=beside / "code")
    shutil.rmtree(to, ignore_errors=True)
    (beside / "code").rename(to)
    shutil.rmtree(beside)
