"""Reads all of an image and compares it with its digests; nothing is written."""

import gzip
import hashlib
import io
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO, cast

from modelway.oci.blobs import PIECE
from modelway.oci.manifest import DOCKER_LAYER_GZIP, LAYER_GZIP, Descriptor, Image, ImageSource, read_image
from modelway.oci.seen import SeenFiles
from modelway.oci.unpack import LayerDigests, check_layer

_REBUILD = "Build the image again, or pull it from where it is whole"


@dataclass(frozen=True, kw_only=True)
class CheckedImage:
    """An image whose every byte was read."""

    image: Image
    files: Mapping[str, str]
    """The digest of each file by its path, as a container sees them once the layers lie on one another."""


class _Hashing(io.RawIOBase):
    """A stream that hashes what is read from it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.hash, self.size = file, hashlib.sha256(), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self.hash.update(data)
        self.size += len(data)
        return len(data)

    def digest(self) -> str:
        """Read what is left and return the digest of everything."""
        while self.read(PIECE):
            pass
        return f"sha256:{self.hash.hexdigest()}"


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
    packed = _Hashing(file)
    plain, problem = packed, None
    if descriptor.media_type in (LAYER_GZIP, DOCKER_LAYER_GZIP):
        plain = _Hashing(cast(BinaryIO, gzip.GzipFile(fileobj=cast(BinaryIO, packed), mode="rb")))
    try:
        _add_files(cast(BinaryIO, plain), seen)
        unpacked = plain.digest()
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        problem, unpacked = error, ""
    found = LayerDigests(packed=packed.digest(), size=packed.size, unpacked=unpacked)
    check_layer(found, descriptor, diff_id=diff_id, where=where, problem=problem)


def _add_files(stream: BinaryIO, seen: SeenFiles) -> None:
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
