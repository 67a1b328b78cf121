"""The status of an attempt on Kubernetes: from its objects, its agents' files, and the record of how it ended."""

import contextlib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from modelway.backends.base import Handle, JobState, JobStatus
from modelway.backends.folders import generations
from modelway.backends.folders.exit_status import exits_of
from modelway.backends.folders.stored import SUBMITTED
from modelway.backends.kubernetes.attempts import (
    AttemptRecord,
    image_seen,
    pods_that_are_gone,
    seconds_since_gone,
)
from modelway.backends.kubernetes.folders import Folders
from modelway.backends.kubernetes.objects import Objects
from modelway.backends.kubernetes.pods import image_digest, is_alive, is_suspended
from modelway.backends.kubernetes.status import (
    Observed,
    is_active,
    needs_events,
    status_of,
    status_without_objects,
)
from modelway.errors import SubmitFailed
from modelway.failures import FailureKind


class StatusReader:
    """Reads the status of attempts."""

    def __init__(self, *, objects: Objects, folders: Folders) -> None:
        """Read from these objects and folders."""
        self._objects, self._folders = objects, folders

    def status(
        self, attempt: Path, *, handle: Handle | None = None, now: bool = False, is_certain: bool = False
    ) -> JobStatus:
        """Return an attempt's status.

        :param handle: names the attempt's objects, whatever the storage says of them
        :param now: read the cluster's present state instead of the watch's last one, for decisions that depend on it
        :param is_certain: whether a refusal to show the job is no end of it: its files are needed as long as it runs
        """
        if (ended := generations.recorded(attempt)) is not None:
            return ended
        try:
            if (record := self.record(attempt, handle=handle)) is None:
                return self._without_record(attempt)
            status = self._inspect(attempt, record, now=now)
        except SubmitFailed as error:
            if error.kind is not FailureKind.UNREACHABLE and not is_certain:
                return JobStatus.failed(error.kind, error.what)
            return JobStatus(state=JobState.UNKNOWN, reason=error.what)
        return self.note(attempt, self._with_image(attempt, record, status)) if status.state.is_terminal else status

    def record(self, attempt: Path, *, handle: Handle | None = None) -> AttemptRecord | None:
        """Return an attempt's record; a handle, where there is one, names its objects."""
        if (record := AttemptRecord.read(attempt)) is None:
            self._folders.pull(attempt)
            record = AttemptRecord.read(attempt)
        return record.of_handle(handle) if record and handle else record

    def _without_record(self, attempt: Path) -> JobStatus:
        if self._folders.is_seen(attempt):
            return JobStatus.failed(FailureKind.VANISHED, "the folder of the job is gone")
        # Airflow would end a healthy job if this process reported it as lost.
        reason = f"this process does not see the storage of the jobs: there is no {attempt.parents[4]}"
        return JobStatus(state=JobState.UNKNOWN, reason=reason)

    def note(self, attempt: Path, status: JobStatus) -> JobStatus:
        """Record how an attempt ended."""
        noted = generations.record(attempt, replace(status, image_digest=status.image_digest or image_seen(attempt)))
        self._folders.push(attempt / generations.RECORD)
        return noted

    def _inspect(self, attempt: Path, record: AttemptRecord, *, now: bool) -> JobStatus:
        jobs, pods = self._objects.now(record) if now else self._objects.of_attempt(record)
        if not (jobs and all(map(is_active, jobs)) and all(map(is_alive, pods))):
            self._folders.pull(attempt)
            if (ended := generations.recorded(attempt)) is not None:
                return ended
        if generations.cancelled(attempt):
            if any(map(is_active, jobs)) or any(map(is_alive, pods)):
                return JobStatus(state=JobState.RUNNING, waiting="it is being cancelled")
            ended = status_without_objects(exits_of(attempt, nodes=record.nodes), nodes=record.nodes, name=record.name)
            if ended.state is JobState.SUCCEEDED:
                # It was done before it could be stopped.
                return ended
            return JobStatus(state=JobState.CANCELLED, reason="the job was cancelled")
        exits = exits_of(attempt, nodes=record.nodes)
        if not jobs and not exits and not (attempt / SUBMITTED).exists():
            return JobStatus(state=JobState.PENDING)
        if not jobs:
            return status_without_objects(exits, nodes=record.nodes, name=record.name, pods=pods, now=datetime.now(UTC))
        gone = pods_that_are_gone(attempt, pods, suspended=any(map(is_suspended, jobs)))
        if gone and not now:
            # The watch of the pods may lag behind what another process has seen: only a fresh answer is reliable.
            return self._inspect(attempt, record, now=True)
        wants_events = needs_events(jobs, pods, gone=bool(gone))
        # A launcher's objects have another name than the attempt; of two Jobs the workers' is the longer one.
        name = min((str(job["metadata"]["name"]) for job in jobs), key=len)
        seen = Observed(
            jobs=jobs,
            pods=pods,
            events=self._objects.events(record.namespace, name, now=bool(gone)) if wants_events else (),
            exits=exits,
            gone=gone,
            gone_seconds=seconds_since_gone(attempt, gone) if gone else 0.0,
            start_within_seconds=record.start_within_seconds,
            nodes=record.nodes,
            name=record.name,
        )
        status = status_of(seen, now=datetime.now(UTC))
        if status.state is JobState.FAILED and not gone:
            # The event that says why a pod was evicted may be newer than those that are known.
            with contextlib.suppress(SubmitFailed):
                seen = replace(seen, events=self._objects.events(record.namespace, name, now=True))
                status = status_of(seen, now=datetime.now(UTC))
        return status

    def _with_image(self, attempt: Path, record: AttemptRecord, status: JobStatus) -> JobStatus:
        """Return a final status with the image's digest.

        The Job's watch may be ahead of that of its pods: a short job is over before a pod was seen with its image.
        """
        if not status.image_digest and image_seen(attempt) is None:
            with contextlib.suppress(SubmitFailed):
                return replace(status, image_digest=image_digest(self._objects.now(record)[1]))
        return status
