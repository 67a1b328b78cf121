"""Unpacks an image's layers into a folder: checked while they are read, and never outside that folder."""

import gzip
import os
import shutil
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NoReturn, Protocol, Self, cast

from modelway.artifacts.whole_files import BLOCK
from modelway.errors import ImageInvalid
from modelway.oci.contents import entries
from modelway.oci.layer_reading import Hashing, read_archive, unzipped
from modelway.oci.layout import OciLayout
from modelway.oci.manifest import (
    DOCKER_LAYER_GZIP,
    DOCKER_LAYER_TAR,
    LAYER_GZIP,
    LAYER_TAR,
    Descriptor,
    Image,
    ImageSource,
)

#: before the name of what a layer removes, and the name that empties its folder
WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"
_TOO_MUCH = "Do not use this image, or make it of less: larger layers, fewer files"
#: kinds of a member of which tarfile reads the content at once
_IN_MEMORY = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)
_HOSTILE = "Do not use this image: a well-made layer holds plain relative paths, folders, files and links only"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much an image may unpack to."""

    bytes: int = 500 << 30
    """of all layers together, unpacked"""
    files: int = 1_000_000
    """members of all layers together"""
    ratio: int = 100
    """unpacked bytes of a compressed layer for each of its own, above ``small``"""
    small: int = 1 << 30
    """bytes that each compressed layer may unpack to, whatever its size"""
    header: int = 1 << 20
    """bytes of a member's long name or other attributes, which are read into memory"""


@dataclass(frozen=True, kw_only=True)
class FileInLayer:
    """A file that was not copied out of its layer; an empty one is in its place."""

    path: Path
    blob: Path
    """The layer in its layout folder, an uncompressed archive."""
    blob_digest: str
    offset: int
    """Where the file's bytes begin in it."""
    size: int


class InPlace(Protocol):
    """Decides which files are read where they are in a local layout's layers."""

    def wants(self, path: PurePosixPath, size: int) -> bool:
        """Return whether a file of an image stays in its layer."""

    def settle(self, files: Sequence[FileInLayer]) -> None:
        """Put something in the place of each of them."""


def unpack_layers(
    *,
    source: ImageSource,
    image: Image,
    root: Path,
    limits: Limits | None = None,
    in_place: InPlace | None = None,
    below: str = "/",
) -> None:
    """Unpack the layers of ``image`` in order into the empty folder ``root`` and sync it to the disk.

    :param in_place: which files of a layout folder's uncompressed layers are not copied
    :param below: the folder of the image that is unpacked; all else is only compared with its digests
    :raises ImageInvalid: a layer is missing, damaged, of an unknown kind, unpacks to more than the limits, or would
        reach out of ``root``
    """
    budget = _Budget(limits or Limits(), where=source.where)
    root = Path(os.path.realpath(root))
    left: list[FileInLayer] = []
    wanted = PurePosixPath(below.strip("/"))
    for descriptor, diff_id in zip(image.layers, image.diff_ids, strict=True):
        leave = _leave(source, descriptor, in_place, left)
        with source.open_blob(descriptor) as file:
            _unpack_layer(file, descriptor, diff_id, root=root, budget=budget, leave=leave, below=wanted)
    if in_place:
        # Those that no later layer has replaced or removed.
        in_place.settle([each for each in left if _is_empty_file(each.path)])
    for path in entries(root):
        if path.is_symlink() and not _inside(path, root):
            raise ImageInvalid(
                f"the link {path.relative_to(root)} leads out of the image", where=source.where, do=_HOSTILE
            )
    _sync(root)


class _Leave:
    """Leaves files in one layer, each with an empty file in its place."""

    def __init__(self, blob: Path, digest: str, in_place: InPlace, left: list[FileInLayer]) -> None:
        self._blob, self._digest, self._in_place, self._left = blob, digest, in_place, left

    def leaves(self, member: tarfile.TarInfo, path: Path) -> bool:
        """Whether a member is left in the layer; then an empty file is at ``path``."""
        if not (member.isreg() and self._in_place.wants(PurePosixPath(member.name), member.size)):
            return False
        _remove(path)
        path.touch()
        found = FileInLayer(
            path=path, blob=self._blob, blob_digest=self._digest, offset=member.offset_data, size=member.size
        )
        self._left.append(found)
        return True


def _leave(
    source: ImageSource, descriptor: Descriptor, in_place: InPlace | None, left: list[FileInLayer]
) -> _Leave | None:
    if in_place is None or not isinstance(source, OciLayout):
        return None
    if descriptor.media_type not in (LAYER_TAR, DOCKER_LAYER_TAR):
        return None
    return _Leave(source.blob_path(descriptor.digest), descriptor.digest, in_place, left)


def _is_empty_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and path.stat().st_size == 0


class _Budget:
    """What an image may still unpack to."""

    def __init__(self, limits: Limits, *, where: str) -> None:
        self.limits, self.where = limits, where
        self._bytes, self._files = limits.bytes, limits.files

    def refuse(self, what: str) -> NoReturn:
        raise ImageInvalid(what, where=self.where, do=_TOO_MUCH)

    def count_bytes(self, number: int) -> None:
        self._bytes -= number
        if self._bytes < 0:
            self.refuse(f"the image unpacks to more than {self.limits.bytes:,} bytes")

    def count_file(self) -> None:
        self._files -= 1
        if self._files < 0:
            self.refuse(f"the image has more than {self.limits.files:,} files")


class _Unpacked(Hashing):
    """The stream of a layer's archive, of which a limited number of bytes is read."""

    def __init__(self, file: BinaryIO | gzip.GzipFile, *, descriptor: Descriptor, budget: _Budget) -> None:
        super().__init__(file)
        self._most = max(budget.limits.small, budget.limits.ratio * descriptor.size)
        self._digest, self._budget = descriptor.digest, budget

    def read(self, size: int = -1) -> bytes:
        data = super().read(size)
        if self.size > self._most:
            self._budget.refuse(f"layer {self._digest} unpacks to more than {self._most:,} bytes")
        self._budget.count_bytes(len(data))
        return data


def _unpack_layer(
    file: BinaryIO,
    descriptor: Descriptor,
    diff_id: str,
    *,
    root: Path,
    budget: _Budget,
    leave: _Leave | None,
    below: PurePosixPath,
) -> None:
    where = budget.where
    packed = Hashing(file)
    if descriptor.media_type in (LAYER_TAR, DOCKER_LAYER_TAR):
        plain: Hashing = packed
        budget.count_bytes(descriptor.size)
    elif descriptor.media_type in (LAYER_GZIP, DOCKER_LAYER_GZIP):
        plain = _Unpacked(unzipped(packed), descriptor=descriptor, budget=budget)
    else:
        raise ImageInvalid(
            f"layer {descriptor.digest} is a {descriptor.media_type}",
            where=where,
            known=(LAYER_TAR, LAYER_GZIP),
            do="Push the image with uncompressed or gzip layers",
        )
    members = _members_of(budget)

    def unpack(archive: BinaryIO) -> None:
        with tarfile.open(fileobj=archive, mode="r|", bufsize=1 << 20, tarinfo=members) as tar:
            layer = f"{where}, layer {descriptor.digest}"
            _unpack_members(tar, root=root, where=layer, budget=budget, leave=leave, below=below)

    read_archive(unpack, packed=packed, plain=plain, descriptor=descriptor, diff_id=diff_id, where=where)


def _members_of(budget: _Budget) -> type[tarfile.TarInfo]:
    """Return the kind of a tar archive's members whose long names and attributes fit into memory."""

    class Member(tarfile.TarInfo):
        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
            member = super().frombuf(buf, encoding, errors)
            if member.type in _IN_MEMORY and member.size > budget.limits.header:
                budget.refuse(f"the attributes of a member have {member.size:,} bytes")
            return member

    return Member


def _unpack_members(
    tar: tarfile.TarFile, *, root: Path, where: str, budget: _Budget, leave: _Leave | None, below: PurePosixPath
) -> None:
    fresh: set[Path] = set()
    written: set[str] = set()
    for member in tar:
        budget.count_file()
        # Without it, the archive remembers every member that it has read.
        tar.members.clear()  # type: ignore[attr-defined]
        _check_file(member, written, where=where)
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts or "\0" in member.name:
            raise ImageInvalid(f"a layer names the path {member.name!r}", where=where, do=_HOSTILE)
        if not _concerns(path, below):
            continue
        folder = _folder(root, path.parent, where=where)
        if path.name == OPAQUE:
            for hidden in set(folder.iterdir()) - fresh:
                _remove(hidden)
        elif path.name.startswith(WHITEOUT):
            hidden_name = path.name.removeprefix(WHITEOUT)
            if hidden_name in ("", ".", ".."):
                raise ImageInvalid(f"a layer removes {member.name!r}", where=where, do=_HOSTILE)
            _remove(folder / hidden_name)
        else:
            if leave is None or not leave.leaves(member, folder / path.name):
                _place(tar, member, folder / path.name, root=root, where=where)
            fresh.update((folder / path.name, *folder.parents, folder))


def _concerns(path: PurePosixPath, below: PurePosixPath) -> bool:
    """Whether a member writes or removes something in the folder ``below``, or a folder that it is in."""
    changed = path
    if path.name == OPAQUE:
        changed = path.parent
    elif path.name.startswith(WHITEOUT):
        # Names that a whiteout cannot have are refused by the caller.
        changed = path.parent / path.name.removeprefix(WHITEOUT)
    return bool(path.parts) and (changed.is_relative_to(below) or below.is_relative_to(changed))


def _check_file(member: tarfile.TarInfo, written: set[str], *, where: str) -> None:
    if member.issparse():
        raise ImageInvalid(f"a layer holds {member.name!r}, a file with holes", where=where, do=_HOSTILE)
    if member.isreg():
        if member.name in written:
            raise ImageInvalid(f"a layer holds the file {member.name!r} twice", where=where, do=_HOSTILE)
        written.add(member.name)


def _place(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path, *, root: Path, where: str) -> None:
    """Write one member at ``path``, whose folder is known to be within ``root``."""
    if member.isdir():
        if path.is_symlink() or not path.is_dir():
            _remove(path)
            path.mkdir()
        # The owner must be able to fill and to remove the folder, whatever the image says.
        path.chmod(member.mode & 0o777 | 0o700)
        return
    if not (member.isreg() or member.issym() or member.islnk()):
        raise ImageInvalid(f"a layer holds {member.name!r}, a device or pipe", where=where, do=_HOSTILE)
    if member.islnk():
        _hard_link(member, path, root=root, where=where)
        return
    _remove(path)
    if member.issym():
        # Absolute targets mean the image's own root, as they do inside a container.
        absolute = member.linkname.startswith("/")
        target = os.path.relpath(f"{root}{member.linkname}", path.parent) if absolute else member.linkname
        path.symlink_to(target)
        if not _inside(path, root):
            raise ImageInvalid(
                f"the link {member.name!r} to {member.linkname!r} leads out of the image", where=where, do=_HOSTILE
            )
        return
    content = cast(BinaryIO, tar.extractfile(member))
    with path.open("xb") as file:
        shutil.copyfileobj(content, file, BLOCK)
    path.chmod(member.mode & 0o777 | 0o400)


def _hard_link(member: tarfile.TarInfo, path: Path, *, root: Path, where: str) -> None:
    target = PurePosixPath(member.linkname)
    if target.is_absolute() or ".." in target.parts or not target.parts:
        raise ImageInvalid(f"a layer links {member.name!r} to {member.linkname!r}", where=where, do=_HOSTILE)
    linked = _folder(root, target.parent, where=where) / target.name
    if linked.is_symlink() or not linked.is_file():
        raise ImageInvalid(f"a layer links {member.name!r} to {member.linkname!r}, no file before it", where=where)
    if linked != path:
        _remove(path)
        path.hardlink_to(linked)


def _folder(root: Path, relative: PurePosixPath, *, where: str) -> Path:
    """Return the real folder ``relative`` within ``root``, made if it is not there; links are followed only inside."""
    real = Path(os.path.realpath(root / relative))
    if real != root and root not in real.parents:
        raise ImageInvalid(
            f"a layer writes {str(relative)!r} through a link out of the image", where=where, do=_HOSTILE
        )
    try:
        real.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ImageInvalid(f"a layer writes below {str(relative)!r}, which is a file", where=where) from error
    return real


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _inside(path: Path, root: Path) -> bool:
    real = Path(os.path.realpath(path))
    return real == root or root in real.parents


def _sync(root: Path) -> None:
    for path in (*entries(root), root):
        if not path.is_symlink():
            handle = os.open(path, os.O_RDONLY)
            os.fsync(handle)
            os.close(handle)
