"""Where modelway keeps things: plain settings, embedded defaults, no Airflow."""

import os
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Places and addresses of one deployment."""

    home: Path
    """Folder of everything embedded."""
    artifact_root: str
    """fsspec URL under which artifacts lie, such as ``file:///srv/modelway/artifacts``."""
    lineage_url: str
    """SQLAlchemy URL of the lineage database."""
    registry_login: str | None = None
    registry_password: str | None = field(default=None, repr=False)

    @property
    def image_layout(self) -> Path:
        """The OCI image layout folder of model images."""
        return self.home / "images"

    @property
    def endpoint_root(self) -> Path:
        """The folder of the local endpoints' state."""
        return self.home / "endpoints"


def load_settings() -> Settings:
    """Read the settings from the environment.

    ``MODELWAY_HOME`` (default: ``.modelway`` beside ``plugins/``) holds everything that has no address of its own;
    ``MODELWAY_ARTIFACT_ROOT`` and ``MODELWAY_LINEAGE_URL`` move the artifacts and the lineage database elsewhere.
    """
    beside_plugins = Path(__file__).resolve().parents[3] / ".modelway"
    home = Path(os.environ.get("MODELWAY_HOME") or beside_plugins).absolute()
    return Settings(
        home=home,
        artifact_root=os.environ.get("MODELWAY_ARTIFACT_ROOT") or (home / "artifacts").as_uri(),
        lineage_url=os.environ.get("MODELWAY_LINEAGE_URL") or f"sqlite:///{home / 'lineage.db'}",
    )
