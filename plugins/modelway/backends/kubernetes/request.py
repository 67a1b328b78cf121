"""The request for a job on Kubernetes: checked, and the same for the same job and options."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from modelway.backends.base import Job, Options, image_of
from modelway.backends.folders import generations
from modelway.backends.kubernetes.folders import Folders
from modelway.backends.kubernetes.launchers import WITHOUT_QUEUE
from modelway.backends.kubernetes.manifests import SUSPEND_SINCE, Attempt, manifests
from modelway.errors import CapabilityMissing
from modelway.platforms.kubernetes.api import Manifest

#: where a container sees the storage, unless a spec says it
_PATH = "/modelway"


@dataclass(frozen=True, kw_only=True)
class KubernetesRequest:
    """What will be created: everything but the attempt's number is fixed here."""

    job: Job
    options: Options
    contract: Mapping[str, Any]
    image: str
    run_as: int
    root: str
    """the storage as the worker sees it, or its copy of the object store ``uri``"""
    uri: str | None = None
    version: tuple[int, int]

    def folder(self, generation: int) -> Path:
        """Return the folder of a generation as the worker sees it."""
        return generations.job_folder(Path(self.root) / "jobs", self.job) / f"g{generation}"

    def manifests(
        self, *, generation: int = 0, attempt: int = 1, token: str | None = None, deployment: str | None = None
    ) -> list[Manifest]:
        """Return the objects of an attempt, the one that owns the others first."""
        root = Path(_storage(self.options)["path"]) / "jobs"
        folder = self.folder(generation)
        uri = f"{self.uri}/{folder.relative_to(self.root)}" if self.uri else None
        return manifests(
            Attempt(
                job=self.job,
                options=self.options,
                image=self.image,
                run_as=self.run_as,
                folder=str(generations.job_folder(root, self.job) / f"g{generation}"),
                seen_at=f"{uri or folder}/try-{attempt}",
                uri=uri,
                attempt=attempt,
                version=self.version,
                token=token,
                deployment=deployment,
            )
        )


def request_of(
    job: Job, options: Options, *, version: Callable[[], tuple[int, int]], folders: Folders
) -> KubernetesRequest:
    """Return what would be created.

    :param version: returns the server's version
    :raises CapabilityMissing: an option that this backend does not support
    """
    storage = options.storage
    if not storage:
        raise CapabilityMissing(
            "the backend 'kubernetes' needs a place for the jobs' folders",
            do="Add the section storage to the spec: a node's folder, nfs, a claim, or an object store's uri",
        )
    root, uri = storage_root(storage, folders=folders)
    if uri and options.nodes > 1:
        raise CapabilityMissing(
            f"{options.nodes} nodes requested, a folder on an object store (storage.uri) serves one",
            do="Use a claim or nfs as storage, or set nodes to 1 (processes_per_node may be more)",
        )
    _refuse_queue(options, version())
    own = os.geteuid() or 1000
    return KubernetesRequest(
        job=job,
        options=replace(options, storage={**storage, "path": storage.get("path", _PATH)}),
        contract=job.contract(),
        image=image_of(options),
        run_as=options.platform.get("run_as") or own,
        root=root,
        uri=uri,
        version=version(),
    )


def storage_root(storage: Mapping[str, Any], *, folders: Folders) -> tuple[str, str | None]:
    """Return where this process sees the storage of a spec, or its copy of an object store, and that store's URI."""
    if storage.get("uri"):
        uri = str(storage["uri"]).rstrip("/")
        return str(folders.here(uri)), uri
    node = storage.get("node") or {}
    return str(storage.get("worker_path") or node.get("path") or storage.get("path", _PATH)), None


def _refuse_queue(options: Options, version: tuple[int, int]) -> None:
    launcher = options.platform.get("launcher", "job")
    if not options.platform.get("queue"):
        return
    if launcher in WITHOUT_QUEUE:
        raise CapabilityMissing(
            f"a queue was requested, a {launcher} cannot wait in one: its controller starts the pods at once",
            do="Remove kubernetes.queue, or choose the launcher job, jobset or trainjob",
        )
    if version < SUSPEND_SINCE:
        raise CapabilityMissing(
            f"a queue was requested, Kubernetes {version[0]}.{version[1]} starts jobs at once",
            do=f"Remove kubernetes.queue, or use Kubernetes {SUSPEND_SINCE[0]}.{SUSPEND_SINCE[1]} or later",
        )


def _storage(options: Options) -> Mapping[str, Any]:
    assert options.storage is not None  # build_request refuses a job without one
    return options.storage
