"""A blob on its way into a layout or a registry: its descriptor, and where its bytes come from."""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from modelway.errors import ImageInvalid
from modelway.oci.manifest import Descriptor, ImageSource

#: bytes that are read, hashed or sent at once: a few of them for each upload are all the memory that an image takes
PIECE = 128 * 1024
Piece = bytes | memoryview


@dataclass(frozen=True, kw_only=True)
class FilePart:
    """Bytes of a file on this machine."""

    path: Path
    offset: int
    size: int


@dataclass(frozen=True, kw_only=True)
class Blob:
    """A blob whose digest and size are known before its bytes are read."""

    descriptor: Descriptor
    pieces: Callable[[], Iterator[Piece]]
    """Reads the bytes, from the beginning at each call; each piece is valid until the next one."""
    parts: Sequence[bytes | FilePart] | None = None
    """The same bytes as parts of files of this machine, which the kernel may send; None where they are elsewhere."""


def document_blob(data: bytes, descriptor: Descriptor) -> Blob:
    """Return a manifest or config in memory as a blob."""
    return Blob(descriptor=descriptor, pieces=lambda: iter((data,)))


def source_blob(source: ImageSource, descriptor: Descriptor) -> Blob:
    """Return a blob of an image that is read from its layout or registry when it is needed."""

    def pieces() -> Iterator[Piece]:
        with source.open_blob(descriptor) as file:
            while piece := file.read(PIECE):
                yield piece

    return Blob(descriptor=descriptor, pieces=pieces)


class Readable(Protocol):
    """A file by its path, or one on an object store, of which parts are read."""

    def open(self, mode: Literal["rb"], buffering: Literal[0]) -> io.RawIOBase:
        """Open it for reading."""


def read_part(path: Readable, *, offset: int, size: int) -> Iterator[memoryview]:
    """Yield a part of a file in pieces, less where the file ends before it; one on an object store is not copied.

    :raises OSError: the file cannot be read
    """
    buffer = memoryview(bytearray(min(PIECE, max(size, 1))))
    with path.open("rb", 0) as file:
        if offset:
            file.seek(offset)
        while size > 0 and (number := file.readinto(buffer[:size])):
            size -= number
            yield buffer[:number]


def whole(blob: Blob) -> Iterator[Piece]:
    """Yield a blob's bytes.

    :raises ImageInvalid: they are more or less than the descriptor says
    """
    left = blob.descriptor.size
    for piece in blob.pieces():
        left -= len(piece)
        if left < 0:
            break
        yield piece
    if left:
        size, digest = blob.descriptor.size, blob.descriptor.digest
        raise ImageInvalid(f"{digest} has not the {size} bytes that it should have", do="Build the image again")
