"""Jobs as custom jobs of Google's Vertex AI: their folders on an object store, their state by one list for all.

See docs/vertex.md for users, docs/adr/0041 for what is decided. ``<key>/try-<n>.json`` beside the generations says
where an attempt's job is; its folder holds ``submitted`` (its job was created), ``result.json`` (how it ended) and
what the agents write (``modelway.job.agent``).

Vertex AI gives a job its name, and creates two of two requests. So an attempt's job has a label that follows from the
attempt's place: a job is searched before it is created, and afterwards: of two the earlier stays.
"""

import contextlib
import logging
import time
from functools import cached_property
from pathlib import Path
from typing import Any

from modelway.backends.base import Handle, Job, JobStatus, Options
from modelway.backends.folders import generations
from modelway.backends.folders.continued import new_attempt, submitted_attempt
from modelway.backends.folders.merged_log import read_merged
from modelway.backends.folders.stored import SUBMITTED, StoredFolders
from modelway.backends.vertex.attempts import (
    AttemptRecord,
    created_name,
    handle_of,
    mark_of,
    read_mark,
    record_created,
)
from modelway.backends.vertex.bodies import FOLDER
from modelway.backends.vertex.inspect import StatusReader
from modelway.backends.vertex.jobs import Document, Place, VertexJob, VertexJobs
from modelway.backends.vertex.labels import DEPLOYMENT, NAME, RUN, TOKEN, attempt_number
from modelway.backends.vertex.member import MEMBER
from modelway.backends.vertex.pace import Pace
from modelway.backends.vertex.places import Places
from modelway.backends.vertex.request import VertexRequest, request_of
from modelway.backends.vertex.running import RunningJobs
from modelway.errors import CapabilityMissing, SubmitFailed
from modelway.failures import FailureKind
from modelway.job.left_files import write_below
from modelway.platforms.deployment import deployment, digest, known_deployment
from modelway.platforms.google.connection import GoogleConnection
from modelway.platforms.google.errors import LostAnswer
from modelway.platforms.google.rest import GoogleApi

_log = logging.getLogger(__name__)
#: how long a cancelled job has to end before its task continues without it
CANCEL_SECONDS = 30.0
POLL_SECONDS = 0.5
#: pauses before a job whose answer was lost is searched again: nothing promises that a list has it at once
LOST_PAUSES = (0.5, 2.0, 5.0)
PLATFORM_LINES = 100
_WRITABLE = "Make the home folder (MODELWAY_HOME) writable for the Airflow worker"


class VertexBackend:
    """Creates, finds again, follows and cancels custom jobs."""

    capabilities = MEMBER.capabilities

    def __init__(self, *, home: Path, client: Any = None) -> None:
        """Call by ``client`` (a ``GoogleConnection`` or a ``GoogleApi``), else with the environment's credentials."""
        self.home = home.absolute()
        self._client = client
        self._folders = StoredFolders(home=self.home, backend=MEMBER.name)
        self._places = Places(home=self.home)
        self._running = RunningJobs(lambda: self.jobs)
        self._pace = Pace()

    @cached_property
    def api(self) -> GoogleApi:
        """The API."""
        client = self._client
        return client if isinstance(client, GoogleApi) else GoogleApi(client or GoogleConnection())

    @cached_property
    def jobs(self) -> VertexJobs:
        """The API of custom jobs."""
        return VertexJobs(self.api)

    @cached_property
    def _reader(self) -> StatusReader:
        return StatusReader(jobs=self.jobs, running=self._running, folders=self._folders)

    @property
    def poll_seconds(self) -> float:
        """How long a follower waits between two inspections of a job."""
        return self._pace.poll_seconds

    @property
    def credentials_refused(self) -> bool:
        """Whether Google refused its credentials, and not only for now."""
        return "api" in vars(self) and self.api.credentials.are_refused

    def build_request(self, job: Job, options: Options) -> VertexRequest:
        """Return what will be created; see the port."""
        return request_of(job, options, folders=self._folders)

    def submit(self, request: VertexRequest) -> Handle:
        """Create the job or find it again; see the port.

        :raises SubmitFailed: the API refused it or did not answer
        :raises DigestMismatch: the code or an input is damaged
        :raises NotWritable: the worker cannot write its copy of the store
        :raises CapabilityMissing: the worker has nothing that reads the object store, or no project is named
        """
        place = Place(request.project or self._project(), request.region)
        folder = generations.job_folder(Path(request.root) / "jobs", request.job)
        with generations.locked(folder, do=_WRITABLE):
            self._folders.pull_job(folder)
            attempt = submitted_attempt(
                folder,
                request.job,
                contract=request.contract,
                read=AttemptRecord.read,
                status=lambda attempt: self._reader.status(attempt, now=True),
                cancel=lambda attempt: self.cancel(self._handle(attempt)),
                prepare=lambda generation, last: self._prepare(request, place, generation, last),
                create=lambda attempt: self._create(request, place, attempt),
            )
            self._folders.push(attempt.parent / generations.GENERATION)
            return self._handle(attempt)

    def _project(self) -> str:
        if project := self.api.credentials.project():
            return project
        raise CapabilityMissing(
            "neither the spec nor the credentials name a project of Google Cloud",
            do="Set vertex.project in the spec, or the project of the connection modelway_vertex",
        )

    def _handle(self, attempt: Path) -> Handle:
        record = AttemptRecord.read(attempt)
        assert record is not None  # it was written, or fetched, a moment ago
        place, token = self._folders.place(attempt.parent), self._folders.token(attempt)
        return handle_of(attempt, record, place=place, token=token)

    def _prepare(self, request: VertexRequest, place: Place, generation: Path, last: Path | None) -> Path:
        """Put what the job needs into its folder, and record a new attempt."""
        job, root = request.job, Path(request.root)
        attempt = new_attempt(last, generation, job=job, contract=request.contract, root=root)
        AttemptRecord(
            name=job.name(generations.number(attempt)),
            project=place.project,
            region=place.region,
            nodes=request.options.nodes,
            start_within_seconds=request.start_within_seconds,
        ).write(attempt)
        return attempt

    def _create(self, request: VertexRequest, place: Place, attempt: Path) -> bool:
        """Create an attempt's job, unless it is there; False when an earlier one of its place has ended."""
        if (attempt / SUBMITTED).exists() or generations.recorded(attempt):
            return True
        token = self._folders.token(attempt)
        self._places.note(place)
        self._folders.publish(attempt)
        found = self.jobs.of_token(place, token)
        if found and found[0].is_over:
            # It has ended without a record of its start: the folder that it belonged to was removed.
            return False
        if not found:
            body = request.body(
                generation=generations.number(attempt.parent),
                attempt=generations.number(attempt),
                token=token,
                deployment=deployment(self.home),
            )
            found = self._created(place, token, body)
        self._running.note(found[0])
        for other in found[1:]:
            self.jobs.cancel(other.name)
        self._folders.push(record_created(attempt, found[0].name))
        return True

    def _created(self, place: Place, token: str, body: Document) -> list[VertexJob]:
        """Create a job; return all of its attempt, the earliest first."""
        created: list[VertexJob] = []
        lost: LostAnswer | None = None
        try:
            created = [self.jobs.create(place, body)]
        except LostAnswer as error:
            lost = error
        listed = self.jobs.of_token(place, token)
        for pause in LOST_PAUSES if lost else ():
            if listed:
                break
            time.sleep(pause)
            listed = self.jobs.of_token(place, token)
        by_name = {job.name: job for job in (*created, *listed)}
        if lost is not None and not by_name:
            do = "Try again: it is searched first, and created only where it is not there"
            what = f"it is not known whether the job was created: {lost.what}"
            raise SubmitFailed(what, kind=FailureKind.UNREACHABLE, do=do) from lost
        return sorted(by_name.values(), key=lambda job: job.order)

    def describe(self, handle: Handle) -> JobStatus:
        """Return the job's status; see the port."""
        status = self._reader.status(self._folders.attempt(handle), handle=handle)
        self._pace.followed(handle, over=status.state.is_terminal)
        return status

    def logs(self, handle: Handle, *, offset: int = 0) -> tuple[str, int]:
        """Return what was printed since ``offset``; see the port."""
        attempt = self._folders.attempt(handle)
        over = (attempt / generations.RECORD).exists()
        if not over and not self._pace.may_read_log(handle):
            return "", offset
        if (record := self._reader.record(attempt)) is None:
            return "", offset
        self._folders.fetch_log(attempt, over=over, nodes=record.nodes, seconds=0)
        if over and not any(file.stat().st_size for file in attempt.glob("log-*.txt")):
            self._save_platform_log(attempt, record)
        return read_merged(attempt, nodes=record.nodes, offset=offset, over=over)

    def _save_platform_log(self, attempt: Path, record: AttemptRecord) -> None:
        """Save what Cloud Logging has of a job whose agent never wrote: its image may lack Python, or gcsfs."""
        if (name := created_name(attempt)) is None:
            return
        with contextlib.suppress(SubmitFailed):
            lines = self.jobs.printed(record.project, name, lines=PLATFORM_LINES)
            text = "".join(f"{line}\n" for line in lines)
            write_below(attempt.parent, f"{attempt.name}/log-0.txt", text.encode())

    def cancel(self, handle: Handle) -> None:
        """Cancel the job, wait for its end for a while, and mark the attempt as cancelled; see the port.

        :raises SubmitFailed: the API refused it or did not answer
        """
        attempt = self._folders.attempt(handle)
        place, token = read_mark(handle.mark)
        # Where this process cannot read the store, the job itself can be ended all the same.
        record = None
        with contextlib.suppress(SubmitFailed, CapabilityMissing):
            record = self._reader.record(attempt)
        if record is None:
            self._end(place, token)
            return
        if not self._reader.status(attempt, handle=handle, now=True).state.is_terminal:
            generations.mark(attempt / generations.CANCELLED)
            self._folders.push(attempt / generations.CANCELLED)
        if not self._end(place, token, name=created_name(attempt)):
            return
        if generations.cancelled(attempt):
            self._reader.status(attempt, handle=handle, now=True)
        with contextlib.suppress(SubmitFailed):
            self._folders.forget_heartbeats(attempt)

    def _end(self, place: Place, token: str, *, name: str | None = None) -> bool:
        """Cancel all jobs of an attempt; return whether none of them runs any more."""
        deadline = time.monotonic() + CANCEL_SECONDS
        cancelled: set[str] = set()
        while running := [job for job in self.jobs.of_token(place, token, name=name) if not job.is_over]:
            for job in running:
                if job.name not in cancelled:
                    self.jobs.cancel(job.name)
                    cancelled.add(job.name)
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True

    def folder(self, handle: Handle) -> Path:
        """Return a copy of the contract's folder; see the port.

        :raises SubmitFailed: the object store does not answer
        """
        return self._folders.fetch(self._folders.here(handle.place))

    def unfinished(self, *, run: str) -> list[Handle]:
        """Return the jobs of a run that are not over, in each place that this home has sent jobs to; see the port.

        :raises SubmitFailed: the API refused to list them or did not answer, in each of the places
        """
        own = known_deployment(self.home)
        labels = {RUN: digest(run), **({DEPLOYMENT: own} if own else {})}
        found: dict[str, Handle] = {}
        places, errors = self._places.known(), list[SubmitFailed]()
        for place in places:
            try:
                documents = self.jobs.documents(place, labels)
            except SubmitFailed as error:
                # What another place has must be ended all the same.
                _log.warning("the jobs in %s are not known: %s", place.parent, error)
                errors.append(error)
                continue
            for document in documents:
                job = VertexJob.of(document)
                if not job.is_over and (handle := _handle_of_job(place, job, document)) is not None:
                    found.setdefault(handle.mark, handle)
        if errors and len(errors) == len(places):
            raise errors[0]
        return list(found.values())


def _handle_of_job(place: Place, job: VertexJob, document: Document) -> Handle | None:
    """Return the handle of an attempt by its job; None where it is not of the form that this side creates."""
    try:
        args = document["jobSpec"]["workerPoolSpecs"][0]["containerSpec"]["args"]
        uri = str(args[args.index(FOLDER) - 1])
        name, token = job.labels[NAME], job.labels[TOKEN]
    except (KeyError, IndexError, TypeError, ValueError):
        return None
    mark = mark_of(place, token)
    return Handle(backend=MEMBER.name, name=name, place=uri, attempt=attempt_number(name), mark=mark)
