"""A content-addressed file store over fsspec: what is written once under its digest is never written again."""

import contextlib
import os
import re
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, Literal

from modelway.artifacts.copying import copy, copy_to_end, new_part, reused_part
from modelway.artifacts.sharing import is_shared, share
from modelway.artifacts.whole_files import sync_folder
from modelway.errors import CapabilityMissing, DigestMismatch, ModelwayError, NotWritable
from modelway.job.durable import syncing
from modelway.job.file_marks import digest_of, known_digest, mark_digest, marked_digest

#: suffix of an object whose bytes did not match its digest
QUARANTINE = ".quarantine"
#: a stored file older than this gets a new time when it is put again: garbage collection spares new files
SETTLED = timedelta(days=1)
#: bytes of a stored file that one request reads
_READ_AHEAD = 4 << 20
#: what object stores and file systems call the time of an object's last change
_TIMES = ("mtime", "LastModified", "last_modified", "updated", "created")
_NAMED = re.compile(r"(?P<folder>[^/]+)/sha256/(?P<start>[0-9a-f]{2})/(?P<rest>[0-9a-f]{62})(?P<ending>\.[.\w]+)?")


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


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """The bytes of an artifact that are read where they are, as a ``Path`` is: on an object store, without a copy."""

    artifact: Artifact

    def __str__(self) -> str:
        return self.artifact.uri

    def open(self, mode: Literal["rb"] = "rb", buffering: int = -1) -> Any:
        """Open it to read parts of it, which the reader checks.

        :raises DigestMismatch: it is gone
        """
        fs, place = _filesystem(self.artifact.uri)
        try:
            opened = fs.open(place, mode, block_size=_READ_AHEAD)
        except FileNotFoundError as error:
            raise _gone(self.artifact) from error
        return opened


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    """An object in the store; ``whole`` is false for what a killed writer or a quarantine left."""

    uri: str
    folder: str
    """Its owner: a model's name, or a separate place such as ``_assets``."""
    digest: str
    size: int
    modified: datetime
    whole: bool


def file_digest(path: Path) -> str:
    """Return ``sha256:<hex>`` of a file's bytes, which are read."""
    with path.open("rb") as file:
        return digest_of(file)


class ArtifactStore:
    """Files under ``<root>/<model>/sha256/<2 hex>/<62 hex>``; ``root`` is any fsspec URL."""

    def __init__(self, root: str) -> None:
        """Open the store at ``root`` (``file:///…``, ``gs://…``, ``s3://…``) without touching it."""
        self.root = root.rstrip("/")

    def put(
        self,
        path: Path,
        *,
        model: str,
        digest: str | None = None,
        opened: Callable[[], BinaryIO] | None = None,
        shared: bool = False,
    ) -> Artifact:
        """Store the file at ``path`` under its digest and return it; a file that is there already is not sent again.

        :param digest: the file's digest, where it is already known
        :param opened: opens the file, where its path may lead elsewhere; default: the path is opened
        :param shared: nobody will write to the file any more: on the store's file system it is not copied but becomes
            the stored file, and read-only
        :raises NotWritable: the root cannot be written
        :raises DigestMismatch: the file changed meanwhile
        """
        opened = opened or (lambda: path.open("rb"))
        with opened() as file, syncing(file) if shared else contextlib.nullcontext():
            size = os.fstat(file.fileno()).st_size
            digest = digest or known_digest(file)
        uri = self.uri(digest, model=model)
        fs, place = _filesystem(uri)
        try:
            if not (_holds(fs, place, size, digest) and _renewed(fs, place)):
                self._write(fs, place, path, digest, opened, shared=shared)
        except OSError as error:
            raise NotWritable(
                f"the artifact store cannot be written ({error.__class__.__name__}: {error})",
                where=self.root,
                do="Make the folder writable for the Airflow worker, or set MODELWAY_ARTIFACT_ROOT to one that is",
            ) from error
        return Artifact(uri=uri, digest=digest, size=size)

    def find(self, digest: str, *, model: str, uri: str | None = None) -> Artifact | None:
        """Return a file that was stored under its digest, None when it is not there.

        :param uri: where it was stored, if that is known; the store may have moved since
        """
        for place in filter(None, (uri, self.uri(digest, model=model))):
            fs, path = _filesystem(place)
            if fs.exists(path):
                return Artifact(uri=place, digest=digest, size=int(fs.size(path)))
        return None

    def holds(self, artifact: Artifact) -> bool:
        """Whether an artifact's bytes are there to be reused; garbage collection then counts them as new.

        :raises NotWritable: the store does not answer or accepts no writes
        """
        fs, place = _filesystem(artifact.uri)
        try:
            return _holds(fs, place, artifact.size, artifact.digest) and _renewed(fs, place)
        except OSError as error:
            raise NotWritable(
                f"the artifact store does not answer ({error.__class__.__name__}: {error})", where=artifact.uri
            ) from error

    def objects(self) -> Iterator[StoredObject]:
        """Yield the objects in the store, in no order; files with other names than this store's are skipped."""
        fs, top = _filesystem(self.root)
        fs.invalidate_cache()
        if not fs.exists(top):
            return
        for folder, _, files in fs.walk(top, detail=True):
            for name, about in files.items():
                inside = f"{folder}/{name}".removeprefix(top).strip("/")
                if (named := _NAMED.fullmatch(inside)) and (modified := _modified(about)):
                    yield StoredObject(
                        uri=f"{self.root}/{inside}",
                        folder=named["folder"],
                        digest=f"sha256:{named['start']}{named['rest']}",
                        size=int(about.get("size") or 0),
                        modified=modified,
                        whole=named["ending"] is None,
                    )

    def remove(self, uri: str, *, before: datetime, unless_shared: bool = False) -> bool:
        """Remove an object unless it was put again since ``before``, and return whether it is gone.

        :param unless_shared: leave a file that has another name on this machine, such as among a job's inputs
        """
        fs, place = _filesystem(uri)
        try:
            if unless_shared and _is_local(fs) and is_shared(Path(place)):
                return False
            fs.invalidate_cache()
            modified = _modified(fs.info(place))
            if modified is None or modified >= before:
                return False
            fs.rm_file(place)
        except FileNotFoundError:
            pass
        return True

    def uri(self, digest: str, *, model: str) -> str:
        """Return the URI of a file with this digest, whether or not it is stored."""
        hexdigits = digest.removeprefix("sha256:")
        return f"{self.root}/{model}/sha256/{hexdigits[:2]}/{hexdigits[2:]}"

    def _write(
        self, fs: Any, place: str, path: Path, digest: str, opened: Callable[[], BinaryIO], *, shared: bool
    ) -> None:
        """Write beside, sync, rename; the digest is computed again from the bytes that are stored."""
        folder = place.rsplit("/", 1)[0]
        fs.makedirs(folder, exist_ok=True)
        if _is_local(fs):
            if not (shared and _shared(opened, digest=digest, to=Path(place), stored=True)):
                _write_file(Path(place), path, digest, opened)
            return
        beside = f"{place}.{uuid.uuid4().hex}.part"
        try:
            with opened() as source, fs.open(beside, "wb") as target:
                copied = copy(source, target)
            if copied != digest:
                raise _changed(path, digest, copied)
            fs.mv(beside, place)
        finally:
            if fs.exists(beside):
                fs.rm(beside)

    def local_file(self, artifact: Artifact) -> Path | None:
        """Return the stored file itself where it is on this machine and is what its digest names, else None.

        It must not be written to.
        """
        fs, place = _filesystem(artifact.uri)
        return Path(place) if _is_local(fs) and _holds(fs, place, artifact.size, artifact.digest) else None

    def open(self, artifact: Artifact) -> BinaryIO:
        """Open the stored bytes to read parts of them, which the caller checks.

        :raises DigestMismatch: they are gone
        """
        opened: BinaryIO = StoredFile(artifact=artifact).open()
        return opened

    def readable_file(self, artifact: Artifact) -> Path | StoredFile:
        """Return the stored file to read parts of it: by its path where it is on this machine.

        :raises DigestMismatch: a file on this machine is not what its digest names, or is gone
        """
        fs, place = _filesystem(artifact.uri)
        if not _is_local(fs):
            return StoredFile(artifact=artifact)
        if self.local_file(artifact) is None:
            # Reading all of it says what is wrong.
            with tempfile.TemporaryDirectory() as folder:
                self.fetch(artifact, to=Path(folder) / "read")
        return Path(place)

    def fetch(self, artifact: Artifact, *, to: Path, parts: Path | None = None, shared: bool = False) -> Path:
        """Copy the artifact to the file ``to``, checking its digest on the way; ``to`` appears whole or not at all.

        Stored bytes that twice do not match the digest are moved aside, so that a good copy can be stored again.

        :param shared: nobody can write to ``to``: on the store's file system it is not copied but the stored file
        :param parts: a folder of the same file system that retains what was received of an interrupted copy, and from
            which a later call continues; default: none is retained
        :raises DigestMismatch: the stored bytes are not the ones the digest names (truncated, changed) or are gone
        """
        fs, place = _filesystem(artifact.uri)
        for folder in filter(None, (to.parent, parts)):
            folder.mkdir(parents=True, exist_ok=True)
        # A file that is not what its digest names is not shared: the copy below finds out, and moves it aside.
        own = Path(place) if shared and _is_local(fs) and fs.exists(place) else None
        if own and _shared(lambda: own.open("rb"), digest=artifact.digest, to=to):
            return to
        opened = reused_part(parts / artifact.digest.removeprefix("sha256:")) if parts else new_part(to)
        with opened as (beside, target):
            try:
                # A second attempt: a broken connection says nothing about what is stored.
                found = copy_to_end(lambda: fs.open(place, "rb"), target, digest=artifact.digest, attempts=2)
            except FileNotFoundError as error:
                beside.unlink(missing_ok=True)
                raise _gone(artifact) from error
            if found == artifact.digest:
                target.flush()
                beside.replace(to)
                return to
            size = target.tell()
            beside.unlink(missing_ok=True)
        raise DigestMismatch(
            f"the stored bytes are {found} ({size} bytes), not {artifact.digest} ({artifact.size} bytes)",
            where=artifact.uri,
            do="The file was truncated or changed after it was written; run the stage that made it again"
            + _quarantined(fs, place, artifact.digest),
        )


def _shared(opened: Callable[[], BinaryIO], *, digest: str, to: Path, stored: bool = False) -> bool:
    """Let a file have the name ``to`` as well, if it still is what its digest names; False where it cannot be.

    :param stored: ``to`` is in the store, where a file is as old as it is stored, not as it is written
    """
    with opened() as file:
        if known_digest(file) != digest:
            return False
        if stored:
            with contextlib.suppress(OSError):
                _touch(file)
        return share(file, digest=digest, to=to)


def _write_file(place: Path, path: Path, digest: str, opened: Callable[[], BinaryIO]) -> None:
    """Write a local file; its name is its content's digest, so that any writer can continue what another left."""
    with reused_part(place.with_name(f"{place.name}.part")) as (beside, target):
        copied = copy_to_end(opened, target, digest=digest, attempts=1)
        if copied != digest:
            beside.unlink()
            raise _changed(path, digest, copied)
        target.flush()
        os.fsync(target.fileno())
        mark_digest(target, digest)
        beside.replace(place)
    sync_folder(place.parent)


def _changed(path: Path, digest: str, copied: str) -> DigestMismatch:
    return DigestMismatch(
        f"the file changed while it was stored: {digest} became {copied}",
        where=str(path),
        do="Store it again when nothing writes to it",
    )


def _gone(artifact: Artifact) -> DigestMismatch:
    return DigestMismatch(
        f"{artifact.digest} is gone",
        where=artifact.uri,
        do="Run the stage that made it again; if modelway gc removed it, modelway show says who and when",
    )


def _quarantined(fs: Any, place: str, digest: str) -> str:
    """Move a bad object beside its place and say so; only what this store named by that digest is moved."""
    named = _NAMED.search("/".join(place.split("/")[-4:]))
    if not named or named["ending"] or f"sha256:{named['start']}{named['rest']}" != digest:
        return ""
    try:
        fs.mv(place, place + QUARANTINE)
    except OSError as error:
        return f". It could not be moved aside ({error.__class__.__name__}: {error})"
    return f", or put a good copy there again. The bad one is beside it now, as {place.rsplit('/', 1)[1]}{QUARANTINE}"


def _renewed(fs: Any, place: str) -> bool:
    """Set a stored file's time to now and return whether that was possible; one of today is left as it is."""
    try:
        modified = _modified(fs.info(place))
        if modified is None or datetime.now(UTC) - modified < SETTLED:
            return True
        if _is_local(fs):
            with Path(place).open("rb") as file:
                _touch(file)
        else:
            beside = f"{place}.{uuid.uuid4().hex}.part"
            fs.cp_file(place, beside)
            fs.mv(beside, place)
        return True
    except (OSError, NotImplementedError):
        # Another user's file, or one that was just removed: it is written again.
        return False


def _touch(file: BinaryIO) -> None:
    """Set an open file's time to now; its recorded digest stays valid."""
    digest = marked_digest(file)
    os.utime(file.fileno())
    if digest:
        mark_digest(file, digest)


def _modified(about: Mapping[str, Any]) -> datetime | None:
    """Return when an object was last written as its store reports it, None where it does not."""
    value = next((about[name] for name in _TIMES if about.get(name) is not None), None)
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC)
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


def _holds(fs: Any, place: str, size: int, digest: str) -> bool:
    """Whether the bytes are stored already; a file of this machine that was changed since is read again."""
    if not fs.exists(place) or fs.size(place) != size:
        return False
    if not _is_local(fs):
        return True
    with Path(place).open("rb") as file:
        return known_digest(file) == digest


def _filesystem(uri: str) -> tuple[Any, str]:
    import fsspec

    try:
        fs, place = fsspec.core.url_to_fs(uri)
    except ImportError as error:
        extra = "modelway[google]" if uri.startswith(("gs://", "gcs://")) else "what the message names"
        raise CapabilityMissing(
            f"the package that reads this store is not installed ({error})",
            where=uri,
            do=f"Install {extra} wherever Airflow's workers and triggerers run",
        ) from error
    return fs, str(place)


def _is_local(fs: Any) -> bool:
    protocol = fs.protocol if isinstance(fs.protocol, (tuple, list)) else (fs.protocol,)
    return "file" in protocol
