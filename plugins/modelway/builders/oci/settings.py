"""The settings of the section ``image.oci`` as a build gets them, without loading pydantic."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class OciSettings:
    """See ``OciSection``, which has checked them."""

    order: tuple[str, ...] = ()
    modelpack: bool = False
    parallel: int = 4
    chunk_bytes: int | None = None
    insecure: bool = False

    @classmethod
    def of(cls, platform: Mapping[str, Any]) -> "OciSettings":
        """Read ``BuildOptions.platform``."""
        return cls(**{**platform, "order": tuple(platform.get("order") or ())})
