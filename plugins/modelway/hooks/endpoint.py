"""The endpoints of a target, with the login of the registry that images are pulled from."""

from modelway.endpoints.base import Endpoint, Login, endpoint_member, load_endpoint
from modelway.hooks.client import client_from_airflow
from modelway.hooks.settings import Settings


def open_endpoint(target: str, settings: Settings) -> Endpoint:
    """Return the endpoint port of a target.

    The login of a connection that names no registry is not used: an endpoint's images may be of any.

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
    options = {} if client is None else {"client": client}
    return load_endpoint(target, root=settings.endpoint_root, login=login, **options)
