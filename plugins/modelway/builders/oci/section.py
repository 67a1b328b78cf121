"""The section ``image.oci`` of a model spec."""

from typing import Annotated

from pydantic import Field

from modelway.builders.oci.settings import OciSettings
from modelway.fields.section import Section
from modelway.fields.values import Text

Patterns = Annotated[tuple[Text, ...], Field(strict=False)]


class OciSection(Section):
    """What only the builder without a daemon knows."""

    order: Patterns = Field(
        default=OciSettings.order,
        description="Weight files whose layers come first, those that change least before the others: model/encoder*",
    )
    modelpack: bool = Field(
        default=OciSettings.modelpack,
        description="Push a CNCF ModelPack manifest of the same layers as well, as <tag>-modelpack",
    )
    parallel: int = Field(default=OciSettings.parallel, ge=1, le=64, description="Uploads at a time")
    chunk_bytes: int | None = Field(
        default=OciSettings.chunk_bytes,
        ge=1024,
        description="Send blobs in chunks of so many bytes, for a registry that requires it; default: in one request",
    )
    insecure: bool = Field(
        default=OciSettings.insecure, description="Speak HTTP with the registry; it is HTTPS otherwise"
    )
