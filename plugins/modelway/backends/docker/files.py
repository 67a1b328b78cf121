"""Files on their way to and from a container: tar archives, the engine's only form."""

import contextlib
import io
import json
import os
import posixpath
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from modelway.artifacts.code_package import unpack_code_package
from modelway.artifacts.store import ArtifactStore
from modelway.artifacts.whole_files import locked as locked_by
from modelway.backends.docker.containers import INPUTS, USER, DockerRequest
from modelway.backends.folders import generations
from modelway.backends.folders.runner import runner_files
from modelway.errors import JobFailed, NotWritable, SubmitFailed
from modelway.failures import FailureKind
from modelway.job.left_files import LARGEST_DOCUMENT, open_below

#: what is in the container's own files and only linked in the job's folder
_LINKED = ("code", "inputs", "runner")
#: what this side records in the copy of a job's folder: the job's own files of these names are not copied
_NOTED = frozenset({generations.RECORD, generations.CANCELLED, "copied.json", "merged.json", ".lock", ".merging"})
#: a file that shrinks while the engine packs it damages the archive
_PATIENCE = 3
#: of a job's folder, in its copy
MOST_FILES, MOST_BYTES = 100_000, 1 << 40


def pack_inputs(request: DockerRequest, *, scratch: Path) -> IO[bytes]:
    """Return a job's inputs as an archive for the container's root, as an open file that vanishes when closed.

    :raises DigestMismatch: the code or an input is damaged
    :raises NotWritable: the worker has no place for it
    """
    root = INPUTS.lstrip("/")
    store = ArtifactStore("")
    with _scratch(scratch) as folder:
        if request.job.code:
            package = store.fetch(request.job.code, to=folder / "package.zip")
            unpack_code_package(package=package, to=folder / "code")
        for name, artifact in request.job.inputs.items():
            store.fetch(artifact, to=folder / "inputs" / name)
        packed = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 - the caller sends and closes it
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for name in ("", *_LINKED):
                archive.addfile(_folder(f"{root}/{name}".rstrip("/")))
            _add_bytes(archive, f"{root}/job.json", generations.text(request.contract).encode())
            for name, file in runner_files(request.job).items():
                _add_bytes(archive, f"{root}/runner/{name}", file.read_bytes())
            for name in ("code", "inputs"):
                if (folder / name).is_dir():
                    archive.add(folder / name, arcname=f"{root}/{name}", filter=_owned)
        packed.seek(0)
        return packed


def pack_folder(name: str) -> bytes:
    """Return an archive with one folder that the job may write to."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.addfile(_folder(name))
    return packed.getvalue()


def pack_mark(*folders: str, name: str) -> bytes:
    """Return an archive with an empty file, below folders that may be there or not."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for depth in range(len(folders)):
            archive.addfile(_folder("/".join(folders[: depth + 1])))
        _add_bytes(archive, "/".join((*folders, name)), b"")
    return packed.getvalue()


@contextlib.contextmanager
def _scratch(place: Path) -> Iterator[Path]:
    with writable(place), tempfile.TemporaryDirectory(dir=place) as folder:
        yield Path(folder)


@contextlib.contextmanager
def writable(place: Path) -> Iterator[None]:
    """Make a folder of this machine.

    :raises NotWritable: it cannot be made
    """
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotWritable(
            f"the folder of the jobs cannot be written ({error.strerror})",
            where=str(place),
            do="Make it writable for the Airflow worker, or point MODELWAY_HOME to a folder that is",
        ) from error
    yield


@contextlib.contextmanager
def locked(place: Path) -> Iterator[None]:
    """Lock the local copy of a job's folder."""
    with writable(place), locked_by(place / ".lock"):
        yield


def _folder(name: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
    return _owned(entry)


def _add_bytes(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), 0o644
    archive.addfile(_owned(entry), io.BytesIO(data))


def _owned(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = USER
    entry.uname = entry.gname = ""
    return entry


def read_json(archive: Iterator[bytes] | None) -> dict[str, Any] | None:
    """Return the JSON object of an archive's only file; None where there is no file or no object in it."""
    if archive is None:
        return None
    try:
        found = json.loads(b"".join(_at_most(content(archive), LARGEST_DOCUMENT)))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _at_most(pieces: Iterator[bytes], most: int) -> Iterator[bytes]:
    for piece in pieces:
        most -= len(piece)
        if most < 0:
            raise ValueError("it is too large")
        yield piece


def content(archive: Iterator[bytes]) -> Iterator[bytes]:
    """Return the bytes of an archive's only file, in pieces; a truncated archive yields what it has."""
    with contextlib.suppress(tarfile.TarError, EOFError), tarfile.open(fileobj=_Stream(archive), mode="r|") as packed:
        for member in packed:
            # What a link leads to is not in the archive, or is another file.
            file = packed.extractfile(member) if member.isreg() else None
            while file and (data := file.read(1 << 20)):
                yield data


def copy_folder(get: Any, *, to: Path) -> None:
    """Make a local copy of a job's folder as it is now; what is gone there is removed here too.

    :param get: returns the folder's archive, anew at each call
    :raises SubmitFailed: the archive is damaged each time: the job changes its files too fast
    :raises JobFailed: it has more files, or more bytes, than are copied
    """
    for left in range(_PATIENCE, 0, -1):
        try:
            return _copy(get(), to)
        except (tarfile.TarError, EOFError) as error:
            if left == 1:
                raise SubmitFailed(
                    f"the job's folder could not be read from the Docker engine: {error}", kind=FailureKind.UNREACHABLE
                ) from None


def _copy(data: Iterator[bytes], to: Path) -> None:
    seen, files, size = set(), 0, 0
    root = to.resolve()
    with tarfile.open(fileobj=_Stream(data), mode="r|") as archive:
        for member in archive:
            name = _name_below(member.name)
            files, size = files + 1, size + (member.size if name and _wanted(name) else 0)
            if files > MOST_FILES or size > MOST_BYTES:
                raise _too_much(root)
            if name is None or not _wanted(name):
                continue
            if _unpack(archive, member, root / name, root=root):
                seen.add(name)
    for path in sorted((root / "output").rglob("*"), reverse=True):
        if path.relative_to(root).as_posix() not in seen or (path.is_symlink() and not _stays_below(path, root)):
            _remove(path)


def _too_much(root: Path) -> JobFailed:
    return JobFailed(
        f"the job left more than {MOST_FILES:,} files or {MOST_BYTES / 2**30:g} GiB in its folder: no more are copied "
        "from a Docker engine",
        where=str(root),
        do="Keep fewer checkpoints (job.keep_checkpoints), or remove what is not needed from output/",
    )


def _unpack(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path, *, root: Path) -> bool:
    """Write what a member holds; False for what would be, or would lead, outside of ``root``."""
    if not _is_own_place(target, root):
        return False
    if member.isdir():
        if target.is_symlink() or target.is_file():
            target.unlink()
        target.mkdir(parents=True, exist_ok=True)
        return True
    if member.issym():
        return _link(member.linkname, target, root)
    source = _content(archive, member, root)
    if source is None:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.fetched")
    beside.unlink(missing_ok=True)
    with source, beside.open("xb") as copy:
        shutil.copyfileobj(source, copy, 1 << 20)
    os.utime(beside, (member.mtime, member.mtime))
    _replace(beside, target)
    return True


def _is_own_place(target: Path, root: Path) -> bool:
    """Whether a file can be written there without leaving ``root``, whatever links are there already."""
    return target.parent.resolve() == target.parent and target.parent.is_relative_to(root)


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo, root: Path) -> IO[bytes] | None:
    """Return what a file holds; one with several names is in the archive once, and was unpacked by its first name."""
    if member.isreg():
        return archive.extractfile(member)
    name = _name_below(member.linkname) if member.islnk() else None
    with contextlib.suppress(OSError):
        return open_below(root, name) if name else None
    return None


def _link(linkname: str, target: Path, root: Path) -> bool:
    """Make a link that stays below, by all the links that it leads through; none stands for a folder of the job's."""
    if target.parent == root or posixpath.isabs(linkname):
        return False
    if not _stays_below(target.parent / linkname, root):
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.fetched")
    beside.unlink(missing_ok=True)
    beside.symlink_to(linkname)
    _replace(beside, target)
    return True


def _stays_below(path: Path, root: Path) -> bool:
    """Whether a path ends below ``root``; links may be unpacked later, so that it is checked again."""
    try:
        return path.resolve().is_relative_to(root)
    except (OSError, RuntimeError):
        return False


def _replace(beside: Path, target: Path) -> None:
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    beside.replace(target)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _name_below(name: str) -> str | None:
    """Return a member's name below the job's folder; None for the folder itself and for what would leave it."""
    parts = posixpath.normpath(name).split("/")[1:]
    return "/".join(parts) if parts and ".." not in parts else None


def _wanted(name: str) -> bool:
    first, _, rest = name.partition("/")
    if first in _LINKED or name.endswith(".fetched") or name.rpartition("/")[2] in _NOTED and first != "output":
        return False
    # The log is read from the engine, which has also what came before the agent's.
    return not (first.startswith("try-") and (rest.startswith("log-") or rest.split("/")[0] == "pods"))


class _Stream(io.RawIOBase):
    """An iterator of bytes as a file to read."""

    def __init__(self, data: Iterator[bytes]) -> None:
        self._data, self._buffer = data, b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        pieces, have = [self._buffer], len(self._buffer)
        while size < 0 or have < size:
            piece = next(self._data, None)
            if piece is None:
                break
            pieces.append(piece)
            have += len(piece)
        whole = b"".join(pieces)
        size = have if size < 0 else size
        self._buffer = whole[size:]
        return whole[:size]
