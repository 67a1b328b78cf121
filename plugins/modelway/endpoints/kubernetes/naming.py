"""Names and labels of what an endpoint consists of on a cluster."""

from modelway.names import slug
from modelway.platforms.kubernetes.api import Manifest
from modelway.platforms.kubernetes.labels import DEPLOYMENT, GROUP, MANAGED

#: of server-side apply
MANAGER = "modelway"
ENDPOINT, PREDICTOR, VERSION, PART = (f"{GROUP}/{word}" for word in ("endpoint", "predictor", "version", "part"))
#: of everything that belongs to an endpoint's gateway
GATEWAY = "gateway"


def predictor_object(endpoint: str, predictor: str) -> str:
    """Return the name of a predictor's objects; that of a Service has 63 characters at most."""
    return slug(f"{endpoint}-{predictor}", limit=52)


def gateway_object(endpoint: str) -> str:
    """Return the name of the gateway's objects."""
    return slug(f"{endpoint}-{GATEWAY}", limit=52)


def record_object(endpoint: str) -> str:
    """Return the name of the ConfigMap that records the endpoint, and of the Lease that locks it."""
    return slug(f"{endpoint}-endpoint", limit=52)


def endpoint_labels(endpoint: str, *, deployment: str) -> dict[str, str]:
    """Return the labels of everything that an endpoint of this Airflow consists of."""
    return {**MANAGED, ENDPOINT: endpoint, DEPLOYMENT: deployment}


def selector(endpoint: str, **more: str) -> str:
    """Return what finds the objects of an endpoint.

    :param more: ``predictor`` or ``part``, and its value
    """
    labels = {**MANAGED, ENDPOINT: endpoint, **{f"{GROUP}/{key}": value for key, value in more.items()}}
    return ",".join(f"{key}={value}" for key, value in labels.items())


def labelled(manifest: Manifest, labels: dict[str, str]) -> Manifest:
    """Return a manifest with labels."""
    return {**manifest, "metadata": {**manifest["metadata"], "labels": labels}}
