"""The model archive: everything that a frozen model is, in one ZIP that is byte-identical for the same inputs.

Members (names after the AMA case study, JSON text in the ``.yml`` ones, since JSON is YAML):

- ``inputs/git_commit.yml``, ``inputs/run_config.yml``, ``inputs/training.yml``: code, configuration, parameters, data
- ``model/``: ONNX program and safetensors weights
- ``outputs/graph_version.txt``, ``outputs/model.yml``, ``outputs/meta.yml``, ``outputs/summary.json``
- ``outputs/sketches.json``: how the real rows and the answers to them are distributed, where there are any
- ``golden/``: inputs and the checkpoint's answers
- ``rows/``: real rows of the evaluation, where there are any, and the checkpoint's answers; not part of an image
- ``MANIFEST.json``, last: path, size, sha256 and role of every member, of weights also the digest of the layer
  that has them alone in an image; ``model_digest`` over the ``model/`` members

Stored uncompressed, names sorted, times 1980-01-01, modes 0644, and the data of each member begins at a multiple of
4096 bytes: a member can be mapped or read where it is, and nothing has to be unpacked to run or serve the model. It is
written in one pass. No run id, time, host or version number is inside.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from modelway.artifacts.store import StoredFile
from modelway.artifacts.whole_files import blocks
from modelway.errors import DigestMismatch
from modelway.job.left_files import files_below, open_below
from modelway.job.zip_limits import zip_problem
from modelway.job.zip_places import member_offset

EPOCH = (1980, 1, 1, 0, 0, 0)
ROLES = {"inputs": "input", "outputs": "output", "model": "model", "golden": "golden", "rows": "rows"}
MANIFEST = "MANIFEST.json"
#: where the data of a member begins: at a multiple of a page and of a file system's block
ALIGNMENT = 4096
#: the field of a header that is skipped by every reader, as Android's zipalign uses it
_PADDING = 0xD935


#: an archive on this machine, or on an object store
Readable = Path | StoredFile
#: what is before and behind a member's bytes in the image layer that has it alone, by its path and size; None: no layer
LayerFrame = Callable[[str, int], tuple[bytes, bytes] | None]


@dataclass(frozen=True, kw_only=True)
class Member:
    """One file of the archive."""

    path: str
    size: int
    sha256: str
    role: str
    layer: str | None = None
    """``sha256:<hex>`` of its image layer, where freezing computed it; archives of earlier versions have none."""

    def to_dict(self) -> dict[str, Any]:
        """Return its entry in the manifest."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What MANIFEST.json says."""

    members: tuple[Member, ...]
    model_digest: str


def write_archive(
    *,
    folder: Path,
    documents: Mapping[str, Any],
    to: Path,
    below: str = ".",
    layer_frame: LayerFrame = lambda path, size: None,
) -> Manifest:
    """Write the archive of the files below ``folder`` and of ``documents`` (member name → JSON value) to ``to``.

    :param below: the folder in ``folder`` whose files they are; no link out of ``folder`` is followed
    :param layer_frame: the digest of what it surrounds is computed while the member is written, and is in the manifest
    :raises NotBelow: a link leads out of it, or something is not a plain file
    """
    texts = {name: _json(document) for name, document in documents.items()}
    files = {name: f"{below}/{name}" for name in files_below(folder, below)}
    members = []
    with to.open("xb") as target, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted({*files, *texts}):
            with io.BytesIO(texts[path]) if path in texts else open_below(folder, files[path]) as source:
                members.append(_add(archive, path, source, layer_frame))
        manifest = Manifest(members=tuple(members), model_digest=members_digest(members))
        document = {
            "format": 1,
            "model_digest": manifest.model_digest,
            "files": [member.to_dict() for member in members],
        }
        _add(archive, MANIFEST, io.BytesIO(_json(document)), lambda path, size: None)
    return manifest


def _json(document: Any) -> bytes:
    return (json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def _add(archive: zipfile.ZipFile, path: str, source: BinaryIO, layer_frame: LayerFrame) -> Member:
    """Copy a file into the archive and return its description."""
    size = source.seek(0, io.SEEK_END)
    source.seek(0)
    info = zipfile.ZipInfo(path, date_time=EPOCH)
    info.create_system = 3
    info.external_attr = 0o100644 << 16
    info.file_size, info.compress_size, info.CRC = size, size, 0
    # As zipfile decides it, which has no say here: the padding depends on it.
    large = size * 1.05 > zipfile.ZIP64_LIMIT
    assert archive.fp is not None
    begin = archive.fp.tell() + len(info.FileHeader(zip64=large)) + 4
    gap = -begin % ALIGNMENT
    info.extra = _PADDING.to_bytes(2, "little") + gap.to_bytes(2, "little") + bytes(gap)
    with archive.open(info, "w", force_zip64=large) as target:
        digest, layer = _copy(source, cast(BinaryIO, target), layer_frame(path, size))
    # The directory at the end needs no padding.
    info.extra = b""
    role = ROLES.get(PurePosixPath(path).parts[0], "doc")
    return Member(path=path, size=size, sha256=digest, role=role, layer=layer)


def _copy(source: BinaryIO, target: BinaryIO, frame: tuple[bytes, bytes] | None) -> tuple[str, str | None]:
    """Copy a file; return its digest and that of its layer, which are computed beside the writing."""
    own, (before, behind) = hashlib.sha256(), frame or (b"", b"")
    digests = [own, hashlib.sha256(before)] if frame else [own]
    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="hash") as pool:
        for block in blocks(source):
            hashed = [pool.submit(digest.update, block) for digest in digests]
            target.write(block)
            for each in hashed:
                each.result()
    if frame is None:
        return own.hexdigest(), None
    digests[1].update(behind)
    return own.hexdigest(), f"sha256:{digests[1].hexdigest()}"


def members_digest(members: Iterable[Member]) -> str:
    """Return the digest of the sorted ``<sha256>  <path>`` lines of the model's own files."""
    lines = sorted(f"{member.sha256}  {member.path}\n" for member in members if member.path.startswith("model/"))
    return "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()


def read_manifest(archive: Readable | BinaryIO) -> Manifest:
    """Return an archive's manifest; of a file on an object store, only what is needed is read.

    :raises DigestMismatch: the file is not a whole archive
    """
    try:
        with _opened(archive) as file, zipfile.ZipFile(file) as zipped:
            document = json.loads(zipped.read(MANIFEST))
        members = tuple(Member(**entry) for entry in document["files"])
        return Manifest(members=members, model_digest=document["model_digest"])
    except (zipfile.BadZipFile, OSError, KeyError, TypeError, ValueError) as error:
        raise DigestMismatch(
            f"not a whole model archive ({error})", where=_name(archive), do="Run the freeze stage again"
        ) from error


def manifest_member(archive: Readable) -> Member:
    """Return the description of an archive's manifest, which does not list itself.

    :raises DigestMismatch: the file is not a whole archive
    """
    try:
        with archive.open("rb") as file, zipfile.ZipFile(file) as zipped:
            data = zipped.read(MANIFEST)
    except (zipfile.BadZipFile, OSError, KeyError) as error:
        raise DigestMismatch(
            f"not a whole model archive ({error})", where=str(archive), do="Run the freeze stage again"
        ) from error
    return Member(path=MANIFEST, size=len(data), sha256=hashlib.sha256(data).hexdigest(), role="doc")


def member_offsets(archive: Readable) -> dict[str, int]:
    """Return where the data of each member begins in the file, by the members' names.

    :raises DigestMismatch: the file is not a whole archive, or a member is compressed
    """
    try:
        with archive.open("rb") as file, zipfile.ZipFile(file) as zipped:
            return {info.filename: member_offset(file, info) for info in zipped.infolist()}
    except (zipfile.BadZipFile, OSError) as error:
        raise DigestMismatch(
            f"not a whole model archive ({error})", where=str(archive), do="Run the freeze stage again"
        ) from error


def unpack_archive(*, archive: Path | BinaryIO, to: Path, only: tuple[str, ...] = ("",)) -> Manifest:
    """Unpack a model archive into the folder ``to``, checking every member's digest.

    :param only: what the names of the members that are unpacked begin with
    :raises DigestMismatch: a member is missing, damaged, or its name leaves the folder
    """
    manifest = read_manifest(archive)
    with zipfile.ZipFile(archive) as zipped:
        if problem := zip_problem(zipped):
            raise DigestMismatch(f"the archive is not unpacked: {problem}", where=_name(archive))
        for member in manifest.members:
            name = PurePosixPath(member.path)
            if name.is_absolute() or ".." in name.parts:
                raise DigestMismatch(f"the member '{member.path}' leaves the folder", where=_name(archive))
            if member.path.startswith(only):
                with _damage_translated(member.path, archive):
                    _unpack_member(zipped, member, to / name, where=_name(archive))
        to.mkdir(parents=True, exist_ok=True)
        (to / MANIFEST).write_bytes(zipped.read(MANIFEST))
    return manifest


def _unpack_member(zipped: zipfile.ZipFile, member: Member, target: Path, *, where: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with zipped.open(member.path) as source, target.open("wb") as file:
        for block in blocks(cast(BinaryIO, source)):
            digest.update(block)
            file.write(block)
    if digest.hexdigest() != member.sha256:
        raise DigestMismatch(f"the member '{member.path}' is not what MANIFEST.json says", where=where)


@contextmanager
def _opened(archive: Readable | BinaryIO) -> Iterator[BinaryIO]:
    if isinstance(archive, Readable):
        with archive.open("rb") as file:
            yield file
    else:
        yield archive


@contextmanager
def _damage_translated(path: str, archive: Path | BinaryIO) -> Iterator[None]:
    try:
        yield
    except (KeyError, zipfile.BadZipFile, EOFError) as error:
        raise DigestMismatch(f"the member '{path}' is damaged ({error})", where=_name(archive)) from error


def _name(archive: Readable | BinaryIO) -> str:
    return str(archive) if isinstance(archive, Readable) else str(getattr(archive, "path", archive))
