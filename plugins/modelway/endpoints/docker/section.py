"""The section ``endpoint.docker`` of a model spec."""

from pydantic import Field

from modelway.fields.section import Section
from modelway.fields.values import Host


class DockerTargetSection(Section):
    """Where the gateway's container is published on the engine's machine."""

    host: Host | None = Field(
        default=None, description="Address to publish at; default: 127.0.0.1, on another machine all of its addresses"
    )
    port: int | None = Field(default=None, ge=1, le=65535, description="Left out: a free one from 20000 on")
    address: Host | None = Field(
        default=None,
        description="Name or address by which clients and workers reach the engine's machine; default: DOCKER_HOST's",
    )
