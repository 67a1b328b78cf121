"""The split of an endpoint's traffic, read, changed and recorded.

The pipeline deploys versions of the endpoint's model; predictors of other names were added by hand, with shares of
their own that a rollout leaves alone.
"""

from collections.abc import Mapping
from math import gcd
from typing import TYPE_CHECKING

from modelway.endpoints.base import EndpointStatus, PredictorStatus, pipeline_version, predictor_name
from modelway.endpoints.shares import percentages

if TYPE_CHECKING:
    from modelway.lineage.store import Lineage


def weights_of(status: EndpointStatus | None) -> Mapping[int, int]:
    """Return the per cent of the traffic of each version that the pipeline deployed behind an endpoint."""
    if status is None:
        return {}
    shares = percentages({each.name: each.weight for each in status.predictors})
    return {each.version: shares[each.name] for each in deployed(status)}


def deployed(status: EndpointStatus) -> tuple[PredictorStatus, ...]:
    """Return the predictors that the pipeline made."""
    return tuple(each for each in status.predictors if pipeline_version(each.name) is not None)


def split(status: EndpointStatus, versions: Mapping[int, int]) -> dict[str, int]:
    """Return the weights by which versions of the pipeline get so many per cent of what they have together.

    :param versions: per cent by version; those left out get nothing
    """
    together = sum(each.weight for each in deployed(status))
    by_hand = {each.name: each.weight for each in status.predictors if pipeline_version(each.name) is None}
    percents = {predictor_name(version): percent for version, percent in versions.items()}
    return weigh(percents, together=together or 100, by_hand=by_hand)


def returned(status: EndpointStatus, *, version: int, stable: int | None) -> dict[str, int] | None:
    """Return the weights by which the stable version gets a version's share; None where there is nothing to return.

    All others keep what they have: a share may be that of another rollout, or given by hand.
    """
    if stable is None:
        return None
    weights = {each.name: each.weight for each in status.predictors}
    mine, other = predictor_name(version), predictor_name(stable)
    if mine == other or other not in weights or not weights.get(mine):
        return None
    return weights | {mine: 0, other: weights[other] + weights[mine]}


def weigh(percents: Mapping[str, int], *, together: int, by_hand: Mapping[str, int]) -> dict[str, int]:
    """Return the weights of all predictors, exactly, in the smallest numbers; of the pipeline's alone, their per cents.

    :param percents: of the pipeline's predictors, of what they have together
    :param together: their weight, beside the weights of ``by_hand``
    """
    if not any(by_hand.values()):
        return {**percents, **by_hand}
    weights = {name: percent * together for name, percent in percents.items()}
    weights |= {name: weight * 100 for name, weight in by_hand.items()}
    divisor = gcd(*weights.values())
    return {name: weight // divisor for name, weight in weights.items()}


def record_traffic(store: "Lineage", status: EndpointStatus, *, actor: str, run_id: str | None) -> None:
    """Record where an endpoint serves and the weights of its versions, of whichever models they are."""
    name, model = status.name, status.model
    store.record_endpoint(
        endpoint=name, model=model, url=status.url, is_stopped=status.stopped, actor=actor, run_id=run_id
    )
    record_weights(store, status, model=model, actor=actor, run_id=run_id)


def record_weights(
    store: "Lineage", status: EndpointStatus, *, model: str, actor: str, run_id: str | None = None
) -> None:
    """Record the per cent of the traffic of each version behind an endpoint.

    :param model: that of predictors that name none
    """
    shares = percentages({each.name: each.weight for each in status.predictors})
    found: dict[str, dict[int, int]] = {model: {}}
    for each in status.predictors:
        versions = found.setdefault(each.model or model, {})
        versions[each.version] = versions.get(each.version, 0) + shares[each.name]
    weights = found.pop(model)
    store.record_weights(endpoint=status.name, model=model, weights=weights, others=found, actor=actor, run_id=run_id)


def stable_of(status: EndpointStatus | None) -> int | None:
    """Return the stable version of those that the pipeline deployed, else the one with most of the traffic."""
    found = deployed(status) if status is not None else ()
    if status is None or not found:
        return None
    stable = next((each for each in found if each.name == status.stable), None)
    return (stable or max(found, key=lambda each: (each.weight, -each.version))).version
