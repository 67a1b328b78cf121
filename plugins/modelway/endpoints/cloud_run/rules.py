"""What Cloud Run cannot give to an instance, refused by the key that says it.

Sources: Cloud Run's pages on CPU, memory limits and GPUs, and its API v2 (ResourceRequirements).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from modelway.endpoints.base import EndpointSpec
from modelway.endpoints.cloud_run.section import CloudRunSection
from modelway.endpoints.longest import refused_times
from modelway.endpoints.whole_percents import refused_shares
from modelway.errors import CapabilityMissing, InvalidSpec
from modelway.fields.refusal import KeyPath, Refusal
from modelway.fields.units import format_size, parse_size

_GIBIBYTE = 1 << 30
#: CPUs of an instance, to the memory that it has at least and at most
_MEMORY = {
    1: (128 << 20, 4 * _GIBIBYTE),
    2: (128 << 20, 8 * _GIBIBYTE),
    4: (2 * _GIBIBYTE, 16 * _GIBIBYTE),
    6: (4 * _GIBIBYTE, 24 * _GIBIBYTE),
    8: (4 * _GIBIBYTE, 32 * _GIBIBYTE),
}
_LEAST_CPU, _GPU_CPU, _GPU_MEMORY = 0.08, 4, 16 * _GIBIBYTE
_LONGEST_ANSWER = 3600
_MOST_INSTANCES = int(CloudRunSection.model_fields["max_instances"].default)
_LONGEST = {"answer_within": (_LONGEST_ANSWER, "Cloud Run ends a request after 1h")}


def limits(resources: Mapping[str, Any]) -> dict[str, str]:
    """Return the limits of an instance, as Cloud Run writes them; empty where nothing is requested.

    CPU that is left out is the least that has the memory; a GPU brings the least CPU and memory that go with it.

    :param resources: cpu, memory_bytes, gpu, as a predictor's
    """
    cpu, memory, gpu = resources.get("cpu"), resources.get("memory_bytes"), resources.get("gpu") or 0
    if not (cpu or memory or gpu):
        return {}
    if gpu:
        memory = memory or _GPU_MEMORY
    least = _GPU_CPU if gpu else 1
    cpu = cpu or next((each for each, (_, most) in _MEMORY.items() if each >= least and (memory or 0) <= most), 8)
    found = {"cpu": f"{cpu:g}"}
    if memory:
        found["memory"] = f"{-(-memory // (1 << 20))}Mi"
    return found | ({"nvidia.com/gpu": str(gpu)} if gpu else {})


def refused_resources(resources: Mapping[str, Any]) -> tuple[str, Refusal] | None:
    """Return the key of a section ``resources`` that Cloud Run cannot give, and why.

    :param resources: cpu, memory (text or bytes) and gpu, as written
    """
    cpu, gpu = resources.get("cpu"), resources.get("gpu") or 0
    memory = _bytes(resources)
    if gpu and gpu != 1:
        return "gpu", Refusal(f"an instance of Cloud Run has one GPU, not {gpu}", do="Write gpu: 1")
    if cpu and not (_LEAST_CPU <= cpu < 1 or cpu in _MEMORY):
        do = "Write 1, 2, 4, 6 or 8, or a number from 0.08 to below 1"
        return "cpu", Refusal(f"Cloud Run has no instance with {cpu:g} CPUs", do=do)
    if gpu and cpu and cpu < _GPU_CPU:
        return "cpu", Refusal(f"a GPU on Cloud Run comes with {_GPU_CPU} CPUs at least", do="Write cpu: 4, or 8")
    if gpu and memory and memory < _GPU_MEMORY:
        return "memory", Refusal("a GPU on Cloud Run comes with 16Gi of memory at least", do="Write memory: 16Gi")
    return _refused_memory(cpu, memory)


def _refused_memory(cpu: float | None, memory: int | None) -> tuple[str, Refusal] | None:
    if not memory:
        return None
    least, most = _MEMORY[int(cpu)] if cpu and cpu >= 1 else (128 << 20, _GIBIBYTE if cpu else _MEMORY[8][1])
    if least <= memory <= most:
        return None
    with_cpu = f" with {cpu:g} CPUs" if cpu else ""
    do = f"Write memory from {format_size(least)} to {format_size(most)}, or change cpu"
    return "memory", Refusal(f"Cloud Run has no instance{with_cpu} and {format_size(memory)} of memory", do=do)


def _bytes(resources: Mapping[str, Any]) -> int | None:
    memory = resources.get("memory_bytes")
    if memory is None and isinstance(written := resources.get("memory"), str):
        try:
            return parse_size(written)
        except Refusal:
            return None
    return memory if isinstance(memory, int) else None


def refused(endpoint: Mapping[str, Any]) -> Iterator[tuple[KeyPath, Refusal]]:
    """Find what Cloud Run cannot serve of a section ``endpoint``, as written."""
    section = endpoint.get("cloud_run")
    if not (isinstance(section, Mapping) and section.get("region")):
        at: KeyPath = ("cloud_run",) if isinstance(section, Mapping) else ("target",)
        yield at, Refusal("cloud_run needs a region", do="Write cloud_run: {region: europe-west1}")
    if isinstance(section, Mapping):
        yield from refused_times("cloud_run", section, _LONGEST)
    for path, resources in _resources(endpoint):
        if found := refused_resources(resources):
            yield (*path, "resources", found[0]), found[1]
    if isinstance(section, Mapping):
        cpus = [resources.get("cpu") for _, resources in _resources(endpoint)]
        yield from ((("cloud_run", key), refusal) for key, refusal in refused_together(section, cpus))
    yield from refused_shares(endpoint)


def refused_together(section: Mapping[str, Any], cpus: Sequence[float | None]) -> Iterator[tuple[str, Refusal]]:
    """Find keys of the section ``cloud_run`` that exclude others.

    :param cpus: of the predictors' instances
    """
    least, most = section.get("min_instances", 0), section.get("max_instances", _MOST_INSTANCES)
    if isinstance(least, int) and isinstance(most, int) and least > most:
        yield "min_instances", Refusal(f"at least {least} instances, and at most {most}", do=f"Write {most} or less")
    if not any(cpu and cpu < 1 for cpu in cpus):
        return
    if isinstance(section.get("concurrency"), int) and section["concurrency"] > 1:
        what = "an instance with less than 1 CPU gets one request at a time"
        yield "concurrency", Refusal(what, do="Write concurrency: 1, or resources: {cpu: 1}")
    if section.get("cpu_always") is True:
        what = "an instance with less than 1 CPU has it during requests alone"
        yield "cpu_always", Refusal(what, do="Remove it, or write resources: {cpu: 1}")


def _resources(endpoint: Mapping[str, Any]) -> Iterator[tuple[KeyPath, Mapping[str, Any]]]:
    listed = endpoint.get("predictors")
    places: list[tuple[KeyPath, object]] = [((), endpoint)]
    places += [(("predictors", index), each) for index, each in enumerate(listed if isinstance(listed, list) else ())]
    for path, place in places:
        found = place.get("resources") if isinstance(place, Mapping) else None
        if isinstance(found, Mapping) and all(isinstance(found.get(key, 0), int | float) for key in ("cpu", "gpu")):
            yield path, found


def check_own(spec: EndpointSpec, own: CloudRunSection) -> None:
    """Refuse what Cloud Run cannot serve.

    :raises InvalidSpec: there is no region
    :raises CapabilityMissing: an instance cannot be had
    """
    where = f"endpoint {spec.name}"
    if own.region is None:
        raise InvalidSpec("cloud_run needs a region", where=where, do="Write cloud_run: {region: europe-west1}")
    if own.answer_within_seconds > _LONGEST_ANSWER:
        raise InvalidSpec("answer_within: Cloud Run ends a request after 1h", where=where, do="Write 1h or less")
    for _, excluded in refused_together(own.model_dump(), [each.resources.get("cpu") for each in spec.predictors]):
        raise CapabilityMissing(excluded.what, where=where, do=excluded.do)
    for each in spec.predictors:
        if found := refused_resources(each.resources):
            refusal = found[1]
            raise CapabilityMissing(refusal.what, where=f"{where}, predictor {each.name}", do=refusal.do)
