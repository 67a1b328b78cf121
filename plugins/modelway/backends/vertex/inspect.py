"""The status of an attempt on Vertex AI: from its job, its agents' files, and the record of how it ended."""

import time
from datetime import UTC, datetime
from pathlib import Path

from modelway.backends.base import Handle, JobState, JobStatus
from modelway.backends.folders import generations
from modelway.backends.folders.exit_status import exits_of
from modelway.backends.folders.stored import SUBMITTED, StoredFolders
from modelway.backends.vertex.attempts import AttemptRecord, created_name, read_mark
from modelway.backends.vertex.jobs import Place, VertexJob, VertexJobs
from modelway.backends.vertex.running import RunningJobs
from modelway.backends.vertex.status import not_started, status_of, status_without_job
from modelway.errors import SubmitFailed
from modelway.failures import FailureKind


class StatusReader:
    """Reads the status of attempts."""

    def __init__(self, *, jobs: VertexJobs, running: RunningJobs, folders: StoredFolders) -> None:
        """Read from these jobs and folders."""
        self._jobs, self._running, self._folders = jobs, running, folders
        self._records: dict[Path, AttemptRecord] = {}
        self._seen: dict[Path, float] = {}

    def status(self, attempt: Path, *, handle: Handle | None = None, now: bool = False) -> JobStatus:
        """Return an attempt's status.

        :param handle: names the attempt's job, whatever the store says of it
        :param now: read the job's present state instead of the last list, for decisions that depend on it
        """
        if (ended := _recorded(attempt)) is not None:
            return ended
        try:
            if (record := self.record(attempt)) is None:
                return JobStatus.failed(FailureKind.VANISHED, "the folder of the job is gone")
            place, token = read_mark(handle.mark) if handle else (record.place, self._folders.token(attempt))
            status = self._inspect(attempt, record, place, token, now=now)
        except SubmitFailed as error:
            # The job runs, whatever is refused to this process.
            return JobStatus(state=JobState.UNKNOWN, reason=error.what)
        return self.note(attempt, status) if status.state.is_terminal else status

    def record(self, attempt: Path) -> AttemptRecord | None:
        """Return an attempt's record.

        :raises SubmitFailed: the object store does not answer
        """
        if record := self._records.get(attempt):
            return record
        if (record := AttemptRecord.read(attempt)) is None:
            self._folders.pull(attempt)
            record = AttemptRecord.read(attempt)
        if record is not None:
            self._records[attempt] = record
        return record

    def note(self, attempt: Path, status: JobStatus) -> JobStatus:
        """Record how an attempt ended."""
        noted = generations.record(attempt, status)
        self._folders.push(attempt / generations.RECORD)
        self._running.forget(self._folders.token(attempt))
        for known in (self._records, self._seen):
            known.pop(attempt, None)
        return noted

    def _inspect(self, attempt: Path, record: AttemptRecord, place: Place, token: str, *, now: bool) -> JobStatus:
        read = self._running.now if now else self._running.of_attempt
        job = read(place, token, name=created_name(attempt))
        if job is not None and not job.is_over:
            if generations.cancelled(attempt):
                return JobStatus(state=JobState.RUNNING, waiting="it is being cancelled")
            return self._in_time(attempt, record, job) or status_of(job, (), nodes=record.nodes)
        self._folders.pull(attempt, nodes=record.nodes)
        if (ended := _recorded(attempt)) is not None:
            return ended
        reports = exits_of(attempt, nodes=record.nodes)
        if generations.cancelled(attempt):
            ended = status_without_job(reports, nodes=record.nodes, name=record.name)
            if ended.state is JobState.SUCCEEDED:
                # It was done before it could be stopped.
                return ended
            return JobStatus(state=JobState.CANCELLED, reason="the job was cancelled")
        if job is None and not reports and not (attempt / SUBMITTED).exists():
            return JobStatus(state=JobState.PENDING)
        if job is None:
            return status_without_job(reports, nodes=record.nodes, name=record.name)
        return status_of(job, reports, nodes=record.nodes)

    def _in_time(self, attempt: Path, record: AttemptRecord, job: VertexJob) -> JobStatus | None:
        """End a job that no machine took in time; return how it ended, None while it may still start."""
        seen = self._seen.setdefault(attempt, time.monotonic())
        waited = time.monotonic() - seen
        late = not_started(job, start_within=record.start_within_seconds, waited=waited, now=datetime.now(UTC))
        if late is not None:
            self._jobs.cancel(job.name)
        return late


def _recorded(attempt: Path) -> JobStatus | None:
    return generations.recorded(attempt) if (attempt / generations.RECORD).exists() else None
