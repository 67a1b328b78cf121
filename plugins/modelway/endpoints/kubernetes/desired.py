"""What an endpoint is to be on a cluster: the spec with what was found out about the cluster and the images."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from modelway.endpoints.base import EndpointSpec, Predictor
from modelway.endpoints.kubernetes import naming
from modelway.endpoints.kubernetes.section import KubernetesEndpointSection
from modelway.platforms.kubernetes.api import Manifest
from modelway.platforms.kubernetes.objects import Kind

#: image volumes are on for good from here
IMAGE_VOLUME_SINCE = (1, 36)
#: where the server listens
PORT = 8080

How = Literal["none", "image", "loader"]


@dataclass(frozen=True, kw_only=True)
class Desired:
    """An endpoint as it is to be; the builders of manifests need nothing else."""

    spec: EndpointSpec
    own: KubernetesEndpointSection
    #: distinguishes this Airflow from another one
    deployment: str
    #: of the API server
    version: tuple[int, int]
    #: how each predictor's model comes into its pods, by the predictor's name
    mounts: Mapping[str, How]
    #: whether nothing is to run
    stopped: bool = False

    @property
    def namespace(self) -> str:
        """The namespace of everything."""
        return self.own.namespace

    @property
    def server_image(self) -> str:
        """The image of the model server, for models whose own image has none."""
        return self.own.server_image or f"modelway-server:{_release()}"

    @property
    def gateway_image(self) -> str:
        """The image of the gateway."""
        return self.own.gateway_image or f"modelway-gateway:{_release()}"

    def metadata(self, kind: Kind, name: str, **labels: str) -> Manifest:
        """Return a manifest of this kind with its name and labels alone.

        :param labels: more labels, in the group of ours
        """
        manifest = kind.manifest(self.namespace, name)
        more = {f"{naming.GROUP}/{key}": value for key, value in labels.items()}
        return naming.labelled(manifest, {**naming.endpoint_labels(self.spec.name, deployment=self.deployment), **more})

    def name_of(self, predictor: Predictor) -> str:
        """Return the name of a predictor's objects."""
        return naming.predictor_object(self.spec.name, predictor.name)


def _release() -> str:
    try:
        return version("apache-airflow-providers-modelway")
    except PackageNotFoundError:
        return "0.1.0"
