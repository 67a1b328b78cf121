"""Jobs as processes on this machine: each in a session of its own, led by an agent that outlives the worker.

A job's folder, ``<home>/jobs/<model>/<run>/<key>/``, holds generations and attempts (``folders/generations.py``). An
attempt has ``request.json``, ``process.json`` (who runs it) and what ``modelway.job.agent`` writes, such
as ``log-0.txt`` and ``exit-0.json``. What an earlier version left has ``log.txt`` and ``exit.json`` instead.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from modelway import names
from modelway.backends.base import Handle, Job, JobState, JobStatus, Options
from modelway.backends.folders import generations
from modelway.backends.folders.exit_status import figures_of, reported_status
from modelway.backends.folders.merged_log import read_log
from modelway.backends.folders.old_jobs import discard_old
from modelway.backends.folders.runner import runner_folder
from modelway.backends.folders.stored import StoredFolders
from modelway.backends.local import processes
from modelway.backends.local.member import MEMBER
from modelway.backends.variables import job_variables
from modelway.errors import CapabilityMissing, JobLost
from modelway.failures import FailureKind
from modelway.job.agent.bare import AGENT
from modelway.job.agent.exit_report import checked_report
from modelway.platforms.processes import machine
from modelway.platforms.processes.marked import MARK

#: variables of the worker that a job sees; everything else, Airflow's secrets above all, stays out
ALLOWED = (
    *("HOME", "LANG", "LC_ALL", "PATH", "SSL_CERT_FILE", "TMPDIR", "TZ", "LD_LIBRARY_PATH"),
    "OMP_WAIT_POLICY",
    *("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES"),
)
START_SECONDS = 30.0
GRACE_SECONDS = 10.0
#: until an agent of another host of the same home finds that its job was cancelled
_REACTION_SECONDS = 5.0
_WRITABLE = "Make it writable for the Airflow worker, or point MODELWAY_HOME to a folder that is"


@dataclass(frozen=True, kw_only=True)
class LocalRequest:
    """What will be started: everything but the attempt's number is fixed here."""

    job: Job
    folder: Path
    contract: Mapping[str, Any]
    options: Options
    environment: Mapping[str, str]


class LocalBackend:
    """Starts, finds again, follows and stops processes of this machine."""

    capabilities = MEMBER.capabilities - (set() if machine.gpu_count() else {"gpu"})

    def __init__(self, *, home: Path) -> None:
        """Keep jobs under ``<home>/jobs`` and virtual environments under ``<home>/venvs``."""
        self.home = home.absolute()

    def build_request(self, job: Job, options: Options) -> LocalRequest:
        """Return what would be started; see the port."""
        if options.gpu > (gpus := machine.gpu_count()):
            raise CapabilityMissing(
                f"{options.gpu} GPU requested, the backend 'local' has {gpus or 'none'} on this machine",
                do="Set resources.gpu to 0, or choose a backend or machine with a GPU",
            )
        if options.nodes > 1:
            raise CapabilityMissing(
                f"{options.nodes} nodes requested, the backend 'local' has only this machine",
                do="Set nodes to 1 (processes_per_node may be more), or choose the backend kubernetes",
            )
        cores = machine.core_count()
        if options.cpu and options.cpu > cores:
            raise CapabilityMissing(
                f"{options.cpu:g} CPU cores requested, this machine has {cores}",
                do=f"Set resources.cpu to at most {cores}",
            )
        folder = generations.job_folder(self.home / "jobs", job)
        return LocalRequest(
            job=job, folder=folder, contract=job.contract(), options=options, environment=_environment(job, options)
        )

    def submit(self, request: LocalRequest) -> Handle:
        """Start the job or adopt the one that runs or succeeded; see the port.

        :raises DigestMismatch: the code or an input is damaged
        :raises NotWritable: the jobs' folder cannot be written
        """
        with generations.locked(request.folder, do=_WRITABLE):
            generation = generations.generation(
                request.folder,
                contract=request.contract,
                clear_number=request.job.clear_number,
                status=_status,
            )
            attempts = generations.attempts(request.folder)
            last = max(attempts, key=_place, default=None)
            if last and last.parent == generation and _status(last).state in (JobState.RUNNING, JobState.SUCCEEDED):
                return _handle(request, last)
            if last:
                # Another piece of work, or one that died without a report: it ends before anything else starts.
                processes.abandon(last)
                processes.stop(last, grace_seconds=GRACE_SECONDS)
            # The agent makes the inputs read-only, for a job of root too.
            generations.prepare(generation, job=request.job, contract=request.contract, shared=True)
            attempt = generation / f"try-{max(map(generations.number, attempts), default=0) + 1}"
            self._start(request, attempt)
            return _handle(request, attempt)

    def _start(self, request: LocalRequest, attempt: Path) -> None:
        attempt.mkdir()
        options = request.options
        flags = [str(attempt.parent), "--attempt", str(generations.number(attempt)), "--node", "0", "--bare"]
        flags += ["--venvs", str(self.home / "venvs"), "--processes", str(options.processes_per_node)]
        flags += ["--memory", str(options.memory_bytes)] if options.memory_bytes else []
        flags += ["--timeout", str(options.timeout_seconds)] if options.timeout_seconds else []
        flags += ["--cpu", str(options.cpu)] if options.cpu else []
        flags += ["--cores-lock", str(self.home / "jobs" / ".cores.lock")]
        name = request.job.name(generations.number(attempt))
        generations.write(attempt / "request.json", {"name": name, "words": flags})
        # One copy for all jobs: what Python has compiled of it is used again.
        runner = runner_folder(self.home / "jobs", request.job)
        with (attempt / "start.txt").open("ab") as output:
            agent = subprocess.Popen(
                [sys.executable, "-m", AGENT, *flags],
                cwd=attempt,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                # The log has all that is printed; anything else is about a start that failed.
                stdout=subprocess.DEVNULL,
                stderr=output,
                env={**request.environment, **_own_settings(), "PYTHONPATH": str(runner)},
            )
        # The submitting process may live long: the ended agent must not stay as a zombie.
        threading.Thread(target=agent.wait, daemon=True).start()
        deadline = time.monotonic() + START_SECONDS
        while not (attempt / "process.json").exists():
            if time.monotonic() > deadline:
                processes.abandon(attempt)
                text = (attempt / "start.txt").read_text()[-500:]
                raise JobLost(f"the job did not start within {START_SECONDS:g} seconds: {text}", where=str(attempt))
            time.sleep(0.02)

    def describe(self, handle: Handle) -> JobStatus:
        """Return the job's status; see the port."""
        return _status(_attempt(handle))

    def logs(self, handle: Handle, *, offset: int = 0) -> tuple[str, int]:
        """Return what was printed since ``offset``; see the port."""
        attempt = _attempt(handle)
        name = "log.txt" if (attempt / "log.txt").exists() else "log-0.txt"
        return read_log(attempt, name, offset, over=_status(attempt).state.is_terminal)

    def cancel(self, handle: Handle) -> None:
        """Stop the job's whole session; see the port."""
        attempt = _attempt(handle)
        if not _status(attempt).state.is_terminal:
            generations.mark(attempt / generations.CANCELLED)
        processes.abandon(attempt)
        processes.stop(attempt, grace_seconds=GRACE_SECONDS)
        if processes.is_elsewhere(attempt):
            # The agent of that host finds the mark, and has as long as it would have here.
            deadline = time.monotonic() + GRACE_SECONDS + _REACTION_SECONDS
            while time.monotonic() < deadline and not _status(attempt).state.is_terminal:
                time.sleep(0.2)

    def folder(self, handle: Handle) -> Path:
        """Return the contract's folder; see the port."""
        return Path(handle.place)

    def discard(self, *, model: str, run: str, storage: Mapping[str, Any] | None = None) -> int:
        """Remove code, inputs and output of a run's jobs that are over; see ``JobFolders``."""
        return generations.discard(self.home / "jobs" / names.slug(model) / names.slug(run), status=_status)

    def discard_old(
        self, *, model: str, before: datetime, storage: Mapping[str, Any] | None = None, dry_run: bool = False
    ) -> int:
        """Do so for all jobs of a model that ended before a time; see ``JobFolders``."""
        folders = StoredFolders(home=self.home, backend="local")
        place = self.home / "jobs" / names.slug(model)
        return discard_old(folders, place, status=_status, before=before.timestamp(), dry_run=dry_run)

    def models(self) -> list[str]:
        """Return the names of the models that have jobs here; see ``OwnFolders``."""
        found = set()
        for contract in (self.home / "jobs").glob("*/*/*/g*/job.json"):
            if model := (generations.read(contract) or {}).get("model"):
                found.add(str(model))
        return sorted(found)

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


def _environment(job: Job, options: Options) -> dict[str, str]:
    inherited = {name: os.environ[name] for name in ALLOWED if name in os.environ}
    # By default idle threads of OpenMP spin, which slows all other work of the machine down, this job included.
    waiting = {"OMP_WAIT_POLICY": "PASSIVE"}
    return {**waiting, **inherited, **job_variables(job, options)}


def _own_settings() -> dict[str, str]:
    """Return the agent's own variables: the starter's mark, and pip's settings, whose URLs may contain a password."""
    return {name: value for name, value in os.environ.items() if name.startswith("PIP_") or name == MARK}


def _handle(request: LocalRequest, attempt: Path) -> Handle:
    number = generations.number(attempt)
    return Handle(backend="local", name=request.job.name(number), place=str(attempt.parent), attempt=number)


def _place(attempt: Path) -> tuple[int, int]:
    """Return the sort key of attempts: earlier versions restarted the count with each generation."""
    return generations.number(attempt.parent), generations.number(attempt)


def _attempt(handle: Handle) -> Path:
    return Path(handle.place) / f"try-{handle.attempt}"


def _status(attempt: Path) -> JobStatus:
    if (ended := _ended(attempt)) is not None:
        return ended
    if processes.alive(attempt):
        return JobStatus(state=JobState.RUNNING)
    # It may have ended between the two.
    if (ended := _ended(attempt)) is not None:
        return ended
    if generations.cancelled(attempt):
        return JobStatus(state=JobState.CANCELLED, reason="the job was cancelled")
    if not (attempt / "process.json").exists() and not (attempt / "claim").exists() and attempt.is_dir():
        return JobStatus(state=JobState.PENDING)
    return JobStatus.failed(FailureKind.VANISHED, "the job vanished: its agent was killed or the machine restarted")


def _ended(attempt: Path) -> JobStatus | None:
    """Return an attempt's final status; None where none is recorded."""
    if (report := generations.read(attempt / processes.EXIT)) is not None:
        checked = checked_report(report)
        status = reported_status(checked, **figures_of(checked))
        if generations.cancelled(attempt) and status.state is not JobState.SUCCEEDED:
            # One that was done before it could be stopped has succeeded.
            return JobStatus(state=JobState.CANCELLED, reason="the job was cancelled", **figures_of(checked))
        return status
    written = generations.read(attempt / processes.OLD_EXIT)
    return JobStatus.from_dict(written) if written is not None else None
