"""Where a process finds the folders of jobs: on storage that it sees, or as copies of what an object store holds.

A job on an object store is named by its URI; ``<home>/jobs-<backend>/<scheme>/<bucket>/…`` is this process's copy of
it. The store is authoritative: a copy can be deleted at any time.
"""

import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

from modelway.backends.base import Handle
from modelway.backends.folders import generations, object_store
from modelway.job.left_files import names_below, remove_below
from modelway.platforms.deployment import digest

#: in an attempt's folder: what runs the attempt was created
SUBMITTED = "submitted"
#: files that the processes following an attempt share
RECORDS = (SUBMITTED, generations.CANCELLED, generations.RECORD)
#: an agent sends its log every three seconds
LOG_SECONDS = 3.0


def record_file(attempt: Path) -> Path:
    """Return the file that identifies an attempt: outside of its generation, which is all that the job is given."""
    return attempt.parents[1] / f"{attempt.name}.json"


@dataclass(frozen=True, kw_only=True)
class StoredFolders:
    """The folders of a backend's jobs, whatever storage they are on."""

    home: Path
    backend: str
    """the backend's name, which the folder of its copies has"""
    _logs: dict[Path, float] = field(default_factory=dict)

    @property
    def _copies(self) -> Path:
        return self.home / f"jobs-{self.backend}"

    def here(self, place: str) -> Path:
        """Return the local folder of a place as every process names it: a path or a URI."""
        scheme, is_uri, rest = place.partition("://")
        return self._copies / scheme / rest.lstrip("/") if is_uri else Path(place)

    def place(self, folder: Path) -> str:
        """Return a folder's name for every process: a path or a URI."""
        if not self.is_copy(folder):
            return str(folder)
        scheme, *rest = folder.relative_to(self._copies).parts
        # A file's URI has no host.
        return f"{scheme}://{'/' if scheme == 'file' else ''}{'/'.join(rest)}"

    def is_copy(self, folder: Path) -> bool:
        """Whether this is a copy of what an object store holds."""
        return folder.is_relative_to(self._copies)

    def attempt(self, handle: Handle) -> Path:
        """Return an attempt's folder."""
        return self.here(handle.place) / f"try-{handle.attempt}"

    def is_seen(self, attempt: Path) -> bool:
        """Whether this process sees the storage that an attempt's folder is on."""
        # <root>/jobs/<model>/<run>/<key>/g0/try-1: an unmounted mount point may exist and be empty.
        return self.is_copy(attempt) or attempt.parents[4].is_dir()

    def pull_job(self, folder: Path) -> None:
        """Update the local list of a job's generations and attempts; what the store does not have is removed here."""
        if not self.is_copy(folder):
            return
        uri = self.place(folder)
        with object_store.translate_errors(uri):
            known = {name for name in object_store.folders_in(uri=uri) if name[0] == "g" and name[1:].isdigit()}
            for name in known:
                attempts = {one for one in object_store.folders_in(uri=f"{uri}/{name}") if one.startswith("try-")}
                object_store.fetch_named(uri=f"{uri}/{name}", folder=folder / name, names=[generations.GENERATION])
                for one in attempts:
                    self._fetch_records(folder / name / one)
                _remove_others(folder / name, "try-*", attempts)
        _remove_others(folder, "g*", known)

    def pull_run(self, run: Path) -> None:
        """Update the local lists of all jobs of a run on an object store; see ``pull_job``."""
        uri = self.place(run)
        with object_store.translate_errors(uri):
            jobs = object_store.folders_in(uri=uri)
        for name in jobs:
            self.pull_job(run / name)

    def discard_parts(self, generation: Path) -> int:
        """Remove code, inputs and output from a generation's folder, and from the object store that has it."""
        if self.is_copy(generation):
            generations.mark_discarded(generation)
            self.push(generation / generations.GENERATION)
            uri = self.place(generation)
            with object_store.translate_errors(uri):
                for name in (*generations.OWN_FOLDERS, object_store.PREPARED):
                    object_store.remove(uri=f"{uri}/{name}")
        return generations.discard_parts(generation)

    def pull(self, attempt: Path, *, nodes: int = 1) -> None:
        """Fetch what other processes have recorded about an attempt, and how its nodes ended."""
        if self.is_copy(attempt):
            with object_store.translate_errors(self.place(attempt), submitted=True):
                self._fetch_records(attempt, nodes=nodes)

    def _fetch_records(self, attempt: Path, *, nodes: int = 1) -> None:
        job, inside = attempt.parents[1], f"{attempt.parent.name}/{attempt.name}"
        endings = [f"exit-{node}.json" for node in range(nodes)]
        names = [record_file(attempt).name, *(f"{inside}/{name}" for name in (*RECORDS, *endings))]
        object_store.fetch_named(uri=self.place(job), folder=job, names=names)
        self._check_record(attempt)

    def _check_record(self, attempt: Path) -> None:
        """Correct what a job may have changed in the record of an attempt that was fetched."""

    def token(self, attempt: Path) -> str:
        """Return the token of an attempt on an object store.

        An object store has no locks: workers that start the same attempt there must derive the same token.
        """
        return digest(self.place(attempt))

    def push(self, *files: Path) -> None:
        """Send recorded files to other processes."""
        for file in files:
            if self.is_copy(file):
                uri = self.place(file.parent)
                with object_store.translate_errors(uri, submitted=True):
                    object_store.send(folder=file.parent, uri=uri, names=[file.name])

    def publish(self, attempt: Path) -> None:
        """Send what an attempt's container starts from, and its record."""
        generation = attempt.parent
        if self.is_copy(attempt):
            with object_store.translate_errors(self.place(generation)):
                object_store.publish(folder=generation, uri=self.place(generation))
            self.push(generation / generations.GENERATION, record_file(attempt))

    def fetch(self, generation: Path) -> Path:
        """Return the folder with everything that the job has written so far."""
        if self.is_copy(generation):
            with object_store.translate_errors(self.place(generation)):
                object_store.fetch(uri=self.place(generation), folder=generation)
        return generation

    def fetch_log(self, attempt: Path, *, over: bool, nodes: int = 1, seconds: float = LOG_SECONDS) -> None:
        """Copy what is new in an attempt's logs, unless that was done less than so many seconds ago."""
        fetched_at = self._logs.get(attempt, float("-inf"))
        if not self.is_copy(attempt) or (not over and time.monotonic() - fetched_at < seconds):
            return
        uri = self.place(attempt.parent)
        with object_store.translate_errors(uri):
            for node in range(nodes):
                number = generations.number(attempt)
                object_store.fetch_log(uri=uri, folder=attempt.parent, attempt=number, node=node)
        self._logs[attempt] = time.monotonic()
        if over:
            del self._logs[attempt]

    def forget_heartbeats(self, attempt: Path) -> None:
        """Remove the heartbeats of agents that are known to have ended, so that the next attempt need not wait."""
        place = f"{attempt.name}/pods"
        for name in names_below(attempt.parent, place):
            if name.endswith(".json"):
                remove_below(attempt.parent, f"{place}/{name}")
        if self.is_copy(attempt):
            with object_store.translate_errors(self.place(attempt)):
                object_store.remove(uri=f"{self.place(attempt)}/pods")


def _remove_others(folder: Path, pattern: str, names: set[str]) -> None:
    for path in folder.glob(pattern):
        if path.name not in names:
            shutil.rmtree(path, ignore_errors=True)
