"""A content-addressed file store over fsspec: what is written once under its digest is never written again."""

import hashlib
import os
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from modelway.artifacts.whole_files import sync_folder
from modelway.errors import DigestMismatch, ModelwayError, NotWritable

BLOCK = 4 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """An immutable file: where it is, what it is (``sha256:<hex>``) and how many bytes."""

    uri: str
    digest: str
    size: int

    def to_dict(self) -> dict[str, Any]:
        """Return the artifact as plain data for XCom."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Artifact":
        """Read an artifact from plain data, ignoring other keys."""
        try:
            return cls(uri=data["uri"], digest=data["digest"], size=int(data["size"]))
        except (KeyError, TypeError) as error:
            raise ModelwayError(
                f"{data!r} is not an artifact", do="Give a mapping with uri, digest and size"
            ) from error


def file_digest(path: Path) -> str:
    """Return ``sha256:<hex>`` of a file's bytes."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


class ArtifactStore:
    """Files under ``<root>/<model>/sha256/<2 hex>/<62 hex>``; ``root`` is any fsspec URL."""

    def __init__(self, root: str) -> None:
        """Open the store at ``root`` (``file:///…``, ``gs://…``, ``s3://…``) without touching it."""
        self.root = root.rstrip("/")

    def put(self, path: Path, *, model: str) -> Artifact:
        """Store the file at ``path`` under its digest and return it; a file that is there already is not sent again.

        :raises NotWritable: the root cannot be written
        """
        digest = file_digest(path)
        size = path.stat().st_size
        uri = self.uri(digest, model=model)
        fs, place = _filesystem(uri)
        try:
            if not _holds(fs, place, size, digest):
                self._write(fs, place, path, digest)
        except OSError as error:
            raise NotWritable(
                f"the artifact store cannot be written ({error.__class__.__name__}: {error})",
                where=self.root,
                do="Make the folder writable for the Airflow worker, or set MODELWAY_ARTIFACT_ROOT to one that is",
            ) from error
        return Artifact(uri=uri, digest=digest, size=size)

    def find(self, digest: str, *, model: str, uri: str | None = None) -> Artifact | None:
        """Return a file that was stored under its digest, None when it is not there.

        :param uri: where it was stored, if that is known; the store may lie elsewhere by now
        """
        for place in filter(None, (uri, self.uri(digest, model=model))):
            fs, path = _filesystem(place)
            if fs.exists(path):
                return Artifact(uri=place, digest=digest, size=int(fs.size(path)))
        return None

    def uri(self, digest: str, *, model: str) -> str:
        """Return where a file with this digest lies, or would lie."""
        hexdigits = digest.removeprefix("sha256:")
        return f"{self.root}/{model}/sha256/{hexdigits[:2]}/{hexdigits[2:]}"

    def _write(self, fs: Any, place: str, path: Path, digest: str) -> None:
        """Write beside, sync, rename; the digest is taken again from the bytes that were sent."""
        folder, beside = place.rsplit("/", 1)[0], f"{place}.{uuid.uuid4().hex}.part"
        fs.makedirs(folder, exist_ok=True)
        try:
            with path.open("rb") as source, fs.open(beside, "wb") as target:
                copied = _copy(source, target)
                if _is_local(fs):
                    target.flush()
                    os.fsync(target.fileno())
            if copied != digest:
                raise DigestMismatch(f"the file changed while it was stored: {digest} became {copied}", where=str(path))
            fs.mv(beside, place)
            if _is_local(fs):
                sync_folder(Path(folder))
        finally:
            if fs.exists(beside):
                fs.rm(beside)

    def fetch(self, artifact: Artifact, *, to: Path) -> Path:
        """Copy the artifact to the file ``to``, checking its digest on the way; ``to`` appears whole or not at all.

        :raises DigestMismatch: the stored bytes are not the ones the digest names (truncated, changed) or are gone
        """
        fs, place = _filesystem(artifact.uri)
        to.parent.mkdir(parents=True, exist_ok=True)
        beside = to.with_name(f"{to.name}.{uuid.uuid4().hex}.part")
        try:
            with fs.open(place, "rb") as source, beside.open("wb") as target:
                found = _copy(source, target)
            if found != artifact.digest:
                size = beside.stat().st_size
                raise DigestMismatch(
                    f"the stored bytes are {found} ({size} bytes), not {artifact.digest} ({artifact.size} bytes)",
                    where=artifact.uri,
                    do="The file was truncated or changed after it was written; run the stage that made it again",
                )
            beside.replace(to)
        except FileNotFoundError as error:
            raise DigestMismatch(
                f"{artifact.digest} is gone", where=artifact.uri, do="Run the stage that made it again"
            ) from error
        finally:
            beside.unlink(missing_ok=True)
        return to


def _holds(fs: Any, place: str, size: int, digest: str) -> bool:
    """Whether the bytes are stored already; on this machine they are read again, so that a damaged file is mended."""
    if not fs.exists(place) or fs.size(place) != size:
        return False
    return not _is_local(fs) or file_digest(Path(place)) == digest


def _copy(source: BinaryIO, target: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := source.read(BLOCK):
        digest.update(block)
        target.write(block)
    return "sha256:" + digest.hexdigest()


def _filesystem(uri: str) -> tuple[Any, str]:
    import fsspec

    fs, place = fsspec.core.url_to_fs(uri)
    return fs, str(place)


def _is_local(fs: Any) -> bool:
    protocol = fs.protocol if isinstance(fs.protocol, (tuple, list)) else (fs.protocol,)
    return "file" in protocol
