"""The section ``endpoint.kubernetes`` of a model spec."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from modelway.fields.refusal import Refusal, shown
from modelway.fields.reread import with_durations
from modelway.fields.section import Section
from modelway.fields.values import Duration, Host, Label, Text
from modelway.platforms.kubernetes.patch import DIRECTIVE, unknown_directives

Routing = Literal["haproxy", "gateway-api", "istio"]
Engine = Literal["plain", "kserve", "kubedl"]
Mount = Literal["auto", "none", "image", "loader"]


class KubernetesEndpointSection(Section):
    """Where on a cluster versions are served, and what splits the requests."""

    namespace: Label = Field(default="default", description="Namespace of everything that the endpoint consists of")
    routing: Routing = Field(
        default="haproxy",
        description="What splits the requests: a gateway of the endpoint's own, an HTTPRoute, or a VirtualService",
    )
    engine: Engine = Field(
        default="plain", description="What runs the predictors: Deployments, or a controller that must be installed"
    )
    mount: Mount = Field(
        default="auto",
        description="How the model comes into the pod: its image has the server itself (none), it is mounted as an "
        "image volume (image) or copied by an init container (loader); auto: by the image and the cluster",
    )
    server_image: Text | None = Field(
        default=None, description="The model server's image, where the model's own image has none"
    )
    insecure_registry: bool = Field(
        default=False, description="Whether images are read from the registry over HTTP, also by the loader"
    )
    grpc: bool = Field(
        default=False,
        description="Whether predictors answer gRPC, too, at port 8001 of their own Services",
    )
    gateway_image: Text | None = Field(default=None, description="The gateway's image, for routing: haproxy")
    gateway_replicas: int = Field(default=2, ge=1, le=16, description="Pods of the gateway, for routing: haproxy")
    gateway: Text | None = Field(
        default=None, description="The Gateway that the route belongs to: NAME or NAMESPACE/NAME (for istio also mesh)"
    )
    hosts: Annotated[tuple[Host, ...], Field(strict=False)] = Field(
        default=(), description="Host names of the route; left out: those of its Gateway"
    )
    url: Text | None = Field(default=None, description="Where callers reach the endpoint; left out: by the routing")
    service_account: Label | None = Field(default=None, description="The predictors' service account")
    image_pull_secrets: Annotated[tuple[Label, ...], Field(strict=False)] = Field(
        default=(), description="Secrets that hold the image registry's login"
    )
    node_selector: Mapping[str, str] = Field(default_factory=dict, description="Labels that the predictors' nodes have")
    tolerations: Annotated[tuple[Mapping[str, Any], ...], Field(strict=False)] = Field(
        default=(), description="Taints that predictors bear, as Kubernetes writes them"
    )
    priority_class: Label | None = Field(default=None, description="Priority class of the predictors")
    runtime_class: Label | None = Field(default=None, description="Runtime class of the predictors")
    prepull: bool = Field(
        default=True, description="Whether all nodes pull a new version's image before any traffic moves to it"
    )
    ready_within_seconds: Duration = Field(
        default=600, alias="ready_within", description="Time that a new version has to become ready"
    )
    patch: Mapping[str, Any] = Field(
        default_factory=dict,
        description="Merged into each predictor's Deployment (strategic merge), for what has no key here",
    )

    @model_validator(mode="before")
    @classmethod
    def _read_before(cls, data: Any) -> Any:
        return with_durations(data, "ready_within")

    @model_validator(mode="after")
    def _patched(self) -> Self:
        for path in unknown_directives(self.patch):
            what = f"{shown(path[-1])} is no directive that is understood here"
            do = f"Write {DIRECTIVE}: delete or {DIRECTIVE}: replace, or leave it out"
            raise Refusal(what, at=("patch", *path), do=do)
        return self

    @model_validator(mode="after")
    def _routed(self) -> Self:
        if self.routing != "haproxy" and self.engine != "kserve" and self.gateway is None:
            what = f"routing: {self.routing} needs the Gateway that its route belongs to"
            raise Refusal(what, at=("gateway",), do="Write gateway: NAMESPACE/NAME")
        if self.routing == "istio" and not self.hosts:
            raise Refusal("a VirtualService needs host names", at=("hosts",), do="Write hosts: [models.example.org]")
        if self.engine == "kserve" and self.routing != "haproxy":
            what = "engine: kserve splits the requests itself"
            raise Refusal(what, at=("routing",), do="Leave routing out, or choose engine: plain")
        if self.engine == "kubedl" and self.mount == "image":
            what = "engine: kubedl drops image volumes, its pods are of an older form"
            raise Refusal(what, at=("mount",), do="Choose mount: loader or none")
        if self.grpc and self.engine != "plain":
            what = f"engine: {self.engine} makes the Services itself"
            raise Refusal(what, at=("grpc",), do="Leave grpc out, or choose engine: plain")
        if self.patch and self.engine != "plain":
            what = f"engine: {self.engine} makes the Deployments itself"
            raise Refusal(what, at=("patch",), do="Leave patch out, or choose engine: plain")
        return self
