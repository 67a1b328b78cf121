"""The custom jobs of a project and region by its API: created, listed, read and cancelled."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from modelway.backends.vertex.labels import MANAGED, NAME, TOKEN, filter_of
from modelway.errors import SubmitFailed
from modelway.failures import FailureKind
from modelway.platforms.google.errors import GoogleError, LostAnswer
from modelway.platforms.google.rest import GoogleApi

Document = Mapping[str, Any]

SERVICE = "aiplatform"
#: of each listed job; the whole request of a job is kilobytes
FIELDS = "name,state,labels,error,createTime,startTime,endTime"
ACTIVE = ("QUEUED", "PENDING", "RUNNING", "CANCELLING", "PAUSED", "UPDATING")
OVER = ("SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED", "PARTIALLY_SUCCEEDED")
#: jobs of one page of a list
PAGE = 1000
_PREFIX = "JOB_STATE_"
_REFUSALS = (400, 409)


@dataclass(frozen=True, order=True)
class Place:
    """A project and a region of it."""

    project: str
    region: str

    @property
    def parent(self) -> str:
        """What the API calls it."""
        return f"projects/{self.project}/locations/{self.region}"


@dataclass(frozen=True, kw_only=True)
class VertexJob:
    """A custom job as it was at one time."""

    name: str
    """``projects/…/locations/…/customJobs/…``"""
    state: str
    """without its prefix, such as ``RUNNING``; one that is newer than this text is what the API said"""
    created: str
    """RFC 3339"""
    started: str | None = None
    labels: Mapping[str, str]
    code: int = 0
    """of its error, as google.rpc counts"""
    message: str = ""

    @classmethod
    def of(cls, document: Document) -> "VertexJob":
        """Read what the API answers."""
        error = document.get("error") or {}
        return cls(
            name=str(document["name"]),
            state=str(document.get("state") or "UNSPECIFIED").removeprefix(_PREFIX),
            created=str(document.get("createTime") or ""),
            started=document.get("startTime"),
            labels=document.get("labels") or {},
            code=int(error.get("code") or 0),
            message=" ".join(str(error.get("message") or "").split()),
        )

    @property
    def token(self) -> str:
        """The token of its attempt."""
        return str(self.labels.get(TOKEN, ""))

    @property
    def job_name(self) -> str:
        """The name of its attempt."""
        return str(self.labels.get(NAME, ""))

    @property
    def is_over(self) -> bool:
        """Whether it will not change any more."""
        return self.state in OVER

    @property
    def order(self) -> tuple[str, str]:
        """Of two jobs of one attempt the earlier stays."""
        return self.created, self.name


def age_seconds(job: VertexJob, now: datetime) -> float:
    """Return how long ago a job was created, by this machine's clock; 0 where the API does not say when."""
    try:
        created = datetime.fromisoformat(job.created.replace("Z", "+00:00"))
    except ValueError:
        return 0.0
    return (now - (created if created.tzinfo else created.replace(tzinfo=UTC))).total_seconds()


class VertexJobs:
    """The API of custom jobs."""

    def __init__(self, api: GoogleApi) -> None:
        """Call by ``api``."""
        self.api = api

    def create(self, place: Place, body: Document) -> VertexJob:
        """Create a job.

        :raises LostAnswer: it may have been created
        :raises SubmitFailed: it was refused, or the API does not answer
        """
        with translated(but=LostAnswer):
            return VertexJob.of(self.api.post(SERVICE, f"{place.parent}/customJobs", body=body))

    def of_token(self, place: Place, token: str, *, name: str | None = None) -> list[VertexJob]:
        """Return the jobs of an attempt, the earliest first: more than one where an answer was lost.

        :param name: of the one that is known to be created, which a list may not have yet
        :raises SubmitFailed: the API refuses or does not answer
        """
        found = self._listed(place, filter_of({TOKEN: token}))
        # The name comes from the store, where a job may have written another one.
        if not found and name and (job := self.read(name)) and job.token == token:
            found = [job]
        return sorted(found, key=lambda job: job.order)

    def active(self, place: Place) -> tuple[list[VertexJob], int]:
        """Return all jobs of modelway that are not over, and how many calls that took.

        :raises SubmitFailed: the API refuses or does not answer
        """
        over = " AND ".join(f'state!="{_PREFIX}{state}"' for state in OVER)
        calls, found, token = 0, list[VertexJob](), ""
        while not calls or token:
            params = {"filter": f"{filter_of(MANAGED)} AND {over}", "readMask": FIELDS, "pageSize": PAGE}
            with translated():
                answer = self.api.get(
                    SERVICE, f"{place.parent}/customJobs", params={**params, "pageToken": token or None}
                )
            found += [VertexJob.of(each) for each in answer.get("customJobs") or ()]
            calls, token = calls + 1, answer.get("nextPageToken") or ""
        return found, calls

    def documents(self, place: Place, labels: Mapping[str, str]) -> list[Document]:
        """Return the jobs with these labels whole.

        :raises SubmitFailed: the API refuses or does not answer
        """
        params = {"filter": filter_of(labels)}
        with translated():
            return list(self.api.pages(SERVICE, f"{place.parent}/customJobs", "customJobs", params=params))

    def read(self, name: str) -> VertexJob | None:
        """Return a job by its name; None where it is not there any more.

        :raises SubmitFailed: the API refuses or does not answer
        """
        try:
            return VertexJob.of(self.api.get(SERVICE, name, params={"fields": FIELDS}))
        except GoogleError as error:
            if error.is_absent:
                return None
            raise failure_of(error) from error

    def printed(self, project: str, name: str, *, lines: int) -> list[str]:
        """Return the last lines of a job that Cloud Logging has.

        :raises SubmitFailed: the API refuses or does not answer
        """
        number = name.rpartition("/")[2]
        body = {
            "resourceNames": [f"projects/{project}"],
            "filter": f'resource.type="ml_job" AND resource.labels.job_id="{number}"',
            "orderBy": "timestamp desc",
            "pageSize": lines,
        }
        with translated():
            found = self.api.post("logging", "entries:list", body=body, idempotent=True)
        return [_text_of(entry) for entry in reversed(found.get("entries") or ())]

    def cancel(self, name: str) -> None:
        """Request that a job ends; one that is over or gone is left alone.

        :raises SubmitFailed: the API refuses or does not answer
        """
        try:
            self.api.post(SERVICE, f"{name}:cancel", idempotent=True)
        except GoogleError as error:
            if error.is_absent or error.code == "FAILED_PRECONDITION":
                return
            # With which code a job that is over refuses it is not documented.
            if error.status not in _REFUSALS or ((job := self.read(name)) and not job.is_over):
                raise failure_of(error) from error

    def _listed(self, place: Place, text: str) -> list[VertexJob]:
        params = {"filter": text, "readMask": FIELDS}
        with translated():
            found = self.api.pages(SERVICE, f"{place.parent}/customJobs", "customJobs", params=params)
            return [VertexJob.of(each) for each in found]


def _text_of(entry: Document) -> str:
    payload = entry.get("jsonPayload") or {}
    return str(entry.get("textPayload") or payload.get("message") or "").rstrip("\n")


@contextmanager
def translated(*, but: type[GoogleError] | tuple[()] = ()) -> Iterator[None]:
    """Translate the API's errors to the port's own."""
    try:
        yield
    except GoogleError as error:
        if isinstance(error, but):
            raise
        raise failure_of(error) from error


def failure_of(error: GoogleError) -> SubmitFailed:
    """Return an API's error as the port has it."""
    if error.status == 429 and not error.retryable:
        kind = FailureKind.QUOTA
    elif error.status == 403:
        kind = FailureKind.FORBIDDEN
    elif error.is_unavailable:
        kind = FailureKind.UNREACHABLE
    else:
        kind = FailureKind.REFUSED
    return SubmitFailed(error.what, kind=kind, do=error.do or kind.advice)
