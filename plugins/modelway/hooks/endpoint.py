"""The endpoints of a target, with the login of the registry that images are pulled from."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from modelway.endpoints.base import Endpoint, Login, endpoint_member, load_endpoint
from modelway.hooks.client import client_from_airflow
from modelway.hooks.settings import Settings

if TYPE_CHECKING:
    from modelway.lineage.records.version import RolloutRecord


def open_endpoint(target: str, settings: Settings, *, platform: Mapping[str, Any] | None = None) -> Endpoint:
    """Return the endpoint port of a target.

    The login of a connection that names no registry is not used: an endpoint's images may be of any.

    :param platform: the target's section, where it says in which project or region endpoints are looked for
    :raises CapabilityMissing: there is no such target
    """
    login = None
    if settings.registry_host and settings.registry_login:
        login = Login(
            registry=settings.registry_host,
            username=settings.registry_login,
            password=settings.registry_password or "",
        )
    member = endpoint_member(target)
    client = client_from_airflow(target, hook=member.hook) if member.hook or member.connects else None
    options: dict[str, Any] = {} if client is None else {"client": client}
    if member.placed:
        options["platform"] = platform or {}
    return load_endpoint(target, root=settings.endpoint_root, login=login, **options)


def open_endpoint_of(rollout: "RolloutRecord | None", settings: Settings, *, target: str) -> Endpoint:
    """Return the endpoint port that a rollout's record names.

    :param target: where it is served, as far as the record does not say
    :raises CapabilityMissing: there is no such target
    """
    detail = rollout.detail if rollout is not None else {}
    return open_endpoint(str(detail.get("target") or target), settings, platform=detail.get("platform"))
