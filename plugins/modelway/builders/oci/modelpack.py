"""The same layers as a CNCF ModelPack artifact, for oras, modctl and KitOps: no bytes of the model are stored twice."""

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from modelway.builders.base import BuildOptions
from modelway.builders.oci.documents import BuiltDocuments, built_documents, described
from modelway.oci.manifest import MANIFEST, Descriptor, canonical_json

ARTIFACT = "application/vnd.cncf.model.manifest.v1+json"
_CONFIG = "application/vnd.cncf.model.config.v1+json"
_WEIGHTS = "application/vnd.cncf.model.weight.v1.tar"
_OTHERS = "application/vnd.cncf.model.weight.config.v1.tar"
_TITLE = "org.opencontainers.image.title"
_VERSION = "org.opencontainers.image.version"


def modelpack_documents(
    own: Sequence[Descriptor], paths: Sequence[str | None], options: BuildOptions
) -> BuiltDocuments:
    """Return the documents of the artifact.

    :param paths: of each layer's only file in the image, None for a layer of several
    """
    about = {"name": options.name, "version": options.annotations.get(_VERSION)}
    config = described(
        canonical_json(
            {
                "descriptor": {name: value for name, value in about.items() if value},
                "modelfs": {"type": "layers", "diffIds": [layer.digest for layer in own]},
                "config": {},
            }
        ),
        media_type=_CONFIG,
    )
    # No file's time: the specification's metadata of files would make the digest depend on the checkout.
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": ARTIFACT,
        "config": config.descriptor.to_dict(),
        "layers": [_layer(layer, path) for layer, path in zip(own, paths, strict=True)],
        "annotations": {_TITLE: options.name, **options.annotations},
    }
    return built_documents(manifest, config=config, layers=own)


def _layer(layer: Descriptor, path: str | None) -> dict[str, Any]:
    name = PurePosixPath(path).name if path else "other-files"
    annotations = {"org.cncf.model.filepath": path.lstrip("/") if path else name, _TITLE: f"{name}.tar"}
    kind = _WEIGHTS if path else _OTHERS
    return {"mediaType": kind, "digest": layer.digest, "size": layer.size, "annotations": annotations}
