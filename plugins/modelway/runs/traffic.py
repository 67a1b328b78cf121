"""The split of an endpoint's traffic, read and recorded."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from modelway.endpoints.base import EndpointStatus

if TYPE_CHECKING:
    from modelway.lineage.store import Lineage


def weights_of(status: EndpointStatus | None) -> Mapping[int, int]:
    """Return the weight of each version behind an endpoint."""
    return {predictor.version: predictor.weight for predictor in status.predictors} if status else {}


def record_traffic(store: "Lineage", status: EndpointStatus, *, actor: str, run_id: str | None) -> None:
    """Record where an endpoint serves and the weights of its versions."""
    name, model = status.name, status.model
    store.record_endpoint(
        endpoint=name, model=model, url=status.url, is_stopped=status.stopped, actor=actor, run_id=run_id
    )
    store.record_weights(endpoint=name, model=model, weights=weights_of(status), actor=actor, run_id=run_id)


def stable_of(status: EndpointStatus | None) -> int | None:
    """Return the stable version of an endpoint, else the one with most of the traffic."""
    if status is None or not status.predictors:
        return None
    if status.stable is not None:
        return status.stable
    return max(status.predictors, key=lambda predictor: (predictor.weight, -predictor.version)).version
