"""Where a process finds the folders of jobs: on storage that it sees, or as copies of what an object store holds.

A job on an object store is named by its URI; ``<home>/jobs-kubernetes/<scheme>/<bucket>/…`` is this process's copy of
it. What the store says holds: a copy can be deleted at any time.
"""

import shutil
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from modelway.backends.base import Handle
from modelway.backends.folders import generations, object_store
from modelway.backends.kubernetes.attempts import SUBMITTED, AttemptRecord, record_file
from modelway.job.left_files import names_below, remove_below
from modelway.platforms.deployment import digest

#: what the processes that follow a try tell one another
RECORDS = (SUBMITTED, generations.CANCELLED, generations.RECORD)
ENDING = "exit-0.json"
GENERATION = "generation.json"
#: an agent sends its log every three seconds
LOG_SECONDS = 3.0


@dataclass(frozen=True, kw_only=True)
class Folders:
    """The folders of jobs, whatever storage they lie on."""

    home: Path
    _logs: dict[Path, float] = field(default_factory=dict)

    @property
    def _copies(self) -> Path:
        return self.home / "jobs-kubernetes"

    def here(self, place: str) -> Path:
        """Return the folder that has this name for every process: a path or a URI."""
        scheme, is_uri, rest = place.partition("://")
        return self._copies / scheme / rest if is_uri else Path(place)

    def place(self, folder: Path) -> str:
        """Return what a folder is called by every process."""
        if not self.is_copy(folder):
            return str(folder)
        scheme, *rest = folder.relative_to(self._copies).parts
        return f"{scheme}://{'/'.join(rest)}"

    def is_copy(self, folder: Path) -> bool:
        """Whether this is a copy of what an object store holds."""
        return folder.is_relative_to(self._copies)

    def attempt(self, handle: Handle) -> Path:
        """Return a try's folder."""
        return self.here(handle.place) / f"try-{handle.attempt}"

    def is_seen(self, attempt: Path) -> bool:
        """Whether this process sees the storage that a try's folder lies on."""
        # <root>/jobs/<model>/<run>/<key>/g0/try-1: the place where storage is not mounted may well be there, and empty.
        return self.is_copy(attempt) or attempt.parents[4].is_dir()

    def pull_job(self, folder: Path) -> None:
        """Learn which generations and tries a job has; what the store does not know of is removed here."""
        if not self.is_copy(folder):
            return
        uri = self.place(folder)
        with object_store.told(uri):
            known = {name for name in object_store.folders_in(uri=uri) if name[0] == "g" and name[1:].isdigit()}
            for name in known:
                tries = {one for one in object_store.folders_in(uri=f"{uri}/{name}") if one.startswith("try-")}
                object_store.fetch_named(uri=f"{uri}/{name}", folder=folder / name, names=[GENERATION])
                for one in tries:
                    self._fetch_records(folder / name / one)
                _keep(folder / name, "try-*", tries)
        _keep(folder, "g*", known)

    def pull(self, attempt: Path) -> None:
        """Learn what others have noted of a try, and how it ended."""
        if self.is_copy(attempt):
            with object_store.told(self.place(attempt), submitted=True):
                self._fetch_records(attempt)

    def _fetch_records(self, attempt: Path) -> None:
        job, inside = attempt.parents[1], f"{attempt.parent.name}/{attempt.name}"
        names = [record_file(attempt).name, *(f"{inside}/{name}" for name in (*RECORDS, ENDING))]
        object_store.fetch_named(uri=self.place(job), folder=job, names=names)
        # The job may write to its bucket: whatever token it left there, the try is called by its own.
        if (record := AttemptRecord.read(attempt)) and record.token != self.token(attempt):
            replace(record, token=self.token(attempt)).write(attempt)

    def token(self, attempt: Path) -> str:
        """Return the token of a try on an object store.

        Nothing locks one: workers that begin the same try there must call it the same.
        """
        return digest(self.place(attempt))

    def push(self, *files: Path) -> None:
        """Let others know what was noted."""
        for file in files:
            if self.is_copy(file):
                uri = self.place(file.parent)
                with object_store.told(uri, submitted=True):
                    object_store.send(folder=file.parent, uri=uri, names=[file.name])

    def publish(self, attempt: Path) -> None:
        """Send what a try's container begins with, and what others must know of it."""
        generation = attempt.parent
        if self.is_copy(attempt):
            with object_store.told(self.place(generation)):
                object_store.publish(folder=generation, uri=self.place(generation))
            self.push(generation / GENERATION, record_file(attempt))

    def fetch(self, generation: Path) -> Path:
        """Return the folder with all that the job has made so far."""
        if self.is_copy(generation):
            with object_store.told(self.place(generation)):
                object_store.fetch(uri=self.place(generation), folder=generation)
        return generation

    def fetch_log(self, attempt: Path, *, over: bool) -> None:
        """Copy what is new in a try's log, unless that was done a moment ago."""
        asked = self._logs.get(attempt, float("-inf"))
        if not self.is_copy(attempt) or (not over and time.monotonic() - asked < LOG_SECONDS):
            return
        uri = self.place(attempt.parent)
        with object_store.told(uri):
            object_store.fetch_log(uri=uri, folder=attempt.parent, attempt=generations.number(attempt))
        self._logs[attempt] = time.monotonic()
        if over:
            del self._logs[attempt]

    def forget_heartbeats(self, attempt: Path) -> None:
        """Remove what agents that are known to have ended left, so that the next try need not wait for them."""
        place = f"{attempt.name}/pods"
        for name in names_below(attempt.parent, place):
            if name.endswith(".json"):
                remove_below(attempt.parent, f"{place}/{name}")
        if self.is_copy(attempt):
            with object_store.told(self.place(attempt)):
                object_store.remove(uri=f"{self.place(attempt)}/pods")


def _keep(folder: Path, pattern: str, names: set[str]) -> None:
    for path in folder.glob(pattern):
        if path.name not in names:
            shutil.rmtree(path, ignore_errors=True)
