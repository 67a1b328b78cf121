"""A layer as the tar archive that it is in an image: the same bytes for the same files, on any machine.

Entries are sorted, folders before what is in them; owner 0, modes 0644 and 0755, times 1970-01-01.
"""

import hashlib
import tarfile
from collections.abc import Iterator
from pathlib import PurePosixPath

from modelway.builders.base import Layer, LayerFile
from modelway.errors import DigestMismatch, ImageInvalid
from modelway.oci.blobs import Piece, read_part

_FREEZE = "Run the freeze stage again, and let nothing write to its files"


class LayerTar:
    """The archive of one layer, written as often as it is read and never stored."""

    def __init__(self, layer: Layer) -> None:
        """Check the paths and write the headers.

        :raises ImageInvalid: a path cannot be in an image, is there twice, or is a file and a folder
        """
        self._files = _sorted_files(layer)
        self._parts = tuple(_parts(self._files))
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


def _sorted_files(layer: Layer) -> dict[str, LayerFile]:
    """Return the files of a layer by their names in the archive, sorted.

    :raises ImageInvalid: a path cannot be in an image, is there twice, or is a file and a folder
    """
    files: dict[str, LayerFile] = {}
    for file in layer.files:
        path = PurePosixPath(file.path_in_image.lstrip("/"))
        bad = not path.parts or ".." in path.parts or "\0" in file.path_in_image or path.name.startswith(".wh.")
        if bad or str(path) in files:
            what = "cannot be in an image" if bad else "is there twice in one layer"
            raise ImageInvalid(f"the path {file.path_in_image!r} {what}", where=str(file.source))
        files[str(path)] = file
    for name in files:
        for folder in PurePosixPath(name).parents:
            if str(folder) in files:
                raise ImageInvalid(f"the path '/{folder}' is a file and a folder", where=str(files[name].source))
    return dict(sorted(files.items(), key=lambda item: PurePosixPath(item[0]).parts))


def _parts(files: dict[str, LayerFile]) -> Iterator[bytes | LayerFile]:
    """Yield headers, files and padding: PAX as Python writes it, which is USTAR unless a name or size needs more."""
    folders: set[str] = set()
    for name, file in files.items():
        for folder in reversed(PurePosixPath(name).parents[:-1]):
            if str(folder) not in folders:
                folders.add(str(folder))
                yield _header(f"{folder}/", mode=0o755, size=0, kind=tarfile.DIRTYPE)
        yield _header(name, mode=0o644, size=file.size, kind=tarfile.REGTYPE)
        yield file
        yield bytes(-file.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _header(name: str, *, mode: int, size: int, kind: bytes) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.size, entry.type = mode, size, kind
    return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
