"""How a job is followed, by a worker and by the trigger alike: its status, and each new line of its log once."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from modelway.backends.base import Backend, Handle, JobState, JobStatus
from modelway.failures import FailureKind

#: how long to wait for a backend that does not answer; its job continues, and the next attempt reuses it
UNREACHABLE_SECONDS = 600.0
#: how long to wait until the rest of the log of a finished job can be read
LOG_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Step:
    """The result of one inspection of a job."""

    status: JobStatus
    notes: tuple[str, ...] = ()
    """news about the job, for the task's log"""
    printed: tuple[str, ...] = ()
    """lines that the job printed"""
    logged: int = 0
    """earlier lines of the same read that another follower logged already"""
    more: bool = False
    """whether more of the job's log can be read at once"""

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines for the task's log."""
        return self.notes + self.printed

    @property
    def over(self) -> bool:
        """Whether the job has ended and its log is read to the end."""
        return self.status.state.is_terminal and not self.more


class Follower:
    """Inspects one job again and again; ``offset`` is how far its log was read."""

    def __init__(
        self,
        backend: Backend,
        handle: Handle,
        *,
        offset: int = 0,
        logged: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start at ``offset`` of the log; ``logged`` lines after it are skipped."""
        self.offset = offset
        self._logged = logged
        self._backend, self._handle, self._clock = backend, handle, clock
        self._waiting: str | None = None
        self._silent_since: float | None = None
        self._unread_since: float | None = None

    def reconnect(self, backend: Backend) -> None:
        """Inspect the job by another backend from now on, such as one with new credentials."""
        self._backend = backend

    def step(self) -> Step:
        """Inspect the job once; this may take as long as the backend's API does."""
        status = self._inspect()
        notes = self._notes(status)
        if status.state is JobState.UNKNOWN:
            return Step(status=self._given_up(status), notes=tuple(notes))
        try:
            text, after = self._backend.logs(self._handle, offset=self.offset)
        except Exception as error:
            return self._unread(status, notes, error)
        self._unread_since = None
        if after == self.offset:
            return Step(status=status, notes=tuple(notes), printed=tuple(text.splitlines()))
        logged, self._logged, self.offset = self._logged, 0, after
        printed = tuple(text.splitlines()[logged:])
        return Step(status=status, notes=tuple(notes), printed=printed, logged=logged, more=True)

    def _inspect(self) -> JobStatus:
        """Return the job's status; a failed inspection says nothing about the job, which may continue."""
        try:
            return self._backend.describe(self._handle)
        except Exception as error:
            return JobStatus(state=JobState.UNKNOWN, reason=f"{type(error).__name__}: {error}")

    def _notes(self, status: JobStatus) -> list[str]:
        notes, now = list[str](), self._clock()
        if status.state is JobState.UNKNOWN:
            if self._silent_since is None:
                self._silent_since = now
                notes.append(
                    f"the backend does not answer ({status.reason or 'it gave no reason'}); the job may continue, "
                    f"it is given up after {UNREACHABLE_SECONDS / 60:g} minutes"
                )
            return notes
        if self._silent_since is not None:
            notes.append(f"the backend answers again, after {now - self._silent_since:.0f} seconds")
            self._silent_since = None
        if status.waiting and status.waiting != self._waiting:
            notes.append(f"the job waits: {status.waiting}")
        elif self._waiting and not status.waiting and not status.state.is_terminal:
            notes.append("the job no longer waits")
        self._waiting = status.waiting
        return notes

    def _given_up(self, status: JobStatus) -> JobStatus:
        if self._silent_since is None or self._clock() - self._silent_since < UNREACHABLE_SECONDS:
            return status
        reason = f"the backend did not answer for {UNREACHABLE_SECONDS / 60:g} minutes"
        return JobStatus.failed(
            FailureKind.UNREACHABLE, f"{reason}, at last: {status.reason}" if status.reason else reason
        )

    def _unread(self, status: JobStatus, notes: list[str], error: Exception) -> Step:
        """Continue without the log; a finished job is still followed for a while, so that the rest is not lost."""
        now = self._clock()
        if self._unread_since is None:
            self._unread_since = now
            notes.append(f"the job's log cannot be read now: {type(error).__name__}: {error}")
        if status.state.is_terminal and now - self._unread_since < LOG_SECONDS:
            status = replace(status, state=JobState.RUNNING)
        elif status.state.is_terminal:
            notes.append("the rest of the job's log could not be read")
        return Step(status=status, notes=tuple(notes))
