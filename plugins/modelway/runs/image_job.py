"""The image of a version as a job: what the worker orders, and what the job makes of it where it runs.

The job's runner brings the builder along (see ``modelway.backends.folders.runner``), so that the image of its container
needs nothing but Python 3.11. The login comes by the environment, and never into the job's folder.
"""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from modelway.artifacts.store import Artifact, ArtifactStore, StoredFile
from modelway.builders.base import BuildOptions, BuiltImage
from modelway.errors import ImageInvalid, RegistryRefused
from modelway.runs.image_contents import build_version_image
from modelway.runs.messages.version import KnownVersion

#: variables of the job's environment with the login of the repository's registry
USERNAME, PASSWORD = "MODELWAY_REGISTRY_USERNAME", "MODELWAY_REGISTRY_PASSWORD"
#: the input with the version's archive, where the job does not read it from the artifact store itself
ARCHIVE = "archive"
#: what the job leaves
IMAGE = "output/image.json"
_OLDEST_PYTHON = (3, 11)
_NO_LOGIN = (
    "On Kubernetes, name the Secret with the registry's login in kubernetes.push_secret; on Docker, set the connection "
    'modelway_registry with {"jobs": true} in its extra; or set image.backend to local'
)


@dataclass(frozen=True, kw_only=True)
class ImageOrder:
    """What is built; equal for equal images, without a secret."""

    version: KnownVersion
    base: str
    path: str
    builder: str
    repository: str
    tag: str
    platform: Mapping[str, Any]

    def params(self) -> dict[str, Any]:
        """Return the order as the parameters of a job."""
        version = {name: getattr(self.version, name) for name in ("model", "version", "model_digest")}
        return {**vars(self), "version": {**version, "archive": self.version.archive.to_dict()}}

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> "ImageOrder":
        """Read the parameters of a job."""
        known = params["version"]
        # Not by ``from_xcom``: a job has no pydantic.
        version = KnownVersion(**{**known, "archive": Artifact.from_dict(known["archive"])})
        return cls(**{**params, "version": version})

    def inputs(self) -> dict[str, Artifact]:
        """Return the inputs of the job: none where the archive is on an object store, which the job reads itself."""
        archive = self.version.archive
        return {ARCHIVE: archive} if archive.uri.startswith("file:") else {}


def build_ordered(params: Mapping[str, Any], *, archive: Path | None, folder: Path) -> None:
    """Build and push the image that a job's parameters order, and leave what it is.

    :param archive: the version's archive, if it is an input
    :param folder: the job's; an attempt after this one finds there which layers are known
    :raises ImageInvalid: the image cannot be made
    :raises RegistryError: the registry refuses or does not answer
    """
    from modelway.oci.http import AccessRefused

    if sys.version_info < _OLDEST_PYTHON:
        raise ImageInvalid(
            f"the job's image has Python {sys.version_info[0]}.{sys.version_info[1]}, and the builder needs 3.11",
            do="Name another image for evaluation and freezing (evaluate.image), or set image.backend to local",
        )
    order = ImageOrder.of(params)
    options = BuildOptions(
        name=order.version.model,
        tag=order.tag,
        repository=order.repository,
        username=os.environ.get(USERNAME),
        password=os.environ.get(PASSWORD),
        known_layers=folder / "output" / "layers",
        platform=order.platform,
    )
    try:
        image = build_version_image(
            order.version,
            archive=archive or StoredFile(artifact=order.version.archive),
            store=ArtifactStore(""),
            base=order.base,
            path=order.path,
            builder=order.builder,
            options=options,
        )
    except AccessRefused as error:
        if options.username or "REGISTRY_AUTH_FILE" in os.environ:
            raise
        raise RegistryRefused(f"{error.what}, and the job has no login", where=error.where, do=_NO_LOGIN) from error
    print(f"image {image.digest} as {image.reference}", flush=True)
    (folder / IMAGE).write_text(json.dumps(asdict(image)))


def left_image(document: Mapping[str, Any]) -> BuiltImage:
    """Read what a job left.

    :raises ImageInvalid: it is no image
    """
    try:
        known = {name: document[name] for name in ("digest", "reference", "tag", "size")}
        return BuiltImage(**known, layers=tuple(document["layers"]))
    except (KeyError, TypeError) as error:
        raise ImageInvalid(f"the image job left something else than an image ({error})") from error
