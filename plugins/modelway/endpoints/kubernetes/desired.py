"""What an endpoint is to be on a cluster: the spec with what was found out about the cluster and the images."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from modelway.endpoints.base import EndpointSpec, Predictor
from modelway.endpoints.gateway.container import gateway_image
from modelway.endpoints.kubernetes import naming
from modelway.endpoints.kubernetes.section import KubernetesEndpointSection
from modelway.platforms.kubernetes.api import Manifest
from modelway.platforms.kubernetes.labels import GROUP
from modelway.platforms.kubernetes.objects import Kind

#: image volumes are on for good from here
IMAGE_VOLUME_SINCE = (1, 36)
#: what `make images` builds
SERVER_IMAGE = "modelway-server:0.1.0"
#: where the server listens
PORT = 8080
#: of gRPC, where predictors answer it
GRPC_PORT = 8001

#: the image runs by itself, with our server (none) or another program (foreign); or the model comes out of it
How = Literal["none", "foreign", "image", "loader"]


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
        return self.own.server_image or os.environ.get("MODELWAY_SERVER_IMAGE") or SERVER_IMAGE

    @property
    def gateway_image(self) -> str:
        """The image of the gateway."""
        return self.own.gateway_image or gateway_image()

    def metadata(self, kind: Kind, name: str, **labels: str) -> Manifest:
        """Return a manifest of this kind with its name and labels alone.

        :param labels: more labels, in the group of ours
        """
        manifest = kind.manifest(self.namespace, name)
        more = {f"{GROUP}/{key}": value for key, value in labels.items()}
        return naming.labelled(manifest, {**naming.endpoint_labels(self.spec.name, deployment=self.deployment), **more})

    def name_of(self, predictor: Predictor) -> str:
        """Return the name of a predictor's objects."""
        return naming.predictor_object(self.spec.name, predictor.name)
