"""The base class of all sections of ``model.yaml``."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of the spec: frozen, no unknown keys, no guessing of types."""

    # Without defer_build each section would be compiled by itself, too, when its module is imported.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, defer_build=True)
