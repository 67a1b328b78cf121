"""The parts of a layer's tar archive: the same bytes for the same files, on any machine.

Entries are sorted, folders before what is in them; owner 0, modes 0644 and 0755, times 1970-01-01.
"""

import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from modelway.builders.base import Layer, LayerFile
from modelway.errors import ImageInvalid


def sorted_files(layer: Layer) -> dict[str, LayerFile]:
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


def layer_parts(files: dict[str, LayerFile]) -> Iterator[bytes | LayerFile]:
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


def layer_frame(path_in_image: str, *, size: int) -> tuple[bytes, bytes]:
    """Return what a layer of one file has before and behind the file's bytes.

    :raises ImageInvalid: the path cannot be in an image
    """
    file = LayerFile(path_in_image=path_in_image, source=Path(), size=size, digest="")
    parts = list(layer_parts(sorted_files(Layer(files=(file,)))))
    here = parts.index(file)
    return _joined(parts[:here]), _joined(parts[here + 1 :])


def _joined(parts: Sequence[bytes | LayerFile]) -> bytes:
    return b"".join(part for part in parts if isinstance(part, bytes))


def _header(name: str, *, mode: int, size: int, kind: bytes) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.size, entry.type = mode, size, kind
    return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
