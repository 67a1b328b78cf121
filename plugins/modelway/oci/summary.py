"""What an image says of itself: its manifest in short, and how two of them differ."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from modelway.oci.manifest import Descriptor, ImageSource, read_document

#: the annotation of a layer with one file: its path in the image
PATH = "io.modelway.path"


@dataclass(frozen=True, kw_only=True)
class ImageSummary:
    """A manifest in short; sizes are in bytes."""

    digest: str
    artifact_type: str
    annotations: Mapping[str, str]
    config: Descriptor
    layers: tuple[Descriptor, ...]
    manifest_size: int
    referrers: tuple[tuple[str, str], ...] = field(default=())
    """Kind and digest of what refers to the image."""

    @property
    def size(self) -> int:
        """Bytes of the manifest and all that it lists."""
        return self.manifest_size + self.config.size + sum(layer.size for layer in self.layers)


@dataclass(frozen=True, kw_only=True)
class ImageDifference:
    """What a node that has one image must fetch for another."""

    same: tuple[Descriptor, ...]
    added: tuple[Descriptor, ...]
    removed: tuple[Descriptor, ...]
    unpacked_again: tuple[Descriptor, ...]
    """Layers that a node has and must unpack once more, since one below them differs."""
    annotations: Mapping[str, tuple[str | None, str | None]]
    """Before and after, of those that differ."""


def read_summary(source: ImageSource, digest: str) -> ImageSummary:
    """Return the summary of an image by its manifest.

    :raises ImageInvalid: the manifest is missing, damaged, or not of one image
    """
    data, where = source.read_manifest(digest), f"{source.where}@{digest}"
    manifest = read_document(data, where=where)
    layers = tuple(Descriptor.from_dict(layer, where=where) for layer in manifest.get("layers") or ())
    return ImageSummary(
        digest=digest,
        artifact_type=str(manifest.get("artifactType", "")),
        annotations={str(name): str(value) for name, value in (manifest.get("annotations") or {}).items()},
        config=Descriptor.from_dict(manifest.get("config"), where=where),
        layers=layers,
        manifest_size=len(data),
    )


def image_difference(before: ImageSummary, after: ImageSummary) -> ImageDifference:
    """Return how an image differs from another."""
    known = {layer.digest for layer in before.layers}
    wanted = {layer.digest for layer in after.layers}
    prefix = 0
    for one, other in zip(before.layers, after.layers, strict=False):
        if one.digest != other.digest:
            break
        prefix += 1
    names = sorted({*before.annotations, *after.annotations})
    return ImageDifference(
        same=tuple(layer for layer in after.layers if layer.digest in known),
        added=tuple(layer for layer in after.layers if layer.digest not in known),
        removed=tuple(layer for layer in before.layers if layer.digest not in wanted),
        unpacked_again=tuple(layer for layer in after.layers[prefix:] if layer.digest in known),
        annotations={
            name: (before.annotations.get(name), after.annotations.get(name))
            for name in names
            if before.annotations.get(name) != after.annotations.get(name)
        },
    )
