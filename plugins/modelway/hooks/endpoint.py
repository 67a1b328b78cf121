"""The endpoints of a target, with the login of the registry that images are pulled from."""

from modelway.endpoints.base import Endpoint, load_endpoint
from modelway.hooks.settings import Settings


def open_endpoint(target: str, settings: Settings) -> Endpoint:
    """Return the endpoint port of a target.

    :raises CapabilityMissing: there is no such target
    """
    return load_endpoint(
        target,
        root=settings.endpoint_root,
        username=settings.registry_login,
        password=settings.registry_password,
    )
