"""Which attempt of a job a submit returns: the last one, if it still serves the request, or a new one."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from modelway.backends.base import Job, JobState, JobStatus
from modelway.backends.folders import generations
from modelway.backends.folders.exit_status import exits_of
from modelway.backends.folders.runner import runner_folder
from modelway.backends.folders.stored import SUBMITTED
from modelway.errors import SubmitFailed
from modelway.failures import FailureKind


class Recorded(Protocol):
    """What is recorded of an attempt."""

    @property
    def name(self) -> str:
        """The name of the job on its platform."""

    @property
    def nodes(self) -> int:
        """How many nodes it has."""


Read = Callable[[Path], Recorded | None]


def submitted_attempt(
    folder: Path,
    job: Job,
    *,
    contract: Mapping[str, Any],
    read: Read,
    status: Callable[[Path], JobStatus],
    cancel: Callable[[Path], None],
    prepare: Callable[[Path, Path | None], Path],
    create: Callable[[Path], bool],
) -> Path:
    """Return the attempt that serves a request, and is on the platform.

    :param folder: of the job
    :param prepare: makes a new attempt of a generation, after the last attempt if there is one
    :param create: creates what an attempt has on the platform, unless it is there; False when it needs another attempt
    :raises SubmitFailed: it is not known whether the last attempt runs
    """
    generation = generations.generation(folder, contract=contract, clear_number=job.clear_number, status=status)
    last = _last_attempt(folder, job, read=read)
    attempt = _continued(last, generation, read=read, status=status, cancel=cancel) or prepare(generation, last)
    while not create(attempt):
        attempt = prepare(generation, attempt)
    return attempt


def _last_attempt(folder: Path, job: Job, *, read: Read) -> Path | None:
    """Return the last attempt that this side started; the job itself may have left folders of such names."""
    for attempt in reversed(generations.attempts(folder)):
        record = read(attempt)
        if record is not None and record.name == job.name(generations.number(attempt)):
            return attempt
    return None


def _continued(
    last: Path | None,
    generation: Path,
    *,
    read: Read,
    status: Callable[[Path], JobStatus],
    cancel: Callable[[Path], None],
) -> Path | None:
    """Return the last attempt if it runs, has succeeded or has not started; end what is left of another.

    :raises SubmitFailed: it is not known whether it runs
    """
    if last is None or (record := read(last)) is None:
        return None
    wanted = last.parent == generation and not generations.cancelled(last)
    ended = generations.recorded(last) or exits_of(last, nodes=record.nodes)
    if wanted and not (last / SUBMITTED).exists() and not ended:
        # The process that started it ended before it knew that all of it was created: it gets the same names again.
        return last
    found = status(last)
    if found.state is JobState.UNKNOWN:
        what = f"it is not known whether job {record.name} runs: {found.reason}"
        raise SubmitFailed(what, kind=FailureKind.UNREACHABLE)
    if wanted and (not found.state.is_terminal or found.state is JobState.SUCCEEDED):
        return last
    cancel(last)
    return None


def new_attempt(
    last: Path | None,
    generation: Path,
    *,
    job: Job,
    contract: Mapping[str, Any],
    root: Path,
    owner: int | None = None,
    shared: bool = False,
) -> Path:
    """Put what the job needs into its folder, and make the folder of the attempt after the last one.

    :param root: of the storage, with the folder of all jobs
    :param owner: the user that the job runs as, where this process may set owners
    :param shared: the job cannot write to its inputs: they need not be copies of the stored files
    """
    runner = runner_folder(root / "jobs", job)
    generations.prepare(generation, job=job, contract=contract, runner=runner, owner=owner, shared=shared)
    attempt = generation / f"try-{generations.number(last) + 1 if last else 1}"
    if attempt.is_symlink():
        # Left by the job: what is recorded here, and whose owner is set, must not be another job's.
        attempt.unlink()
    attempt.mkdir(exist_ok=True)
    return attempt
