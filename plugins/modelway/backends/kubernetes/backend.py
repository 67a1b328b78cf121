"""Jobs as Kubernetes Jobs: their folders on storage that the worker sees or fetches from, their state by one watch.

See docs/kubernetes.md for users, docs/adr/0012 for why the folder is on the storage. ``<key>/try-<n>.json`` identifies
an attempt (name, namespace, nodes): beside the generations, where its pods do not write. Its folder holds
``submitted`` (its objects were created), ``seen.json`` (the pods that ran), ``result.json`` (how it ended) and what the
agents write (``modelway.job.agent``).

A process may end between any two steps of ``submit``: the next one finds the attempt by its folder, and its objects by
their names; ``token`` distinguishes them from those of another Airflow that has a run of the same name.
"""

import contextlib
import time
import uuid
from collections.abc import Mapping
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from modelway import names
from modelway.backends.base import Handle, Job, JobState, JobStatus, Options
from modelway.backends.folders import generations
from modelway.backends.folders.continued import new_attempt, submitted_attempt
from modelway.backends.folders.merged_log import read_merged
from modelway.backends.folders.old_jobs import discard_old
from modelway.backends.folders.stored import SUBMITTED
from modelway.backends.kubernetes.attempts import AttemptRecord, handle_of
from modelway.backends.kubernetes.folders import Folders
from modelway.backends.kubernetes.inspect import StatusReader
from modelway.backends.kubernetes.launchers import WORK, custom_kind
from modelway.backends.kubernetes.member import MEMBER
from modelway.backends.kubernetes.objects import Object, Objects, handle_of_object, token_of
from modelway.backends.kubernetes.pods import cannot_start, has_started, is_alive, is_on_node, may_run, name_of
from modelway.backends.kubernetes.request import KubernetesRequest, request_of, storage_root
from modelway.backends.kubernetes.status import is_active
from modelway.errors import CapabilityMissing, NotWritable, SubmitFailed
from modelway.job.left_files import write_below
from modelway.platforms.deployment import deployment, known_deployment
from modelway.platforms.kubernetes.api import Api, Manifest, find_client
from modelway.platforms.kubernetes.labels import DEPLOYMENT, run_labels

CANCEL_SECONDS = 30.0
#: the same for pods whose containers cannot be made: nothing of them runs, and a kubelet deletes them late (seen: 47 s)
STUCK_SECONDS = 5.0
GRACE_SECONDS = 1
POD_LINES = 100
_WRITABLE = "Mount the storage where the Airflow worker sees it (storage.worker_path), writable for its user"


class KubernetesBackend:
    """Creates, finds again, follows and deletes Jobs of a cluster."""

    capabilities = MEMBER.capabilities

    def __init__(self, *, home: Path, client: Any = None, version: tuple[int, int] | None = None) -> None:
        """Work on the cluster of ``client`` (the SDK's ApiClient), else of the pod or KUBECONFIG.

        :param version: the server's version, for requests that are only printed; default: requested from the server
        """
        self.home = home.absolute()
        self._client, self._version = client, version
        self._objects = Objects(lambda: self.api)
        self._folders = Folders(home=self.home)
        self._reader = StatusReader(objects=self._objects, folders=self._folders)

    @cached_property
    def api(self) -> Api:
        """The cluster's API."""
        return Api(self._client if self._client is not None else find_client())

    @property
    def version(self) -> tuple[int, int]:
        """The server's version."""
        if self._version is None:
            self._version = self.api.version()
        return self._version

    def build_request(self, job: Job, options: Options) -> KubernetesRequest:
        """Return what will be created; see the port."""
        return request_of(job, options, version=lambda: self.version, folders=self._folders)

    def submit(self, request: KubernetesRequest) -> Handle:
        """Create the job or find it again; see the port.

        :raises SubmitFailed: the API refused it or did not answer
        :raises DigestMismatch: the code or an input is damaged
        :raises NotWritable: the worker does not see the storage, or cannot write there
        :raises CapabilityMissing: the worker has nothing that reads the object store
        """
        if not (request.uri or Path(request.root).is_dir()):
            raise NotWritable(
                "the worker does not see the storage of the jobs",
                where=request.root,
                do="Mount it there for the Airflow workers, or say in storage.worker_path where they see it",
            )
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
                prepare=lambda generation, last: self._prepare(request, generation, last),
                create=lambda attempt: self._create(request, attempt),
            )
            self._folders.push(attempt.parent / generations.GENERATION)
            return self._handle(attempt)

    def _handle(self, attempt: Path) -> Handle:
        return handle_of(attempt, place=self._folders.place(attempt.parent))

    def _prepare(self, request: KubernetesRequest, generation: Path, last: Path | None) -> Path:
        """Put what the job needs into its folder, and record a new attempt."""
        job, root, owner = request.job, Path(request.root), request.run_as
        # Pods have the inputs on a read-only mount; in an object store's copy they are sent on from here.
        attempt = new_attempt(last, generation, job=job, contract=request.contract, root=root, owner=owner, shared=True)
        platform = request.options.platform
        AttemptRecord(
            name=job.name(generations.number(attempt)),
            namespace=platform.get("namespace", "default"),
            nodes=request.options.nodes,
            launcher=platform.get("launcher", "job"),
            start_within_seconds=platform.get("start_within_seconds", 3600),
            token=self._folders.token(attempt) if request.uri else uuid.uuid4().hex,
        ).write(attempt)
        generations.set_owner(attempt, request.run_as)
        return attempt

    def _create(self, request: KubernetesRequest, attempt: Path) -> bool:
        """Create an attempt's objects; False when a job of another Airflow has its name."""
        record = AttemptRecord.read(attempt)
        if record is None or (attempt / SUBMITTED).exists() or generations.recorded(attempt):
            return True
        numbers = {"generation": generations.number(attempt.parent), "attempt": generations.number(attempt)}
        self._folders.publish(attempt)
        owner: Mapping[str, Any] | None = None
        waiting: list[Manifest] = []
        for manifest in request.manifests(token=record.token, deployment=deployment(self.home), **numbers):
            if owner:
                manifest["metadata"]["ownerReferences"] = [owner]
            created = self.api.create(manifest) or self.api.find(manifest)
            if token_of(created) != record.token:
                return False
            if request.uri and manifest["kind"] in WORK and not is_active(created):
                # It has ended without a record of its start: the folder that it belonged to was removed.
                return False
            if owner is None and manifest["kind"] != "TrainingRuntime":
                own = {key: manifest[key] for key in ("apiVersion", "kind")}
                owner = {**own, "name": created["metadata"]["name"], "uid": created["metadata"]["uid"]}
            elif owner is None:
                waiting.append(manifest)
        for manifest in waiting:
            self.api.set_owner(manifest, owner=owner or {})
        generations.mark(attempt / SUBMITTED)
        self._folders.push(attempt / SUBMITTED)
        return True

    def describe(self, handle: Handle) -> JobStatus:
        """Return the job's status; see the port."""
        return self._reader.status(self._folders.attempt(handle), handle=handle)

    def logs(self, handle: Handle, *, offset: int = 0) -> tuple[str, int]:
        """Return what was printed since ``offset``; see the port."""
        attempt = self._folders.attempt(handle)
        if (record := self._reader.record(attempt, handle=handle)) is None:
            return "", offset
        over = (attempt / generations.RECORD).exists()
        self._folders.fetch_log(attempt, over=over)
        if over and not any(attempt.glob("log-*.txt")):
            self._save_pod_log(attempt, record)
        return read_merged(attempt, nodes=record.nodes, offset=offset, over=over)

    def _save_pod_log(self, attempt: Path, record: AttemptRecord) -> None:
        """Save the pods' own last lines where no agent ever wrote: the image may lack Python."""
        try:
            pods = self.api.pods(record.namespace, record.selector)
            texts = [self.api.pod_log(record.namespace, pod["metadata"]["name"], lines=POD_LINES) for pod in pods]
        except SubmitFailed:
            return
        write_below(attempt.parent, f"{attempt.name}/log-0.txt", "".join(texts).encode())

    def cancel(self, handle: Handle) -> None:
        """Delete the job with its pods and wait until nothing of it runs; see the port.

        :raises SubmitFailed: the API refused it or did not answer
        """
        attempt = self._folders.attempt(handle)
        record = None
        # On storage that this process does not see nothing can be recorded; the job itself can be ended all the same.
        with contextlib.suppress(SubmitFailed, CapabilityMissing):
            record = self._reader.record(attempt)
        if record is None or not record.is_of(handle):
            # Nothing is recorded in another job's folder.
            if handle.mark:
                self._delete(AttemptRecord.of_mark(handle.name, handle.mark))
            return
        if not self._reader.status(attempt, handle=handle, now=True).state.is_terminal:
            generations.mark(attempt / generations.CANCELLED)
            self._folders.push(attempt / generations.CANCELLED)
        elif not self._leaves_something(record):
            self._folders.forget_heartbeats(attempt)
            return
        else:
            # The last lines of its log are lost with its pods.
            self.logs(handle)
        if self._delete(record):
            self._folders.forget_heartbeats(attempt)
        if generations.cancelled(attempt):
            self._reader.note(attempt, JobStatus(state=JobState.CANCELLED, reason="the job was cancelled"))

    def _delete(self, record: AttemptRecord) -> bool:
        """Delete an attempt's objects; return whether all that ran is known to have ended."""
        place = (record.namespace, record.selector)
        custom = None if record.launcher == "job" else custom_kind(record.launcher)
        pods = self.api.delete(*place, custom=custom, grace_seconds=GRACE_SECONDS)
        unknown: set[str] = set()
        known: set[str] = set()
        began = time.monotonic()
        while True:
            unknown.update(name_of(pod) for pod in pods if is_on_node(pod))
            known.update(name_of(pod) for pod in pods if has_started(pod))
            left = [pod for pod in pods if may_run(pod)]
            if not left:
                break
            if time.monotonic() - began > (STUCK_SECONDS if all(map(cannot_start, left)) else CANCEL_SECONDS):
                return False
            time.sleep(0.2)
            # A controller may have created another one before it saw the deletion, so that all are deleted again.
            pods = self.api.delete_pods(*place, GRACE_SECONDS)
        # A pod that leaves just when its container starts may be gone before the container (seen on 1.20).
        return unknown <= known

    def _leaves_something(self, record: AttemptRecord) -> bool:
        jobs, pods = self._objects.now(record)
        return any(map(is_active, jobs)) or any(map(is_alive, pods))

    def folder(self, handle: Handle) -> Path:
        """Return the contract's folder on the storage, or a copy of it; see the port.

        :raises SubmitFailed: the object store does not answer
        """
        return self._folders.fetch(self._folders.here(handle.place))

    def discard(self, *, model: str, run: str, storage: Mapping[str, Any] | None = None) -> int:
        """Remove code, inputs and output of a run's jobs that are over; see ``RunFolders``.

        The jobs' folders are where ``storage`` says; without it nothing is known of them.
        """
        if not storage:
            return 0
        root, uri = storage_root(storage, folders=self._folders)
        place = Path("jobs") / names.slug(model) / names.slug(run)
        if uri:
            self._folders.pull_run(Path(root) / place)
        status = partial(self._reader.status, now=True, is_certain=True)
        return generations.discard(Path(root) / place, status=status, remove=self._folders.discard_parts)

    def discard_old(
        self, *, model: str, before: datetime, storage: Mapping[str, Any] | None = None, dry_run: bool = False
    ) -> int:
        """Do so for all jobs of a model that ended before a time; see ``JobFolders``.

        :raises NotWritable: this process does not see the storage
        :raises SubmitFailed: the object store does not answer
        """
        if not storage:
            return 0
        root, uri = storage_root(storage, folders=self._folders)
        if not uri and not Path(root).is_dir():
            raise NotWritable("the storage of the jobs is not seen here", where=root, do=_WRITABLE)
        place, status = Path(root) / "jobs" / names.slug(model), partial(self._reader.status, now=True, is_certain=True)
        return discard_old(self._folders, place, status=status, before=before.timestamp(), dry_run=dry_run)

    def unfinished(self, *, run: str) -> list[Handle]:
        """Return the jobs of a run that are not over; see the port.

        :raises SubmitFailed: the API refused to list them or did not answer
        """
        selector = ",".join(f"{key}={value}" for key, value in run_labels(run=run).items())
        found = {handle_of_object(job): job for job in self._objects.everywhere(selector) if is_active(job)}
        return [handle for handle, job in found.items() if self._may_be_ours(handle, job)]

    def _may_be_ours(self, handle: Handle, job: Object) -> bool:
        """Whether a job is of this Airflow, as far as its label and the storage that is seen here say."""
        labelled, own = job["metadata"]["labels"].get(DEPLOYMENT), known_deployment(self.home)
        if labelled and own and labelled != own:
            return False
        attempt = self._folders.attempt(handle)
        if self._folders.is_copy(attempt) or not self._folders.is_seen(attempt):
            return True
        record = AttemptRecord.read(attempt)
        return record is not None and record.mark == handle.mark
