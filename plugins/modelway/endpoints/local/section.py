"""The section ``endpoint.local`` of a model spec."""

from pydantic import Field

from modelway.fields.section import Section
from modelway.fields.values import Host


class LocalSection(Section):
    """Where the gateway on this machine listens."""

    host: Host | None = Field(
        default=None, description="Address to listen on; default: `MODELWAY_ENDPOINT_HOST`, else 127.0.0.1"
    )
    port: int | None = Field(
        default=None, ge=1, le=65535, description="Left out: a free one, of `MODELWAY_ENDPOINT_PORTS` where that is set"
    )
