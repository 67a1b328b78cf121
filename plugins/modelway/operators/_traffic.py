"""What deploy and promote share: the rollout's place in the lineage and the endpoint it is about."""

from collections.abc import Mapping
from typing import Any

from modelway.endpoints.base import Endpoint, EndpointStatus, load_endpoint
from modelway.hooks.settings import Settings
from modelway.lineage.record import RolloutRecord


def endpoint_of(target: str, settings: Settings) -> Endpoint:
    """Return the endpoint port of a target."""
    return load_endpoint(
        target,
        root=settings.endpoint_root,
        username=settings.registry_login,
        password=settings.registry_password,
    )


def rollout_of(store: Any, *, endpoint: str, run: str) -> RolloutRecord | None:
    """Return this run's rollout at an endpoint, if it began one."""
    found: RolloutRecord | None = store.rollout(endpoint, run)
    return found


def weights_of(status: EndpointStatus) -> dict[int, int]:
    """Return the weight of each version behind an endpoint."""
    return {predictor.version: predictor.weight for predictor in status.predictors}


def stable_of(weights: Mapping[int, int], *, besides: int) -> int | None:
    """Return the version that has most of the traffic, other than ``besides``; ``None`` when no other has any."""
    others = {version: weight for version, weight in weights.items() if version != besides and weight > 0}
    return max(others, key=lambda version: (others[version], -version)) if others else None
