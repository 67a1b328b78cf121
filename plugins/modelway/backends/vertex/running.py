"""The jobs that are followed, with as few requests as possible: one list for all of a project and region."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from modelway.backends.vertex.jobs import Place, VertexJob, VertexJobs
from modelway.errors import SubmitFailed

#: between two lists of a project and region, for each call that a list takes: at most ten calls a minute
LIST_SECONDS = 6.0


@dataclass
class _Listing:
    """What the last list of a project and region said."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    jobs: dict[str, list[VertexJob]] = field(default_factory=dict)
    listed_at: float = float("-inf")
    calls: int = 1
    error: SubmitFailed | None = None

    @property
    def is_fresh(self) -> bool:
        return time.monotonic() - self.listed_at < LIST_SECONDS * self.calls


class RunningJobs:
    """Answers how an attempt's job is; what it knows is shared by all that follow jobs in this process."""

    def __init__(self, jobs: Callable[[], VertexJobs]) -> None:
        """Read by ``jobs``, which is called at the first request."""
        self._jobs = jobs
        self._lock = threading.Lock()
        self._listings: dict[Place, _Listing] = {}
        self._known: dict[str, VertexJob] = {}

    def note(self, job: VertexJob) -> None:
        """Note a job that was created a moment ago: a list may not have it yet."""
        self._known[job.token] = job

    def forget(self, token: str) -> None:
        """Forget a job that is over."""
        self._known.pop(token, None)

    def now(self, place: Place, token: str, *, name: str | None = None) -> VertexJob | None:
        """Return an attempt's job as the API has it now; None where there is none.

        :param name: of the one that is known to be created
        :raises SubmitFailed: the API refuses or does not answer
        """
        found = self._only(self._jobs().of_token(place, token, name=name))
        if found:
            self.note(found)
        return found

    def of_attempt(self, place: Place, token: str, *, name: str | None = None) -> VertexJob | None:
        """Return an attempt's job by the last list; one that left the list is read by itself, once.

        :param name: see ``now``
        :raises SubmitFailed: the API refuses or does not answer
        """
        listing = self._listing(place)
        if listed := listing.jobs.get(token):
            found = self._only(listed)
            if found:
                self._known[token] = found
            return found
        if known := self._known.get(token):
            return known if known.is_over else self._jobs().read(known.name)
        return self.now(place, token, name=name)

    def _only(self, jobs: list[VertexJob]) -> VertexJob | None:
        """Return the job of an attempt, the earliest; others were created because an answer was lost, and are ended."""
        ordered = sorted(jobs, key=lambda job: job.order)
        for other in ordered[1:]:
            if not other.is_over and other.state != "CANCELLING":
                self._jobs().cancel(other.name)
        return ordered[0] if ordered else None

    def _listing(self, place: Place) -> _Listing:
        """Return the list of a project and region, made anew by one thread when it is old."""
        with self._lock:
            listing = self._listings.setdefault(place, _Listing())
        # While another thread lists, what was listed before is good enough.
        if not listing.is_fresh and listing.lock.acquire(blocking=listing.listed_at == float("-inf")):
            try:
                if not listing.is_fresh:
                    self._list(place, listing)
            finally:
                listing.lock.release()
        if listing.error is not None:
            raise listing.error
        return listing

    def _list(self, place: Place, listing: _Listing) -> None:
        try:
            found, calls = self._jobs().active(place)
        except SubmitFailed as error:
            # All that follow a job there get the same answer until the next list.
            listing.error, listing.calls = error, 1
        else:
            jobs: dict[str, list[VertexJob]] = {}
            for job in found:
                jobs.setdefault(job.token, []).append(job)
            listing.jobs, listing.calls, listing.error = jobs, calls, None
        listing.listed_at = time.monotonic()
