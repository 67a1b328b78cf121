"""What Vertex AI cannot serve, refused by the key that says it."""

from collections.abc import Iterator, Mapping
from typing import Any

from modelway.endpoints.base import EndpointSpec
from modelway.endpoints.longest import refused_times
from modelway.endpoints.released_images import released
from modelway.endpoints.vertex.section import VertexEndpointSection
from modelway.endpoints.whole_percents import refused_shares
from modelway.errors import CapabilityMissing, InvalidSpec
from modelway.fields.refusal import KeyPath, Refusal
from modelway.platforms.google.machines import machines_with, refused_gpus

_LONGEST_ANSWER, _LONGEST_START = 3600, 7200
_LONGEST = {
    "answer_within": (_LONGEST_ANSWER, "Vertex AI ends a request after 1h"),
    "ready_within": (_LONGEST_START, "Vertex AI gives a version 2h"),
}
_REGION = "Write vertex: {region: europe-west4}"
_REGISTRY = "-docker.pkg.dev"
_MACHINE = str(VertexEndpointSection.model_fields["machine_type"].default)
_GPU = "Write vertex: {accelerator: NVIDIA_L4, machine_type: g2-standard-4}"


def refused(endpoint: Mapping[str, Any]) -> Iterator[tuple[KeyPath, Refusal]]:
    """Find what Vertex AI cannot serve of a section ``endpoint``, as written."""
    section = endpoint.get("vertex")
    own: Mapping[str, Any] = section if isinstance(section, Mapping) else {}
    at: KeyPath = ("vertex",) if own else ("target",)
    if not own.get("region"):
        yield at, Refusal("vertex needs a region", do=_REGION)
    yield from refused_times("vertex", own, _LONGEST)
    listed = endpoint.get("predictors")
    places: list[tuple[KeyPath, object]] = [((), endpoint)]
    places += [(("predictors", index), each) for index, each in enumerate(listed if isinstance(listed, list) else ())]
    for path, place in places:
        resources = place.get("resources") if isinstance(place, Mapping) else None
        if isinstance(resources, Mapping) and (found := _refused_gpus(resources.get("gpu"), own)):
            yield (*path, "resources", "gpu"), found
    if found := refused_repository(own.get("image_repository"), own.get("region")):
        yield ("vertex", "image_repository"), found
    yield from refused_shares(endpoint)


def _refused_gpus(gpu: object, own: Mapping[str, Any]) -> Refusal | None:
    """Return why servers cannot have so many GPUs on the section's machines."""
    if not isinstance(gpu, int) or not gpu:
        return None
    accelerator, machine = own.get("accelerator"), own.get("machine_type", _MACHINE)
    if not accelerator:
        return Refusal("Vertex AI needs the type of the GPUs", do=_GPU)
    if not (isinstance(accelerator, str) and isinstance(machine, str)):
        return None
    if (why := refused_gpus(machine, gpu=gpu, accelerator=accelerator)) is None:
        return None
    able = machines_with(gpu, accelerator)[:3]
    do = f"Write vertex: {{machine_type: {able[0]}}}" if able else "Change resources.gpu, accelerator or machine_type"
    return Refusal(f"the machine type {why}", do=do)


def refused_repository(image: object, region: object) -> Refusal | None:
    """Return why Vertex AI takes no image from there: one of Artifact Registry has to be in the endpoint's region.

    :param image: a reference or a repository
    """
    host = str(image or "").partition("/")[0]
    if not host.endswith(_REGISTRY) or not region or host == f"{region}{_REGISTRY}":
        return None
    what = f"Vertex AI in {region} takes no image from {host.removesuffix(_REGISTRY)}"
    return Refusal(what, do=f"Write vertex: {{image_repository: {region}{_REGISTRY}/PROJECT/REPOSITORY}}")


def check_own(spec: EndpointSpec, own: VertexEndpointSection) -> None:
    """Refuse what Vertex AI cannot serve.

    :raises InvalidSpec: there is no region, a time is too long, or a version has no number
    :raises CapabilityMissing: GPUs that the machines cannot have, or an image of another region
    """
    where = f"endpoint {spec.name}"
    if own.region is None:
        raise InvalidSpec("vertex needs a region", where=where, do=_REGION)
    if own.answer_within_seconds > _LONGEST_ANSWER:
        raise InvalidSpec("answer_within: Vertex AI ends a request after 1h", where=where, do="Write 1h or less")
    if own.ready_within_seconds > _LONGEST_START:
        raise InvalidSpec("ready_within: Vertex AI gives a version 2h", where=where, do="Write 2h or less")
    for each in spec.predictors:
        found = _refused_gpus(each.resources.get("gpu"), own.model_dump())
        found = found or refused_repository(released(each.image, own.image_repository), own.region)
        if found:
            raise CapabilityMissing(found.what, where=f"{where}, predictor {each.name}", do=found.do)
