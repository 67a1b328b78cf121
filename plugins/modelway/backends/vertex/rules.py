"""What a spec, as written, requests that Vertex AI cannot give."""

from collections.abc import Iterator, Mapping
from typing import Any

from modelway.backends.vertex.without_gpus import names_gpus, of_job
from modelway.errors import CapabilityMissing
from modelway.fields.refusal import KeyPath, Refusal
from modelway.fields.units import parse_duration, parse_size
from modelway.platforms.google.machines import machine_for

#: machines that FLEX_START waits for (Vertex AI, "Use Flex-start VMs"), and the longest time that a job has there
_FLEX_START = ("NVIDIA_L4", "NVIDIA_TESLA_A100", "NVIDIA_A100_80GB", "NVIDIA_H100_80GB", "NVIDIA_H100_MEGA_80GB")
FLEX_START = (*_FLEX_START, "NVIDIA_H200_141GB", "NVIDIA_B200")
FLEX_START_SECONDS = 7 * 86_400
NO_GPUS = "FLEX_START has machines with GPUs alone, and none is requested"
REQUEST_GPUS = "Set resources.gpu and vertex.accelerator, or strategy: STANDARD"


def refused(spec: Mapping[str, Any], section: KeyPath) -> Iterator[tuple[KeyPath, Refusal]]:
    """Find what the jobs of a section request that Vertex AI cannot give.

    :param section: the path to the section in the spec
    """
    own, job = _mapping(spec.get("vertex")), _at(spec, section)
    if job.get("backend") == "vertex" and not own.get("region"):
        what = "the backend 'vertex' needs a region"
        yield (*section, "backend"), Refusal(what, do="Add vertex: {region: us-central1}, or the one that is yours")
    yield from _storage(_mapping(spec.get("storage")))
    resources = {**_mapping(_at(spec, ("train",)).get("resources") if section[0] == "train" else None)}
    resources |= _mapping(job.get("resources"))
    if _requests_gpus({key: value for key, value in spec.items() if key != "endpoint"}):
        # Other jobs have the machines with GPUs.
        own = of_job(own, gpu=resources.get("gpu"))
    elif own.get("accelerator"):
        yield ("vertex", "accelerator"), Refusal("no job requests a GPU", do="Set resources.gpu, or remove it")
    elif own.get("strategy") == "FLEX_START" and not names_gpus(own):
        yield ("vertex", "strategy"), Refusal(NO_GPUS, do=REQUEST_GPUS)
    yield from _machine(own, resources, section, _mapping(job.get("resources")))
    yield from _flex_start(own, job, resources, section)


def _requests_gpus(value: object) -> bool:
    """Return whether a job below it requests GPUs."""
    if isinstance(value, Mapping):
        return bool(_mapping(value.get("resources")).get("gpu")) or any(map(_requests_gpus, value.values()))
    return isinstance(value, list) and any(map(_requests_gpus, value))


def _machine(
    own: Mapping[str, Any], resources: Mapping[str, Any], section: KeyPath, written: Mapping[str, Any]
) -> Iterator[tuple[KeyPath, Refusal]]:
    try:
        cpu, gpu = resources.get("cpu"), resources.get("gpu", 0)
        memory = parse_size(resources["memory"]) if "memory" in resources else None
        named = [each if isinstance(each, str) else None for each in (own.get("machine_type"), own.get("accelerator"))]
        if not isinstance(gpu, int) or not (cpu is None or isinstance(cpu, int | float)):
            return
        if gpu == 0:
            # Refused at its own key.
            named[1] = None
        machine_for(cpu=cpu, memory_bytes=memory, gpu=gpu, machine_type=named[0], accelerator=named[1])
    except CapabilityMissing as error:
        keys = [key for key in ("gpu", "memory", "cpu") if written.get(key)]
        path = (*section, "resources", keys[0]) if keys else ("vertex", "machine_type")
        if keys or own.get("machine_type"):
            yield path, Refusal(error.what, do=error.do)
    except Refusal:
        # The value itself is refused elsewhere.
        return


def _storage(storage: Mapping[str, Any]) -> Iterator[tuple[KeyPath, Refusal]]:
    do = "Set storage.uri to gs://bucket/prefix"
    for key in ("node", "nfs", "claim"):
        if storage.get(key):
            yield ("storage", key), Refusal("jobs on Vertex AI reach object stores alone", do=do)
    if str(storage.get("uri") or "").startswith("s3://"):
        what = "a job on Vertex AI has no login for S3: its variables are no place for secrets"
        yield ("storage", "uri"), Refusal(what, do=do)


def _flex_start(
    own: Mapping[str, Any], job: Mapping[str, Any], resources: Mapping[str, Any], section: KeyPath
) -> Iterator[tuple[KeyPath, Refusal]]:
    if own.get("strategy") != "FLEX_START":
        return
    if resources.get("gpu") and own.get("accelerator") not in (None, *FLEX_START):
        what = f"FLEX_START has no machines with {own['accelerator']}"
        yield ("vertex", "strategy"), Refusal(what, known=FLEX_START, do="Choose one of these, or STANDARD")
    try:
        timeout = parse_duration(job["timeout"]) if "timeout" in job else 0
    except Refusal:
        return
    if timeout > FLEX_START_SECONDS:
        yield (*section, "timeout"), Refusal("FLEX_START ends jobs after 7 days", do="Write at most 7d")


def _at(spec: Mapping[str, Any], path: KeyPath) -> Mapping[str, Any]:
    found: Any = spec
    for part in path:
        try:
            found = found[part]
        except (KeyError, IndexError, TypeError):
            return {}
    return _mapping(found)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
