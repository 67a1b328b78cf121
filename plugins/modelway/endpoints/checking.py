"""What every endpoint refuses before it changes anything: a spec that is invalid, or that its target cannot serve."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from modelway.endpoints.base import MAX_PREDICTORS, EndpointMember, EndpointSpec, Predictor, Sticky
from modelway.errors import CapabilityMissing, InvalidSpec, UnknownVersion
from modelway.names import NAME_PATTERN

if TYPE_CHECKING:
    from pydantic import BaseModel

S = TypeVar("S", bound="BaseModel")
#: a capability, to what is refused where a target lacks it
MISSING = {
    "mirror": "copies of requests (mirror)",
    "sticky": "users that stay with a predictor (sticky)",
    "replicas": "more than one server of a predictor (replicas)",
    "autoscaling": "a number of servers that follows the load (autoscaling)",
    "several": "more than two predictors",
    "cpu_limit": "a limit of CPU (resources.cpu)",
    "memory_limit": "a limit of memory (resources.memory)",
    "gpu": "GPUs (resources.gpu)",
}
#: a name of a header, or of a cookie: a token of HTTP
TOKEN_PATTERN = r"^[A-Za-z0-9][-A-Za-z0-9_]{0,63}$"


def check_spec(spec: EndpointSpec, *, target: EndpointMember | None = None) -> None:
    """Refuse an invalid spec.

    :param target: the member that is to serve it
    :raises InvalidSpec: for names, number of predictors, a name twice, an unknown stable predictor or mirror, weights
    :raises CapabilityMissing: for what the target cannot do
    """
    where = f"endpoint {spec.name}"
    _check_names(spec, where)
    _check_sticky(spec.sticky, where)
    for predictor in spec.predictors:
        _check_scale(predictor, where)
    weights = {predictor.name: predictor.weight for predictor in spec.predictors}
    check_weights(weights, list(weights), where=where)
    if target is None:
        return
    if target.letter_first and not spec.name[0].isalpha():
        raise InvalidSpec(
            f"on the target '{target.name}' the name of an endpoint begins with a letter",
            where=where,
            do="Rename the model, or choose another target",
        )
    for capability in needed(spec):
        if capability not in target.capabilities:
            raise CapabilityMissing(
                f"the target '{target.name}' does not have {MISSING[capability]}",
                where=where,
                do="Remove it, or choose another target",
            )


def _check_names(spec: EndpointSpec, where: str) -> None:
    predictors = {predictor.name: predictor for predictor in spec.predictors}
    for name in (spec.name, spec.model, *predictors):
        if not re.fullmatch(NAME_PATTERN, name):
            raise InvalidSpec(f"'{name}' is not a name: small letters, digits and '-', 40 at most", where=where)
    if not 1 <= len(spec.predictors) <= MAX_PREDICTORS:
        raise InvalidSpec(f"{len(spec.predictors)} predictors, an endpoint has 1 to {MAX_PREDICTORS}", where=where)
    if len(predictors) != len(spec.predictors):
        listed = ", ".join(predictor.name for predictor in spec.predictors)
        raise InvalidSpec(f"two predictors have the same name: {listed}", where=where)
    for what, used in (("stable", spec.stable), ("mirror", spec.mirror.predictor if spec.mirror else None)):
        if used is not None and used not in predictors:
            raise InvalidSpec(f"{what}: '{used}' is not a predictor", where=where, known=predictors, given=used)


def needed(spec: EndpointSpec) -> Iterator[str]:
    """Yield the capabilities that a spec needs of its target."""
    if spec.mirror is not None:
        yield "mirror"
    if spec.sticky != Sticky():
        yield "sticky"
    if len(spec.predictors) > 2:
        yield "several"
    for predictor in spec.predictors:
        if predictor.replicas > 1:
            yield "replicas"
        if predictor.autoscaling is not None:
            yield "autoscaling"
        for key, capability in (("cpu", "cpu_limit"), ("memory_bytes", "memory_limit"), ("gpu", "gpu")):
            if predictor.resources.get(key):
                yield capability


def _check_sticky(sticky: Sticky, where: str) -> None:
    if (sticky.header is None) == (sticky.cookie is None):
        raise InvalidSpec("sticky: exactly one of header and cookie", where=where)
    name = sticky.header or sticky.cookie or ""
    if not re.fullmatch(TOKEN_PATTERN, name):
        raise InvalidSpec(f"sticky: '{name}' is not a name: letters, digits, '-' and '_', 64 at most", where=where)


def _check_scale(predictor: Predictor, where: str) -> None:
    if predictor.replicas < 1:
        raise InvalidSpec(f"predictor {predictor.name}: {predictor.replicas} replicas, there must be one", where=where)
    scaling = predictor.autoscaling
    if scaling is not None and not 1 <= scaling.minimum <= scaling.maximum:
        what = f"predictor {predictor.name}: autoscaling from {scaling.minimum} to {scaling.maximum}"
        raise InvalidSpec(what, where=where, do="Write 1 <= minimum <= maximum")


def read_platform(spec: EndpointSpec, section: "type[S]") -> "S":
    """Return the target's section of the spec.

    :raises InvalidSpec: the section has no such key, or the value is invalid
    """
    from pydantic import ValidationError

    try:
        # A value from a template is text; a spec that was read has the names of fields, one that is written their keys.
        return section.model_validate(dict(spec.platform), strict=False, by_alias=True, by_name=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        known = sorted(section.model_fields) if first["type"] == "extra_forbidden" else None
        why = "unknown key" if known else str(first.get("ctx", {}).get("error", first["msg"]))
        raise InvalidSpec(
            f"{key}: {why}" if key else why, where=f"endpoint {spec.name}", known=known, given=key if known else None
        ) from error


def check_weights(weights: Mapping[str, int], names: Sequence[str], *, where: str) -> None:
    """Refuse invalid weights.

    :param names: of the predictors behind the endpoint
    :raises UnknownVersion: for a predictor that is not among them
    :raises InvalidSpec: for a weight that is negative or no integer, or when all are zero
    """
    for name, weight in weights.items():
        if name not in names:
            raise UnknownVersion(f"there is no predictor '{name}' behind it", where=where, known=names, given=name)
        if isinstance(weight, bool) or not isinstance(weight, int) or weight < 0:
            raise InvalidSpec(f"the weight of {name} must be an integer >= 0, got {weight!r}", where=where)
    if not any(weights.values()):
        raise InvalidSpec("all weights are zero", where=where, do="Give at least one predictor a weight above zero")
