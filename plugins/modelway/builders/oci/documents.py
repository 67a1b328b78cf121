"""The config and the manifest of an image, as the OCI image specification 1.1 has them: no time and no machine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelway.builders.base import BuildOptions
from modelway.oci.blobs import Blob, document_blob
from modelway.oci.manifest import (
    CONFIG,
    DEFAULT_ARCHITECTURE,
    DOCKER_LAYER_GZIP,
    DOCKER_LAYER_TAR,
    LAYER_GZIP,
    LAYER_TAR,
    MANIFEST,
    Descriptor,
    Image,
    bytes_digest,
    canonical_json,
)

_EPOCH = "1970-01-01T00:00:00Z"
_ANNOTATION = "org.opencontainers.image."
_AS_OCI = {DOCKER_LAYER_GZIP: LAYER_GZIP, DOCKER_LAYER_TAR: LAYER_TAR}


@dataclass(frozen=True, kw_only=True)
class BuiltDocuments:
    """What describes an image, and what its manifest lists."""

    manifest: Blob
    data: bytes
    """The manifest's bytes."""
    blobs: tuple[Blob, ...]
    """The config."""
    layers: tuple[str, ...]
    """Digests, the base's first."""
    size: int
    """Bytes of the manifest and all that it lists."""


def image_documents(*, base: Image | None, own: Sequence[Descriptor], options: BuildOptions) -> BuiltDocuments:
    """Return the documents of an image of ``base`` with the layers ``own`` on it."""
    config: dict[str, Any] = {"os": "linux", "architecture": DEFAULT_ARCHITECTURE, "config": {}}
    annotations = {f"{_ANNOTATION}title": options.name}
    below: list[Descriptor] = []
    diff_ids: list[str] = []
    if base is not None:
        config.update(base.config)
        annotations[f"{_ANNOTATION}base.digest"] = base.digest
        below, diff_ids = list(base.layers), list(base.diff_ids)
    # A base's history would no longer match the layers, and its time is not ours.
    config.pop("history", None)
    config["created"] = _EPOCH
    config["rootfs"] = {"type": "layers", "diff_ids": [*diff_ids, *(layer.digest for layer in own)]}
    config_blob = described(canonical_json(config), media_type=CONFIG)
    layers = (*below, *own)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config_blob.descriptor.to_dict(),
        "layers": [_as_oci(layer) for layer in layers],
        "annotations": {**annotations, **options.annotations},
    }
    return built_documents(manifest, config=config_blob, layers=layers)


def built_documents(manifest: Mapping[str, Any], *, config: Blob, layers: Sequence[Descriptor]) -> BuiltDocuments:
    """Return what a manifest and its config are."""
    data = canonical_json(manifest)
    return BuiltDocuments(
        manifest=described(data, media_type=MANIFEST),
        data=data,
        blobs=(config,),
        layers=tuple(layer.digest for layer in layers),
        size=len(data) + config.descriptor.size + sum(layer.size for layer in layers),
    )


def described(data: bytes, *, media_type: str) -> Blob:
    """Return a document as a blob."""
    return document_blob(data, Descriptor(media_type=media_type, digest=bytes_digest(data), size=len(data)))


def _as_oci(layer: Descriptor) -> dict[str, Any]:
    return {**layer.to_dict(), "mediaType": _AS_OCI.get(layer.media_type, layer.media_type)}
