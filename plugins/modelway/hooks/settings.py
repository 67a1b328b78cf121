"""Where modelway stores things: plain settings, embedded defaults, no Airflow."""

import contextlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from modelway.errors import ModelwayError, NotWritable
from modelway.folders import home_folder
from modelway.hooks.fields import (
    database_url,
    destination,
    destination_of_url,
    fields_from_environment,
    is_for_jobs,
    registry_of,
)
from modelway.lineage.exporters.base import Destination
from modelway.ports import known

LINEAGE_CONN_ID = "modelway_lineage"
REGISTRY_CONN_ID = "modelway_registry"
#: the base of images that the deployment defines
SERVER = "server"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Places and addresses of one deployment."""

    home: Path
    """Folder of everything embedded."""
    artifact_root: str
    """fsspec URL under which artifacts are stored, such as ``file:///srv/modelway/artifacts``."""
    lineage_url: str = field(repr=False)
    """SQLAlchemy URL of the lineage database."""
    server_image: str | None = None
    """The image of the model server, by its digest."""
    signing_key: Path | None = None
    """The file of the private key that signs where images come from."""
    registry_host: str = ""
    """The only registry that the login is for; empty: that of each repository."""
    registry_login: str | None = None
    registry_password: str | None = field(default=None, repr=False)
    registry_for_jobs: bool = False
    """Whether jobs may have the login: whoever chooses their image can read it."""

    @property
    def image_layout(self) -> Path:
        """The OCI image layout folder of model images."""
        return self.home / "images"

    @property
    def known_layers(self) -> Path:
        """The folder that remembers the digests of layers of images."""
        return self.home / "layers"

    def login_for(self, repository: str) -> tuple[str | None, str | None]:
        """Return login and password for a repository: None twice where they are for another registry."""
        if self.registry_host not in ("", repository.partition("/")[0]):
            return None, None
        return self.registry_login, self.registry_password

    def base_image(self, base: str) -> str:
        """Return the base of an image; ``server`` stands for the deployment's image of the model server.

        :raises ModelwayError: ``server``, and the deployment names none
        """
        if base != SERVER:
            return base
        if not self.server_image:
            raise ModelwayError(
                "the base 'server' is the image of the model server, and this deployment names none",
                where="MODELWAY_SERVER_IMAGE",
                do="Push the server's image to your registry and set MODELWAY_SERVER_IMAGE to "
                "<host>/<repository>@sha256:<digest>, or name another base",
            )
        return self.server_image

    @property
    def endpoint_root(self) -> Path:
        """The folder of the local endpoints' state."""
        return self.home / "endpoints"


def load_settings() -> Settings:
    """Read the settings from the environment.

    ``MODELWAY_HOME`` has everything without an address of its own (default: see ``modelway.folders``);
    ``MODELWAY_ARTIFACT_ROOT`` and ``MODELWAY_LINEAGE_URL`` move the artifacts and the lineage database elsewhere, and
    ``MODELWAY_SERVER_IMAGE`` names the base ``server`` of images, ``MODELWAY_SIGNING_KEY`` the file of the key that
    signs where they come from. The lineage may also be configured as the connection ``modelway_lineage``:
    ``AIRFLOW_CONN_MODELWAY_LINEAGE``.

    :raises ModelwayError: that connection cannot be read, or the home is a file
    """
    home = home_folder()
    _refuse_file(home)
    registry = fields_from_environment(REGISTRY_CONN_ID)
    return Settings(
        home=home,
        artifact_root=os.environ.get("MODELWAY_ARTIFACT_ROOT") or (home / "artifacts").as_uri(),
        lineage_url=os.environ.get("MODELWAY_LINEAGE_URL")
        or _lineage_connection()
        or f"sqlite:///{home / 'lineage.db'}",
        server_image=os.environ.get("MODELWAY_SERVER_IMAGE"),
        registry_host=registry_of(registry) if registry else "",
        registry_login=registry.login if registry else None,
        registry_password=registry.password if registry else None,
        registry_for_jobs=is_for_jobs(registry) if registry else False,
        signing_key=Path(key) if (key := os.environ.get("MODELWAY_SIGNING_KEY")) else None,
    )


def make_private(home: Path) -> None:
    """Make the home folder if it is not there, and close it to all users but its own: it has credentials and data.

    One with the set-group-ID bit stays open to its group. A folder of another user, the user's own home and one that
    everybody may write to are left as they are. A failure is ignored here: the first write reports it.
    """
    with contextlib.suppress(OSError):
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = home.stat()
        is_ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
        is_shared = status.st_mode & stat.S_ISVTX or home in (Path.home(), Path("/"))
        allowed = 0o2770 if status.st_mode & stat.S_ISGID else 0o700
        if is_ours and not is_shared and status.st_mode & 0o077 & ~allowed:
            home.chmod(status.st_mode & allowed)


def _refuse_file(home: Path) -> None:
    """Reject a home that cannot be created because a file is in its place or above it.

    :raises NotWritable: it is so
    """
    there = next((place for place in (home, *home.parents) if place.exists()), home)
    if there.exists() and not there.is_dir():
        raise NotWritable(f"the home {home} is not a folder: {there} is a file", do="Set MODELWAY_HOME to a folder")


def _lineage_connection() -> str | None:
    fields = fields_from_environment(LINEAGE_CONN_ID)
    return database_url(fields) if fields else None


def load_exporters() -> tuple[Destination, ...]:
    """Return where the lineage is exported to, by the environment.

    ``MODELWAY_MLFLOW_URL`` and ``MODELWAY_OPENLINEAGE_URL``, or the connections ``modelway_mlflow`` and
    ``modelway_openlineage`` as ``AIRFLOW_CONN_…``.
    """
    found = (exporter_of_environment(name) for name in known("exporters"))
    return tuple(each for each in found if each is not None)


def exporter_of_environment(name: str) -> Destination | None:
    """Return where an exporter sends; None where the environment does not say.

    With an address that cannot be read nothing can be sent, but the facts are stored all the same.
    """
    try:
        if url := os.environ.get(f"MODELWAY_{name.upper()}_URL"):
            return destination_of_url(name, url)
        fields = fields_from_environment(f"modelway_{name}")
        return destination(name, fields) if fields else None
    except ModelwayError as error:
        return Destination(exporter=name, url=error.what)
