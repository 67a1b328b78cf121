"""An OCI image layout folder: ``oci-layout``, ``index.json`` and blobs named by their SHA-256."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from modelway.artifacts.whole_files import (
    blocks,
    locked,
    partial_file,
    publish,
    replace_file,
    sweep_partial_files,
    writing,
)
from modelway.errors import DigestMismatch, ImageInvalid
from modelway.job.file_marks import known_digest, mark_digest
from modelway.oci.blobs import Blob, Piece
from modelway.oci.manifest import (
    INDEX,
    LARGEST_DOCUMENT,
    Descriptor,
    LayoutReference,
    canonical_json,
    check_document,
    is_digest,
    read_document,
)

#: the annotation that names an image within a layout, such as ``digits:v3``
REF_NAME = "org.opencontainers.image.ref.name"
_REBUILD = "Build the image again (clear the build_image task), or copy the layout folder again"


class OciLayout:
    """An image layout folder (OCI image specification 1.1, image-layout.md).

    Blobs are written to ``.ingest/`` and renamed into place once they are whole and on the disk. Several processes
    may write to one layout: each partial blob and the index are guarded by file locks.
    """

    def __init__(self, root: Path) -> None:
        """Name the layout at ``root``; the folder is made by the first write."""
        self.root = root.absolute()

    @property
    def where(self) -> str:
        """The layout as it is named in errors and references."""
        return f"oci-layout:{self.root}"

    def reference(self, digest: str) -> str:
        """Return the reference string of the image ``digest`` in this layout."""
        return str(LayoutReference(root=self.root, digest=digest))

    def blob_path(self, digest: str) -> Path:
        """Return where the blob ``digest`` is, whether or not it is there."""
        if not is_digest(digest):
            raise ImageInvalid(f"{digest!r} is not a SHA-256 digest", where=self.where)
        return self.root / "blobs" / "sha256" / digest.removeprefix("sha256:")

    def holds(self, *, digest: str, size: int) -> bool:
        """Return whether the blob is there, whole and undamaged; one that was changed is read."""
        try:
            with self.blob_path(digest).open("rb") as file:
                if os.fstat(file.fileno()).st_size != size:
                    return False
                return known_digest(file) == digest
        except OSError:
            return False

    def write_blob(
        self, content: bytes | Path | Iterable[Piece], *, media_type: str, expected: str | None = None
    ) -> Descriptor:
        """Write a blob in one pass and return its descriptor; an undamaged blob that is there already is kept.

        :param content: the bytes, a file to copy, or pieces of any length
        :param expected: the digest that the bytes should have
        :raises DigestMismatch: the bytes are not the expected ones
        :raises NotWritable: the folder cannot be written
        """
        self.create()
        with writing(self.root), partial_file(self.root / ".ingest") as (beside, file):
            hasher, size = hashlib.sha256(), 0
            for piece in _pieces(content):
                hasher.update(piece)
                size += len(piece)
                file.write(piece)
            digest = "sha256:" + hasher.hexdigest()
            if expected not in (None, digest):
                raise DigestMismatch(f"a blob should be {expected} and is {digest}", where=self.where)
            if not self.holds(digest=digest, size=size):
                publish(beside=beside, file=file, final=self.blob_path(digest))
                mark_digest(file, digest)
        return Descriptor(media_type=media_type, digest=digest, size=size)

    def read_blob(self, descriptor: Descriptor) -> bytes:
        """Return the bytes of a blob of at most 4 MiB, checked against its digest.

        :raises ImageInvalid: it is missing, damaged or larger
        """
        return self.read_manifest(descriptor.digest)

    def read_manifest(self, digest: str) -> bytes:
        """Return the bytes of a manifest, index or config of at most 4 MiB, checked against its digest.

        :raises ImageInvalid: it is missing, damaged or larger
        """
        with self._open(digest) as file:
            data = file.read(LARGEST_DOCUMENT + 1)
        if len(data) > LARGEST_DOCUMENT:
            raise ImageInvalid(f"{digest} is larger than 4 MiB, too large for a manifest or config", where=self.where)
        return check_document(data, digest, where=str(self.blob_path(digest)), do=_REBUILD)

    def manifest(self, digest: str) -> dict[str, Any]:
        """Return the manifest (or index) ``digest``, checked and parsed.

        :raises ImageInvalid: it is missing, damaged or not JSON
        """
        return read_document(self.read_manifest(digest), where=f"{self.where}@{digest}")

    @contextmanager
    def open_blob(self, descriptor: Descriptor) -> Iterator[BinaryIO]:
        """Open a blob for reading; the reader checks the digest.

        :raises ImageInvalid: it is missing or has another size
        """
        with self._open(descriptor.digest) as file:
            size = os.fstat(file.fileno()).st_size
            if size != descriptor.size:
                raise ImageInvalid(
                    f"blob {descriptor.digest} has {size} bytes instead of {descriptor.size}: it is damaged",
                    where=self.where,
                    do=_REBUILD,
                )
            yield file

    def add_manifest(self, descriptor: Descriptor, *, tag: str | None = None) -> None:
        """List a manifest that was written with ``write_blob`` in ``index.json``, under ``tag`` if there is one.

        :param tag: a name such as ``digits:v3``
        :raises ImageInvalid: the tag names another image already
        :raises NotWritable: the folder cannot be written
        """
        self.create()
        with writing(self.root), locked(self.root / ".lock"):
            entries = list(self._entries())
            current = next((entry.digest for entry in entries if tag and entry.annotations.get(REF_NAME) == tag), None)
            if current not in (None, descriptor.digest):
                raise ImageInvalid(
                    f"the tag '{tag}' names {current} already and is not moved to {descriptor.digest}",
                    where=self.where,
                    do="Give the new image another tag; a version's tag never moves",
                )
            same = [entry for entry in entries if entry.digest == descriptor.digest]
            if current or (same and tag is None):
                return
            untagged = [entry for entry in same if REF_NAME not in entry.annotations]
            named = Descriptor(
                media_type=descriptor.media_type,
                digest=descriptor.digest,
                size=descriptor.size,
                annotations={REF_NAME: tag} if tag else {},
            )
            listed = [entry.to_dict() for entry in entries if entry not in untagged] + [named.to_dict()]
            index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": listed}
            replace_file(path=self.root / "index.json", data=canonical_json(index))

    def add_blob(self, blob: Blob) -> None:
        """Write a blob whose digest is known; an undamaged one that is there already stays.

        :raises ImageInvalid: the bytes are not the ones that the digest names
        :raises NotWritable: the folder cannot be written
        """
        known = blob.descriptor
        if self.holds(digest=known.digest, size=known.size):
            return
        try:
            self.write_blob(blob.pieces(), media_type=known.media_type, expected=known.digest)
        except DigestMismatch as error:
            raise ImageInvalid(f"blob {known.digest} is damaged", where=self.where, do=_REBUILD) from error

    def tags(self) -> dict[str, str]:
        """Return the digest of every tagged image by its tag."""
        return {entry.annotations[REF_NAME]: entry.digest for entry in self._entries() if REF_NAME in entry.annotations}

    def references(self) -> tuple[str, ...]:
        """Return the reference of every image that the index lists, oldest first."""
        return tuple(dict.fromkeys(self.reference(entry.digest) for entry in self._entries()))

    def _entries(self) -> tuple[Descriptor, ...]:
        path = self.root / "index.json"
        try:
            index = read_document(path.read_bytes(), where=str(path))
        except FileNotFoundError:
            return ()
        entries = index.get("manifests")
        return tuple(Descriptor.from_dict(entry, where=str(path)) for entry in entries or ())

    def _open(self, digest: str) -> BinaryIO:
        path = self.blob_path(digest)
        try:
            return path.open("rb")
        except OSError as error:
            raise ImageInvalid(
                f"blob {digest} cannot be read ({error.strerror})", where=self.where, do=_REBUILD
            ) from error

    def create(self) -> None:
        """Make the folder and its marker file where they are not there, and drop what killed writers left.

        :raises NotWritable: the folder cannot be written
        """
        with writing(self.root):
            (self.root / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
            (self.root / ".ingest").mkdir(exist_ok=True)
            marker = self.root / "oci-layout"
            if not marker.exists():
                replace_file(path=marker, data=canonical_json({"imageLayoutVersion": "1.0.0"}))
            if not (self.root / "index.json").exists():
                with locked(self.root / ".lock"):
                    if not (self.root / "index.json").exists():
                        empty = {"schemaVersion": 2, "mediaType": INDEX, "manifests": []}
                        replace_file(path=self.root / "index.json", data=canonical_json(empty))
            sweep_partial_files(self.root / ".ingest")


def _pieces(content: bytes | Path | Iterable[Piece]) -> Iterator[Piece]:
    if isinstance(content, bytes):
        yield content
    elif isinstance(content, Path):
        try:
            with content.open("rb") as file:
                yield from blocks(file)
        except OSError as error:
            raise ImageInvalid(f"the file cannot be read ({error.strerror})", where=str(content)) from error
    else:
        yield from content
