"""Jobs as Kubernetes Jobs: their folders on storage that the worker sees, their state by one watch.

See docs/kubernetes.md for users, docs/adr/0012 for why the folder lies on the storage. A try's folder holds
``request.json`` (its name, namespace and nodes), ``submitted`` (its objects were created), ``seen.json`` (the pods that
ran), ``result.json`` (how it ended) and what the agents write (``modelway.job.agent``).
"""

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from modelway.backends import _generations as generations
from modelway.backends._kubernetes_api import Api, find_client
from modelway.backends._kubernetes_manifests import GROUP, Manifest, Try, manifests, run_labels
from modelway.backends._kubernetes_status import Observed, needs_events, status_of
from modelway.backends._kubernetes_watch import Watch
from modelway.backends._merged_log import read_merged
from modelway.backends._runner import runner_folder
from modelway.backends.base import Handle, Job, JobState, JobStatus, Options, image_of
from modelway.errors import CapabilityMissing, NotWritable, SubmitFailed
from modelway.failures import FailureKind

Object = Mapping[str, Any]

#: what this backend gives where the cluster has it; lint reads it without importing this file
POSSIBLE = frozenset(
    {
        "cancel",
        "logs",
        "memory_limit",
        "cpu_limit",
        "disk_limit",
        "gpu",
        "multi_node",
        "multi_process",
        "image",
        "storage",
    }
)
CANCEL_SECONDS = 30.0
GRACE_SECONDS = 1
#: events tell why a pod waits; they are asked for at most this often for one job
EVENTS_SECONDS = 15.0
#: a process that follows more jobs than this watches instead of asking for each
ASKED_ONE_BY_ONE = 2


@dataclass(frozen=True, kw_only=True)
class KubernetesRequest:
    """What will be created: everything but the try's number is fixed here."""

    job: Job
    options: Options
    contract: Mapping[str, Any]
    image: str
    run_as: int
    root: str
    """the storage as the worker sees it"""
    version: tuple[int, int]

    def folder(self, generation: int) -> Path:
        """Return the folder of a generation as the worker sees it."""
        return generations.job_folder(Path(self.root) / "jobs", self.job) / f"g{generation}"

    def manifests(self, *, generation: int = 0, attempt: int = 1) -> list[Manifest]:
        """Return the objects of a try, the one that owns the others first."""
        root = Path(_storage(self.options)["path"]) / "jobs"
        return manifests(
            Try(
                job=self.job,
                options=self.options,
                image=self.image,
                run_as=self.run_as,
                folder=str(generations.job_folder(root, self.job) / f"g{generation}"),
                seen_at=str(self.folder(generation) / f"try-{attempt}"),
                attempt=attempt,
                version=self.version,
            )
        )


class KubernetesBackend:
    """Creates, finds again, follows and deletes Jobs of a cluster."""

    capabilities = POSSIBLE

    def __init__(self, *, home: Path, client: Any = None, version: tuple[int, int] | None = None) -> None:
        """Work on the cluster of ``client`` (the SDK's ApiClient), else of the pod or KUBECONFIG.

        :param version: the server's version, for requests that are only printed; default: the server is asked
        """
        self.home = home.absolute()
        self._client, self._version = client, version
        self._lock = threading.Lock()
        self._watches: dict[str, Watch] = {}
        self._followed: dict[str, set[str]] = {}
        self._asked_events: dict[str, tuple[float, list[Object]]] = {}

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
        """Return what would be created; see the port."""
        storage = options.storage
        if not storage:
            raise CapabilityMissing(
                "the backend 'kubernetes' needs a place for the jobs' folders",
                do="Add the section storage to the spec: a node's folder, nfs, or a claim",
            )
        if storage.get("uri"):
            raise CapabilityMissing(
                f"jobs on Kubernetes cannot keep their folders at {storage['uri']} yet",
                do="Use a claim, nfs, or a node's folder as storage",
            )
        if storage.get("node") and options.nodes > 1 and not storage["node"].get("name"):
            raise CapabilityMissing("a folder of one node cannot be the storage of several")
        path = storage.get("path", "/modelway")
        root = storage.get("worker_path") or (storage["node"]["path"] if storage.get("node") else path)
        own = os.geteuid() or 1000
        return KubernetesRequest(
            job=job,
            options=replace(options, storage={**storage, "path": path}),
            contract=job.contract(),
            image=image_of(options),
            run_as=options.platform.get("run_as") or own,
            root=root,
            version=self.version,
        )

    def submit(self, request: KubernetesRequest) -> Handle:
        """Create the job or find it again; see the port.

        :raises SubmitFailed: the API refused it or did not answer
        :raises DigestMismatch: the code or an input is damaged
        :raises NotWritable: the worker does not see the storage, or cannot write there
        """
        if not Path(request.root).is_dir():
            raise NotWritable(
                "the worker does not see the storage of the jobs",
                where=request.root,
                do="Mount it there for the Airflow workers, or say in storage.worker_path where they see it",
            )
        folder = generations.job_folder(Path(request.root) / "jobs", request.job)
        with generations.locked(folder):
            generation = generations.generation(
                folder,
                contract=request.contract,
                clear_number=request.job.clear_number,
                status=lambda attempt: self.describe(_handle(attempt)),
            )
            attempt = self._attempt(folder, generation, request)
            self._create(request, attempt)
            return _handle(attempt)

    def _attempt(self, folder: Path, generation: Path, request: KubernetesRequest) -> Path:
        """Return the try that goes on, or the new one."""
        every = generations.tries(folder)
        last = every[-1] if every else None
        if last and (last / "request.json").exists():
            if last.parent != generation:
                self.cancel(_handle(last))
            elif not (last / "submitted").exists():
                # The process that began it ended before its objects were all there: they have the same names again.
                return last
            else:
                status = self.describe(_handle(last))
                if status.state is JobState.UNKNOWN:
                    raise SubmitFailed(
                        f"it is not known whether job {last.name} runs: {status.reason}", kind=FailureKind.UNREACHABLE
                    )
                if not status.state.is_terminal or status.state is JobState.SUCCEEDED:
                    return last
                self.cancel(_handle(last))
        number = generations.number(last) + 1 if last else 1
        attempt = generation / f"try-{number}"
        runner = runner_folder(self.home / "jobs")
        generations.prepare(generation, job=request.job, contract=request.contract, runner=runner, owner=request.run_as)
        attempt.mkdir(exist_ok=True)
        platform = request.options.platform
        told = {
            "name": request.job.name(number),
            "namespace": platform.get("namespace", "default"),
            "nodes": request.options.nodes,
            "start_within_seconds": platform.get("start_within_seconds", 3600),
        }
        generations.write(attempt / "request.json", told)
        generations.give(attempt, request.run_as)
        return attempt

    def _create(self, request: KubernetesRequest, attempt: Path) -> None:
        if (attempt / "submitted").exists():
            return
        numbers = {"generation": generations.number(attempt.parent), "attempt": generations.number(attempt)}
        first, *others = request.manifests(**numbers)
        owner = self.api.create(first) or self._find(first)
        for manifest in others:
            manifest["metadata"]["ownerReferences"] = [
                {
                    "apiVersion": first["apiVersion"],
                    "kind": first["kind"],
                    "name": owner["metadata"]["name"],
                    "uid": owner["metadata"]["uid"],
                }
            ]
            self.api.create(manifest)
        (attempt / "submitted").touch()

    def _find(self, manifest: Manifest) -> Object:
        metadata = manifest["metadata"]
        found = self.api.jobs(metadata["namespace"], f"{GROUP}/try={metadata['labels'][f'{GROUP}/try']}")
        for each in found:
            if each["metadata"]["name"] == metadata["name"]:
                return each
        raise SubmitFailed(
            f"a Job {metadata['name']} is there that is none of ours",
            kind=FailureKind.REFUSED,
            do="Delete it, or choose another kubernetes.namespace",
        )

    def describe(self, handle: Handle) -> JobStatus:
        """Return where the job stands; see the port."""
        attempt = _folder_of(handle)
        if (ended := generations.recorded(attempt)) is not None:
            return ended
        request = generations.read(attempt / "request.json")
        if request is None:
            return JobStatus.failed(FailureKind.VANISHED, "the folder of the job is gone")
        try:
            status = self._look(attempt, request)
        except SubmitFailed as error:
            if error.kind is not FailureKind.UNREACHABLE:
                return JobStatus.failed(error.kind, error.what)
            return JobStatus(state=JobState.UNKNOWN, reason=error.what)
        return generations.record(attempt, status) if status.state.is_terminal else status

    def _look(self, attempt: Path, request: Mapping[str, Any]) -> JobStatus:
        name, namespace = request["name"], request["namespace"]
        jobs, pods = self._objects(namespace, name)
        if generations.cancelled(attempt):
            if any(_active(job) for job in jobs) or any(_runs(pod) for pod in pods):
                return JobStatus(state=JobState.RUNNING, waiting="it is being cancelled")
            return JobStatus(state=JobState.CANCELLED, reason="the job was cancelled")
        if not jobs:
            if not (attempt / "submitted").exists():
                return JobStatus(state=JobState.PENDING)
            return JobStatus.failed(FailureKind.VANISHED, f"the Job {name} is not in namespace {namespace} any more")
        gone = _gone_pods(attempt, pods)
        asked = needs_events(jobs, pods, gone=bool(gone))
        seen = Observed(
            jobs=jobs,
            pods=pods,
            events=self._events(namespace, name, now=bool(gone)) if asked else (),
            exits=_exits(attempt, request["nodes"]),
            gone=gone,
            start_within_seconds=request["start_within_seconds"],
        )
        return status_of(seen, now=datetime.now(UTC))

    def _objects(self, namespace: str, name: str) -> tuple[list[Object], list[Object]]:
        """Return the try's Jobs and pods: as watched where many are followed, else as asked for."""
        with self._lock:
            followed = self._followed.setdefault(namespace, set())
            followed.add(name)
            if namespace not in self._watches and len(followed) > ASKED_ONE_BY_ONE:
                self._watches[namespace] = Watch(client=self.api.client, namespace=namespace)
            watch = self._watches.get(namespace)
        if watch and (known := watch.objects(name)) is not None:
            return known
        selector = f"{GROUP}/try={name}"
        return self.api.jobs(namespace, selector), self.api.pods(namespace, selector)

    def _events(self, namespace: str, name: str, *, now: bool) -> list[Object]:
        asked, known = self._asked_events.get(name, (0.0, []))
        if now or time.monotonic() - asked > EVENTS_SECONDS:
            known = self.api.events(namespace, name)
            self._asked_events[name] = time.monotonic(), known
        return known

    def logs(self, handle: Handle, *, offset: int = 0) -> tuple[str, int]:
        """Return what was printed since ``offset``; see the port."""
        attempt = _folder_of(handle)
        request = generations.read(attempt / "request.json") or {"nodes": 1}
        over = (attempt / generations.RECORD).exists()
        text, after = read_merged(attempt, nodes=request["nodes"], offset=offset, over=over)
        if after or not over:
            return text, after
        return self._without_agent(attempt, request)

    def _without_agent(self, attempt: Path, request: Mapping[str, Any]) -> tuple[str, int]:
        """Return the pod's own last lines, where no agent ever wrote: the image may lack Python."""
        path = attempt / "log-0.txt"
        if not path.exists():
            text = ""
            try:
                for pod in self.api.pods(request["namespace"], f"{GROUP}/try={request['name']}"):
                    text += self.api.pod_log(request["namespace"], pod["metadata"]["name"], lines=100)
            except SubmitFailed:
                return "", 0
            path.write_text(text)
        return read_merged(attempt, nodes=1, offset=0, over=True)

    def cancel(self, handle: Handle) -> None:
        """Delete the job with its pods and wait until they are gone; see the port.

        :raises SubmitFailed: the API refused it or did not answer
        """
        attempt = _folder_of(handle)
        request = generations.read(attempt / "request.json")
        if request is None:
            return
        name, namespace = request["name"], request["namespace"]
        if not self.describe(handle).state.is_terminal:
            (attempt / generations.CANCELLED).touch()
        elif not any(_runs(pod) for pod in self.api.pods(namespace, f"{GROUP}/try={name}")):
            return
        self.api.delete(namespace, name, grace_seconds=GRACE_SECONDS)
        deadline = time.monotonic() + CANCEL_SECONDS
        while self.api.pods(namespace, f"{GROUP}/try={name}") and time.monotonic() < deadline:
            time.sleep(0.2)
        if generations.cancelled(attempt):
            generations.record(attempt, JobStatus(state=JobState.CANCELLED, reason="the job was cancelled"))

    def folder(self, handle: Handle) -> Path:
        """Return the contract's folder on the storage; see the port."""
        return Path(handle.place)

    def unfinished(self, *, model: str, run: str) -> list[Handle]:
        """Return the jobs of a run that are not over; see the port."""
        selector = ",".join(f"{key}={value}" for key, value in run_labels(model=model, run=run).items())
        found = {}
        for job in self.api.jobs(None, selector):
            if _active(job):
                told = job["metadata"]["annotations"]
                found[told[f"{GROUP}/folder"]] = job["metadata"]["labels"][f"{GROUP}/try"]
        return [
            Handle(backend="kubernetes", name=name, place=str(Path(at).parent), attempt=generations.number(Path(at)))
            for at, name in found.items()
        ]


BACKEND = KubernetesBackend


def _storage(options: Options) -> Mapping[str, Any]:
    assert options.storage is not None  # build_request refuses a job without one
    return options.storage


def _handle(attempt: Path) -> Handle:
    request = generations.read(attempt / "request.json") or {}
    name = str(request.get("name", attempt.name))
    return Handle(backend="kubernetes", name=name, place=str(attempt.parent), attempt=generations.number(attempt))


def _folder_of(handle: Handle) -> Path:
    return Path(handle.place) / f"try-{handle.attempt}"


def _exits(attempt: Path, nodes: int) -> list[Object]:
    found = (generations.read(attempt / f"exit-{node}.json") for node in range(nodes))
    return [each for each in found if each]


def _active(job: Object) -> bool:
    conditions = (job.get("status") or {}).get("conditions") or ()
    return not any(one["type"] in ("Complete", "Failed") and one["status"] == "True" for one in conditions)


def _runs(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Pending", "Running", "Unknown")


def _gone_pods(attempt: Path, pods: list[Object]) -> frozenset[str]:
    """Return the pods that ran and are not there any more, or are being deleted; remember those that run."""
    path = attempt / "seen.json"
    known = set((generations.read(path) or {}).get("pods", ()))
    there = {pod["metadata"]["name"] for pod in pods}
    leaving = {
        pod["metadata"]["name"] for pod in pods if pod["metadata"].get("deletionTimestamp") is not None and _runs(pod)
    }
    running = {pod["metadata"]["name"] for pod in pods if (pod.get("status") or {}).get("phase") == "Running"}
    if new := running - known:
        generations.write(path, {"pods": sorted(known | new)})
    return frozenset((known - there) | leaving)
