"""What Vertex AI cannot serve, refused by the key that says it."""

from collections.abc import Iterator, Mapping
from typing import Any

from modelway.endpoints.base import EndpointSpec
from modelway.endpoints.longest import refused_times
from modelway.endpoints.vertex.section import VertexEndpointSection
from modelway.endpoints.whole_percents import refused_shares
from modelway.errors import CapabilityMissing, InvalidSpec
from modelway.fields.refusal import KeyPath, Refusal

_LONGEST_ANSWER, _LONGEST_START = 3600, 7200
_LONGEST = {
    "answer_within": (_LONGEST_ANSWER, "Vertex AI ends a request after 1h"),
    "ready_within": (_LONGEST_START, "Vertex AI gives a version 2h"),
}
_REGION = "Write vertex: {region: europe-west4}"
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
        if isinstance(resources, Mapping) and resources.get("gpu") and not own.get("accelerator"):
            yield (*path, "resources", "gpu"), Refusal("Vertex AI needs the type of the GPUs", do=_GPU)
    yield from refused_shares(endpoint)


def check_own(spec: EndpointSpec, own: VertexEndpointSection) -> None:
    """Refuse what Vertex AI cannot serve.

    :raises InvalidSpec: there is no region, a time is too long, or a version has no number
    :raises CapabilityMissing: GPUs without a type
    """
    where = f"endpoint {spec.name}"
    if own.region is None:
        raise InvalidSpec("vertex needs a region", where=where, do=_REGION)
    if own.answer_within_seconds > _LONGEST_ANSWER:
        raise InvalidSpec("answer_within: Vertex AI ends a request after 1h", where=where, do="Write 1h or less")
    if own.ready_within_seconds > _LONGEST_START:
        raise InvalidSpec("ready_within: Vertex AI gives a version 2h", where=where, do="Write 2h or less")
    for each in spec.predictors:
        if each.resources.get("gpu") and own.accelerator is None:
            where = f"{where}, predictor {each.name}"
            raise CapabilityMissing("Vertex AI needs the type of the GPUs", where=where, do=_GPU)
