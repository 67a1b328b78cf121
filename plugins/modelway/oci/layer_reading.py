"""Reads a layer once, and compares what was read with the digests that the manifest and the config name."""

import gzip
import hashlib
import tarfile
import zlib
from collections.abc import Callable
from typing import BinaryIO, cast

from modelway.artifacts.whole_files import BLOCK
from modelway.errors import ImageInvalid
from modelway.oci.manifest import Descriptor

REBUILD = "Build the image again (clear the build_image task) or pull it from where it is whole"


class Hashing:
    """Reads a stream once and hashes its bytes."""

    def __init__(self, file: BinaryIO | gzip.GzipFile) -> None:
        """Begin where the stream is."""
        self._file, self._hash, self.size = file, hashlib.sha256(), 0

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        data = self._file.read(size)
        self._hash.update(data)
        self.size += len(data)
        return data

    def digest(self) -> str:
        """Read what is left and return the digest of everything."""
        while self.read(BLOCK):
            pass
        return "sha256:" + self._hash.hexdigest()


def unzipped(packed: Hashing) -> gzip.GzipFile:
    """Return the stream of a compressed layer's archive."""
    return gzip.GzipFile(fileobj=cast(BinaryIO, packed), mode="rb")


def read_archive(
    read: Callable[[BinaryIO], None],
    *,
    packed: Hashing,
    plain: Hashing,
    descriptor: Descriptor,
    diff_id: str,
    where: str,
) -> None:
    """Let ``read`` read a layer's tar archive, and check that it is what the manifest and the config name.

    :param packed: the layer's own bytes
    :param plain: the archive's, which are the same ones where the layer is not compressed
    :raises ImageInvalid: it is not, or is no tar archive
    """
    problem, unpacked = None, ""
    try:
        read(cast(BinaryIO, plain))
        unpacked = plain.digest()
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        problem = error
    if packed.digest() != descriptor.digest or packed.size != descriptor.size:
        raise ImageInvalid(f"layer {descriptor.digest} is damaged", where=where, do=REBUILD) from problem
    if problem is not None:
        raise ImageInvalid(f"layer {descriptor.digest} is no tar archive ({problem})", where=where) from problem
    if unpacked != diff_id:
        what = f"layer {descriptor.digest} unpacks to {unpacked}, and the config says {diff_id}"
        raise ImageInvalid(what, where=where, do=REBUILD)
