"""The section ``endpoint.local`` of a model spec."""

from pydantic import Field

from modelway.fields.section import Section
from modelway.fields.values import Host


class LocalSection(Section):
    """Where the gateway on this machine listens."""

    host: Host = Field(default="127.0.0.1", description="Address to listen on")
    port: int | None = Field(default=None, ge=1, le=65535, description="Left out: a free one")
