"""A layer as the tar archive that it is in an image, read from its files as often as it is needed."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from modelway.builders.base import Layer, LayerFile
from modelway.builders.layer_parts import layer_parts, sorted_files
from modelway.errors import DigestMismatch
from modelway.oci.blobs import FilePart, Piece, read_part

_FREEZE = "Run the freeze stage again, and let nothing write to its files"


class LayerTar:
    """The archive of one layer, written as often as it is read and never stored."""

    def __init__(self, layer: Layer) -> None:
        """Check the paths and write the headers.

        :raises ImageInvalid: a path cannot be in an image, is there twice, or is a file and a folder
        """
        self.given_digest = layer.digest
        """As it was computed before, such as at freezing; None where it was not."""
        self._files = sorted_files(layer)
        self._parts = tuple(layer_parts(self._files))
        self.size = sum(len(part) if isinstance(part, bytes) else part.size for part in self._parts)
        identity = hashlib.sha256()
        for part in self._parts:
            identity.update(part if isinstance(part, bytes) else part.digest.encode())
        self.identity = identity.hexdigest()
        """Of the headers and the files' digests: equal for two layers if and only if their bytes are."""

    @property
    def path(self) -> str | None:
        """The path in the image of a layer's only file."""
        return f"/{next(iter(self._files))}" if len(self._files) == 1 else None

    def pieces(self) -> Iterator[Piece]:
        """Yield the archive's bytes; whoever gets them compares them with the layer's digest.

        :raises DigestMismatch: a file cannot be read, or is shorter than it was
        """
        for part in self._parts:
            if isinstance(part, bytes):
                yield part
            else:
                yield from _read(part)

    def local_parts(self) -> tuple[bytes | FilePart, ...] | None:
        """Return what the archive is made of, to be sent from files of this machine; None where one is elsewhere."""
        parts: list[bytes | FilePart] = []
        for part in self._parts:
            if isinstance(part, bytes):
                parts.append(part)
            elif isinstance(part.source, Path):
                parts.append(FilePart(path=part.source, offset=part.offset, size=part.size))
            else:
                return None
        return tuple(parts)

    def checked_pieces(self) -> Iterator[Piece]:
        """Yield the archive's bytes and compare each file's with its digest.

        :raises DigestMismatch: they are others
        """
        for part in self._parts:
            if isinstance(part, bytes):
                yield part
                continue
            hasher = hashlib.sha256()
            for piece in _read(part):
                hasher.update(piece)
                yield piece
            found = f"sha256:{hasher.hexdigest()}"
            if found != part.digest:
                raise _mismatch(part, f"found {found} instead of {part.digest}")

    def check(self) -> None:
        """Read all files.

        :raises DigestMismatch: one is not what its digest names
        """
        for _ in self.checked_pieces():
            pass


def _read(file: LayerFile) -> Iterator[memoryview]:
    size = 0
    try:
        for piece in read_part(file.source, offset=file.offset, size=file.size):
            size += len(piece)
            yield piece
    except OSError as error:
        raise _mismatch(file, f"{file.digest} cannot be read ({error.strerror})") from error
    if size != file.size:
        raise _mismatch(file, f"found {size} bytes instead of {file.digest}, {file.size} bytes")


def _mismatch(file: LayerFile, what: str) -> DigestMismatch:
    where = str(file.source) if not file.offset else f"{file.source}, {file.path_in_image}"
    return DigestMismatch(what, where=where, do=_FREEZE)
