"""The endpoints of all targets, started and stopped by a person: the lineage records it."""

import sys

from modelway.cli._lineage import lineage_if_any
from modelway.endpoints.base import Endpoint, EndpointStatus, pipeline_version
from modelway.endpoints.shares import percentages
from modelway.errors import ModelwayError, UnknownModel
from modelway.hooks.endpoint import open_endpoint, open_endpoint_of
from modelway.hooks.settings import Settings

TARGET = "local"


def open_local(settings: Settings) -> Endpoint:
    """Return the port to this machine's endpoints."""
    return open_endpoint(TARGET, settings)


def local_endpoints(settings: Settings) -> list[EndpointStatus]:
    """Return the endpoints of this machine as they are, stopped ones included."""
    port = open_local(settings)
    found = [port.status(name) for name in port.names()]
    return [status for status in found if status is not None]


def serving_lines(settings: Settings) -> list[str]:
    """Return a line for each endpoint that serves, for a command that ends: where, and which versions answer."""
    lines = []
    for status in local_endpoints(settings):
        if status.ready:
            lines.append(f"{status.name} continues to serve at {status.url} ({split_text(status)})")
    return lines


def split_text(status: EndpointStatus) -> str:
    """Return the share of each predictor: those of the pipeline by their version."""
    shares = percentages({each.name: each.weight for each in status.predictors})
    names = ((pipeline_version(name), name, share) for name, share in shares.items())
    return ", ".join(f"{f'version {version}' if version else name} {share} %" for version, name, share in names)


def known_targets() -> dict[str, str]:
    """Return where each endpoint serves that a rollout of the lineage names."""
    lineage = lineage_if_any()
    return {} if lineage is None else lineage.endpoint_targets()


def open_known(settings: Settings, name: str, *, target: str) -> Endpoint:
    """Return the port to an endpoint's target, in the place that its rollouts name."""
    lineage = lineage_if_any()
    rollouts = lineage.rollouts(name) if lineage is not None else []
    found = next((each for each in rollouts if each.detail.get("target") == target), None)
    return open_endpoint_of(found, settings, target=target)


def start_endpoint(settings: Settings, name: str, *, actor: str, target: str = TARGET) -> EndpointStatus:
    """Start a stopped endpoint as it was.

    :raises ModelwayError: as :meth:`modelway.endpoints.base.Endpoint.start` does
    """
    status = open_known(settings, name, target=target).start(name)
    _record(settings, status, actor=actor)
    return status


def stop_endpoint(settings: Settings, name: str, *, actor: str, target: str = TARGET) -> None:
    """Stop an endpoint and record it; nothing happens when it is stopped already, or does not exist."""
    port = open_known(settings, name, target=target)
    port.stop(name)
    if (status := port.status(name)) is not None:
        _record(settings, status, actor=actor)


def serving_names(settings: Settings) -> frozenset[str]:
    """Return the endpoints that answer requests now."""
    return frozenset(status.name for status in local_endpoints(settings) if status.ready)


def _record(settings: Settings, status: EndpointStatus, *, actor: str) -> None:
    from modelway.hooks.lineage import lineage_from_environment

    try:
        lineage_from_environment().record_endpoint(
            endpoint=status.name, model=status.model, url=status.url, is_stopped=status.stopped, actor=actor
        )
    except UnknownModel:
        # served without ever having been registered here
        return
    except ModelwayError as error:
        # the request itself succeeded
        print(f"modelway: this was not recorded in the lineage: {error}", file=sys.stderr)
