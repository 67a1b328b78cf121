"""The request for a job on Vertex AI: checked, and the same for the same job and options."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from modelway.backends.base import JOB_IMAGE, Job, Options, image_of
from modelway.backends.folders import generations
from modelway.backends.folders.stored import StoredFolders
from modelway.backends.vertex.bodies import Attempt, Document, custom_job
from modelway.backends.vertex.rules import NO_GPUS, REQUEST_GPUS
from modelway.backends.vertex.without_gpus import of_job
from modelway.errors import CapabilityMissing
from modelway.platforms.google.machines import MachineSpec, machine_for

_GPU_TYPE = "nvidia.com/gpu"


@dataclass(frozen=True, kw_only=True)
class VertexRequest:
    """What will be created: everything but the attempt's number is fixed here."""

    job: Job
    options: Options
    contract: Mapping[str, Any]
    image: str
    machine: MachineSpec
    region: str
    project: str | None
    """None: the connection's"""
    root: str
    """this process's copy of the object store ``uri``"""
    uri: str

    @property
    def start_within_seconds(self) -> float:
        """How long its job may wait for machines; FLEX_START waits for them as long as its section says."""
        platform = self.options.platform
        seconds = float(platform.get("start_within_seconds", 3600))
        waits = platform.get("strategy") == "FLEX_START"
        return max(seconds, platform.get("max_wait_seconds") or 0) if waits else seconds

    def folder(self, generation: int) -> Path:
        """Return the copy of a generation's folder."""
        return generations.job_folder(Path(self.root) / "jobs", self.job) / f"g{generation}"

    def manifests(self) -> list[Document]:
        """Return what would be created for a first attempt, without the labels that its place gives it."""
        return [self.body()]

    def body(
        self, *, generation: int = 0, attempt: int = 1, token: str | None = None, deployment: str | None = None
    ) -> Document:
        """Return the CustomJob of an attempt."""
        return custom_job(
            Attempt(
                job=self.job,
                options=self.options,
                image=self.image,
                machine=self.machine,
                uri=f"{self.uri}/{self.folder(generation).relative_to(self.root)}",
                attempt=attempt,
                token=token,
                deployment=deployment,
            )
        )


def request_of(job: Job, options: Options, *, folders: StoredFolders) -> VertexRequest:
    """Return what would be created.

    :raises CapabilityMissing: an option that this backend does not support
    """
    options = _of_its_machines(options)
    platform, machine = options.platform, machine_of(options)
    if options.gpu_type != _GPU_TYPE:
        raise CapabilityMissing(
            f"{options.gpu_type} requested, the backend 'vertex' names GPUs by their model",
            do="Remove resources.gpu_type, and set vertex.accelerator, such as NVIDIA_L4",
        )
    if not platform.get("region"):
        raise CapabilityMissing(
            "the backend 'vertex' needs a region", do="Set vertex.region in the spec, such as us-central1"
        )
    uri = str((options.storage or {}).get("uri") or "").rstrip("/")
    if not uri:
        raise CapabilityMissing(
            "the backend 'vertex' needs an object store for the jobs' folders",
            do="Set storage.uri in the spec to gs://bucket/prefix",
        )
    if (image := image_of(options)) == JOB_IMAGE:
        raise CapabilityMissing(
            f"no image is named, and the default, {JOB_IMAGE}, is on this machine alone",
            do="Push it to Artifact Registry, and name it in train.image or MODELWAY_JOB_IMAGE",
        )
    return VertexRequest(
        job=job,
        options=options,
        contract=job.contract(),
        image=image,
        machine=machine,
        region=platform["region"],
        project=platform.get("project"),
        root=str(folders.here(uri)),
        uri=uri,
    )


def machine_of(options: Options) -> MachineSpec:
    """Return the machine of a job's nodes.

    :raises CapabilityMissing: there is none that has what the options request
    """
    return machine_for(
        cpu=options.cpu,
        memory_bytes=options.memory_bytes,
        gpu=options.gpu,
        machine_type=options.platform.get("machine_type"),
        accelerator=options.platform.get("accelerator"),
    )


def _of_its_machines(options: Options) -> Options:
    """Return the options with what of the section is for the job's own machines.

    :raises CapabilityMissing: it waits for GPUs, and requests none
    """
    platform = of_job(options.platform, gpu=options.gpu)
    if not options.gpu and platform.get("strategy") == "FLEX_START":
        raise CapabilityMissing(NO_GPUS, do=REQUEST_GPUS)
    return replace(options, platform=platform)
