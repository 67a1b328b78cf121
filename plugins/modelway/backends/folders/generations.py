"""The folders of a job: generations and attempts, on a file system that the worker sees.

``<jobs>/<model>/<run>/<key>/`` holds ``g0``, ``g1``, …: one per generation (a clear after success, another code,
parameter or input, or one whose output was removed starts a new one), each the contract's folder; in it ``try-1``,
``try-2``, … are numbered through all generations, so that an attempt's number names a job once and for all.
"""

import contextlib
import fcntl
import json
import os
import re
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from modelway import names
from modelway.artifacts.code_package import unpack_code_package
from modelway.artifacts.store import ArtifactStore
from modelway.backends.base import ARCHIVES, Job, JobState, JobStatus
from modelway.errors import NotWritable
from modelway.job.agent.bare import CANCELLED as CANCELLED
from modelway.job.left_files import document_below, write_below

RECORD = "result.json"
#: in a generation's folder: the job's contract, and the number of the clear that the generation is of
GENERATION = "generation.json"
#: its key that is true once code, inputs and output are removed: nothing is left that a submit could find again
DISCARDED = "discarded"
#: what is put into a job's folder before it begins
OWN_FOLDERS = ("code", "runner", "inputs", "output")
_NUMBERED = re.compile(r"(g|try-)\d{1,9}")


def job_folder(root: Path, job: Job) -> Path:
    """Return the folder of a job's generations below the root of all jobs."""
    return root / names.slug(job.model) / names.slug(job.run) / names.slug(job.key)


def attempts(folder: Path) -> list[Path]:
    """Return the attempts of all generations of a job, oldest first."""
    return sorted((each for one in numbered(folder, "g*") for each in numbered(one, "try-*")), key=number)


def numbered(folder: Path, pattern: str) -> list[Path]:
    """Return the generations or attempts in a folder by their numbers; a job may have left other names there."""
    named = (path for path in folder.glob(pattern) if _NUMBERED.fullmatch(path.name))
    # A link may lead to another job, which must not be ended instead of this one.
    return sorted((path for path in named if not path.is_symlink()), key=number)


def number(path: Path) -> int:
    """Return the number of a generation or attempt."""
    return int("".join(filter(str.isdigit, path.name)))


def generation(
    folder: Path, *, contract: Mapping[str, Any], clear_number: int, status: Callable[[Path], JobStatus]
) -> Path:
    """Return the folder of the generation that continues, or of a new one.

    :param status: returns the status of an attempt
    """
    existing = numbered(folder, "g*")
    if not existing:
        return folder / "g0"
    newest = existing[-1]
    started = read(newest / GENERATION) or {}
    if started.get(DISCARDED):
        return folder / f"g{number(newest) + 1}"
    last = next(reversed(numbered(newest, "try-*")), None)
    same = text(started.get("contract")) == text(contract)
    cleared = started.get("clear_number") != clear_number
    if same and not (cleared and last is not None and status(last).state is JobState.SUCCEEDED):
        if cleared:
            # A clear adopts a running attempt: once done, it is not run again for the same clear.
            write(newest / GENERATION, {**started, "clear_number": clear_number})
        return newest
    return folder / f"g{number(newest) + 1}"


def prepare(
    folder: Path,
    *,
    job: Job,
    contract: Mapping[str, Any],
    runner: Path | None = None,
    owner: int | None = None,
    shared: bool = False,
) -> None:
    """Put code, inputs and our part of the library in their places; outputs of earlier attempts are retained.

    :param runner: the folder that holds ``modelway.job`` alone; None: the job finds it by itself
    :param owner: the user that the job runs as, where this process may set owners
    :param shared: the job cannot write to its inputs: they need not be copies of the stored files
    """
    store = ArtifactStore("")
    folder.mkdir(parents=True, exist_ok=True)
    for name in OWN_FOLDERS:
        # An earlier attempt may have left a link in the place of one: what is written must not follow it.
        if (folder / name).is_symlink() or not (folder / name).is_dir():
            (folder / name).unlink(missing_ok=True)
    write(folder / GENERATION, {"contract": contract, "clear_number": job.clear_number})
    write(folder / "job.json", contract)
    if job.code:
        _replace_tree(folder / "code", lambda beside: _unpack(store, job, beside))
    if runner is not None:
        _replace_tree(folder / "runner", lambda beside: shutil.copytree(runner, beside))
    for name, artifact in job.inputs.items():
        (folder / "inputs" / name).unlink(missing_ok=True)
        store.fetch(artifact, to=folder / "inputs" / name, shared=shared)
    for name in ("inputs", "output"):
        (folder / name).mkdir(exist_ok=True)
    if owner is not None:
        set_owner(folder, owner)


def discard(
    run: Path,
    *,
    status: Callable[[Path], JobStatus],
    before: float | None = None,
    remove: Callable[[Path], int] | None = None,
) -> int:
    """Remove code, inputs and output of the jobs of a run that are over; return how many bytes became free.

    :param run: the folder of the run's jobs
    :param status: returns the status of an attempt
    :param before: only of those that have written nothing since, in seconds since the epoch; default: all
    :param remove: removes them from a generation's folder; default: ``discard_parts``
    """
    remove = remove or discard_parts
    freed = 0
    for job in run.iterdir() if run.is_dir() else ():
        if job.is_symlink() or not job.is_dir():
            continue
        with locked(job, do="Make it writable for the Airflow worker"):
            for folder in numbered(job, "g*"):
                attempts = numbered(folder, "try-*")
                if before is not None and _last_written(folder, attempts) >= before:
                    continue
                if all(status(each).state.is_terminal for each in attempts):
                    freed += remove(folder)
    return freed


def _last_written(folder: Path, attempts: list[Path]) -> float:
    """Return when something was written last: a job that runs renews its log and heartbeat in its attempt's folder."""
    newest = folder.stat().st_mtime
    for attempt in attempts:
        for place, _, files in os.walk(attempt):
            for name in ("", *files):
                with contextlib.suppress(FileNotFoundError):
                    newest = max(newest, os.lstat(os.path.join(place, name)).st_mtime)
    return newest


def discard_parts(folder: Path) -> int:
    """Remove code, inputs and output from a generation's folder, or a copy; return how many bytes became free."""
    mark_discarded(folder)
    return sum(map(_remove_part, _parts(folder)))


def size_of_parts(folder: Path) -> int:
    """Return how many bytes ``discard_parts`` would make free."""
    return sum(_size(place) for place in _parts(folder) if place.is_dir() and not place.is_symlink())


def _parts(folder: Path) -> list[Path]:
    # A worker that was killed while it wrote an archive has left it.
    return [*(folder / name for name in OWN_FOLDERS), *folder.glob(f"{ARCHIVES}*")]


def mark_discarded(folder: Path) -> None:
    """Record of a generation that its job is not found again; before anything of it is removed."""
    started = read(folder / GENERATION)
    if started and not started.get(DISCARDED):
        write(folder / GENERATION, {**started, DISCARDED: True})


def _remove_part(place: Path) -> int:
    """Remove a folder, or the link in its place; return the bytes of the files that have no other name."""
    if place.is_symlink() or not place.is_dir():
        place.unlink(missing_ok=True)
        return 0
    freed = _size(place)
    shutil.rmtree(place, ignore_errors=True)
    return freed


def _size(place: Path) -> int:
    """Return the bytes of a folder's files that have no other name."""
    found = [path.lstat() for path in place.rglob("*")]
    return sum(each.st_blocks * 512 for each in found if each.st_nlink == 1 and stat.S_ISREG(each.st_mode))


def set_owner(folder: Path, owner: int) -> None:
    """Make a user the owner of a folder and all that is in it, where this process may; files of the store stay."""
    if os.geteuid() != 0:
        return
    for path in (folder, *folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            found = path.lstat()
            if stat.S_ISDIR(found.st_mode) or found.st_nlink == 1:
                os.chown(path, owner, owner, follow_symlinks=False)


def cancelled(attempt: Path) -> bool:
    """Whether an attempt's cancellation was requested."""
    return (attempt / CANCELLED).exists()


def recorded(attempt: Path) -> JobStatus | None:
    """Return the recorded final status of an attempt; it is valid when the platform has forgotten the job."""
    found = read(attempt / RECORD)
    # Anything but a status was not written by this side.
    with contextlib.suppress(TypeError, ValueError, KeyError):
        return JobStatus.from_dict(found) if found else None
    return None


def record(attempt: Path, status: JobStatus) -> JobStatus:
    """Record the final status of an attempt, once, and return it."""
    if not (attempt / RECORD).exists():
        write(attempt / RECORD, status.to_dict())
    return status


@contextlib.contextmanager
def locked(folder: Path, *, do: str) -> Iterator[None]:
    """Lock the job, so that two attempts of a task cannot both prepare its folder.

    :param do: what to do when the folder cannot be written
    :raises NotWritable: the folder cannot be written
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise NotWritable(
            f"the folder of the jobs cannot be written ({error.strerror})",
            where=str(folder),
            do=do,
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def read(path: Path) -> dict[str, Any] | None:
    """Return a JSON file's object, None where there is none; links out of its folder's parent are not followed."""
    return document_below(path.parents[1], f"{path.parent.name}/{path.name}")


def write(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file atomically; links out of its folder's parent are not followed."""
    write_below(path.parents[1], f"{path.parent.name}/{path.name}", text(value).encode())


def mark(path: Path) -> None:
    """Make an empty file, as ``write`` does."""
    write_below(path.parents[1], f"{path.parent.name}/{path.name}", b"")


def text(value: Any) -> str:
    """Return a value as JSON that is the same for equal values."""
    return json.dumps(value, sort_keys=True)


def _unpack(store: ArtifactStore, job: Job, to: Path) -> None:
    assert job.code is not None
    package = store.fetch(job.code, to=to.with_name(f"{to.name}.zip"))
    unpack_code_package(package=package, to=to)
    package.unlink()


def _replace_tree(place: Path, make: Callable[[Path], Any]) -> None:
    for left in place.parent.glob(f".{place.name}.*"):
        shutil.rmtree(left, ignore_errors=True)
    beside = place.with_name(f".{place.name}.{uuid.uuid4().hex}")
    make(beside)
    shutil.rmtree(place, ignore_errors=True)
    beside.rename(place)
