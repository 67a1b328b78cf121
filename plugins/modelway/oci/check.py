"""Reads all of an image and compares it with its digests; nothing is written."""

import hashlib
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

from modelway.oci.blobs import PIECE
from modelway.oci.layer_reading import Hashing, read_archive, unzipped
from modelway.oci.manifest import DOCKER_LAYER_GZIP, LAYER_GZIP, Descriptor, Image, ImageSource, read_image
from modelway.oci.seen import SeenFiles


@dataclass(frozen=True, kw_only=True)
class CheckedImage:
    """An image whose every byte was read."""

    image: Image
    files: Mapping[str, str]
    """The digest of each file by its path, as a container sees them once the layers lie on one another."""


def check_image(source: ImageSource, digest: str) -> CheckedImage:
    """Read the manifest, the config, every layer and every file of an image.

    :raises ImageInvalid: something is missing or damaged
    """
    image = read_image(source, digest)
    seen = SeenFiles()
    for descriptor, diff_id in zip(image.layers, image.diff_ids, strict=True):
        with source.open_blob(descriptor) as file:
            _read_layer(file, descriptor, diff_id, where=source.where, seen=seen)
    return CheckedImage(image=image, files=seen.files)


def _read_layer(file: BinaryIO, descriptor: Descriptor, diff_id: str, *, where: str, seen: SeenFiles) -> None:
    packed = Hashing(file)
    compressed = descriptor.media_type in (LAYER_GZIP, DOCKER_LAYER_GZIP)
    read_archive(
        partial(_add_files, seen),
        packed=packed,
        plain=Hashing(unzipped(packed)) if compressed else packed,
        descriptor=descriptor,
        diff_id=diff_id,
        where=where,
    )


def _add_files(seen: SeenFiles, stream: BinaryIO) -> None:
    seen.begin_layer()
    with tarfile.open(fileobj=stream, mode="r|", bufsize=PIECE) as tar:
        for member in tar:
            # Without it, the archive remembers every member that it has read.
            tar.members.clear()  # type: ignore[attr-defined]
            digest = None
            # A link has no bytes of its own, and a stream cannot be searched for those of another file.
            if member.isreg() and (content := tar.extractfile(member)) is not None:
                hasher = hashlib.sha256()
                while piece := content.read(PIECE):
                    hasher.update(piece)
                digest = f"sha256:{hasher.hexdigest()}"
            seen.add(member, digest)
