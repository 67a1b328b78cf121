"""A small client of the OCI distribution specification 1.1: pushes images from a layout, pulls them by digest."""

import hashlib
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self
from urllib.parse import urljoin, urlsplit

import httpx

from modelway.artifacts.whole_files import blocks
from modelway.errors import ImageInvalid, RegistryRefused
from modelway.oci.http import RegistryConnection
from modelway.oci.layout import OciLayout
from modelway.oci.manifest import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    INDEX,
    LARGEST_DOCUMENT,
    MANIFEST,
    Descriptor,
    RegistryReference,
    check_document,
    is_digest,
    read_document,
)

_log = logging.getLogger(__name__)
_ACCEPT = {"Accept": ", ".join((MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX))}
_REBUILD = "Build the image again (clear the build_image task)"
_PUSH_AGAIN = "Push the image again from its layout, or remove the damaged blob from the registry's storage first"


class RegistryClient:
    """A client of one registry over HTTPS (HTTP on this machine or with ``insecure``).

    Each blob or manifest is tried ``attempts`` times when the registry does not answer or answers 429 or 5xx.
    """

    def __init__(
        self,
        *,
        host: str,
        username: str | None = None,
        password: str | None = None,
        insecure: bool = False,
        attempts: int = 4,
        pause_seconds: float = 0.25,
    ) -> None:
        """Open no connection yet.

        :param host: host and port, as they stand in a reference
        :param pause_seconds: wait before the second attempt; doubled before each further one
        """
        self.host = host
        self._connection = RegistryConnection(
            host=host,
            username=username,
            password=password,
            insecure=insecure,
            attempts=attempts,
            pause_seconds=pause_seconds,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def has_blob(self, *, repository: str, digest: str) -> bool:
        """Return whether the repository holds the blob."""
        path = f"/v2/{repository}/blobs/{digest}"
        return self._connection.again(
            lambda: self._connection.request("HEAD", path, repository=repository, absent=True) is not None
        )

    def find_manifest(self, *, repository: str, name: str) -> str | None:
        """Return the digest of the manifest that a tag or digest names, or ``None`` if there is none."""
        path = f"/v2/{repository}/manifests/{name}"
        answer = self._connection.again(
            lambda: self._connection.request("HEAD", path, repository=repository, headers=_ACCEPT, absent=True)
        )
        if answer is None:
            return None
        digest = answer.headers.get("Docker-Content-Digest", "")
        if not is_digest(digest):
            raise RegistryRefused(f"the registry returns no digest of '{name}'", where=f"{self.host}/{repository}")
        return str(digest)

    def push_blob(self, *, repository: str, descriptor: Descriptor, path: Path, mount_from: str | None = None) -> int:
        """Push a blob to the repository and return how many bytes had to be sent: 0 if it was there or mounted.

        The file is streamed in one request (monolithic upload with a known digest), which every registry accepts.

        :param mount_from: another repository of this registry that may hold the blob
        :raises ImageInvalid: the file is not what the descriptor names
        """
        if self.has_blob(repository=repository, digest=descriptor.digest):
            return 0
        return self._connection.again(lambda: self._upload(repository, descriptor, path, mount_from))

    def push_manifest(self, *, repository: str, manifest: bytes, media_type: str, digest: str, tag: str | None) -> None:
        """Put a manifest whose blobs are there, under ``tag`` if there is one.

        :raises RegistryRefused: the tag names another image already
        """
        self.refuse_other_tag(repository=repository, tag=tag, digest=digest)
        path, headers = f"/v2/{repository}/manifests/{tag or digest}", {"Content-Type": media_type}
        answer = self._connection.again(
            lambda: self._connection.request(
                "PUT", path, repository=repository, push=True, headers=headers, content=lambda: manifest
            )
        )
        stored = answer.headers.get("Docker-Content-Digest", digest) if answer else digest
        if stored != digest:
            raise RegistryRefused(f"the registry stored {digest} as {stored}", where=f"{self.host}/{repository}")

    def refuse_other_tag(self, *, repository: str, tag: str | None, digest: str) -> None:
        """Refuse a tag that names another image already.

        :raises RegistryRefused: it does
        """
        current = self.find_manifest(repository=repository, name=tag) if tag else None
        if current not in (None, digest):
            raise RegistryRefused(
                f"the tag '{tag}' names {current} already and is not moved to {digest}",
                where=f"{self.host}/{repository}",
                do="Give the new image another tag; a version's tag never moves",
            )

    def pull_manifest(self, *, repository: str, digest: str) -> bytes:
        """Return the bytes of a manifest or index, checked against its digest.

        :raises ImageInvalid: they are not what the digest names
        """
        path, where = f"/v2/{repository}/manifests/{digest}", f"{self.host}/{repository}"

        def attempt() -> bytes:
            with self._connection.open("GET", path, repository=repository, headers=_ACCEPT) as answer:
                return self._connection.read(answer, repository)

        return check_document(self._connection.again(attempt), digest, where=where, do=_PUSH_AGAIN)

    def pull_blob(self, *, repository: str, descriptor: Descriptor, into: BinaryIO) -> None:
        """Write a blob to the open file ``into``, checked against its digest and size.

        :raises ImageInvalid: the registry's bytes are not what the digest names
        """
        self._connection.again(lambda: self._download(repository, descriptor, into))

    def _upload(self, repository: str, descriptor: Descriptor, path: Path, mount_from: str | None) -> int:
        start = f"/v2/{repository}/blobs/uploads/"
        query = {"mount": descriptor.digest, "from": mount_from} if mount_from else {}
        also = (mount_from,) if mount_from else ()
        opened = self._connection.request("POST", start, repository=repository, push=True, also=also, params=query)
        if opened is None or opened.status_code == httpx.codes.CREATED:
            return 0
        if path.stat().st_size != descriptor.size:
            raise ImageInvalid(f"{path} has not the {descriptor.size} bytes of {descriptor.digest}", do=_REBUILD)
        location = self._location(opened, repository)
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(descriptor.size)}
        target = httpx.URL(location).copy_merge_params({"digest": descriptor.digest})
        self._connection.request(
            "PUT", target, repository=repository, push=True, headers=headers, content=lambda: _read(path)
        )
        return descriptor.size

    def _location(self, answer: httpx.Response, repository: str) -> str:
        """Return where an upload continues; a registry behind a TLS proxy may name itself by ``http``."""
        location = urljoin(f"{self._connection.base}/", str(answer.headers.get("Location", "")))
        ours, theirs = urlsplit(self._connection.base), urlsplit(location)
        if theirs.hostname != ours.hostname:
            raise RegistryRefused(
                f"the registry sends uploads to another host, {theirs.hostname}", where=f"{self.host}/{repository}"
            )
        if theirs.scheme != ours.scheme:
            return theirs._replace(scheme=ours.scheme, netloc=ours.netloc).geturl()
        return location

    def _download(self, repository: str, descriptor: Descriptor, into: BinaryIO) -> None:
        into.seek(0)
        into.truncate()
        hasher, where = hashlib.sha256(), f"{self.host}/{repository}"
        path, headers = f"/v2/{repository}/blobs/{descriptor.digest}", {"Accept-Encoding": "identity"}
        with (
            self._connection.open("GET", path, repository=repository, headers=headers) as answer,
            self._connection.translate_errors(repository),
        ):
            for piece in answer.iter_raw(1024 * 1024):
                hasher.update(piece)
                into.write(piece)
        if "sha256:" + hasher.hexdigest() != descriptor.digest or into.tell() != descriptor.size:
            raise ImageInvalid(f"blob {descriptor.digest} is damaged", where=where, do=_PUSH_AGAIN)
        into.seek(0)


@dataclass(frozen=True, kw_only=True)
class RegistryImages:
    """The images of one repository as a source to read from; downloads pass through files in ``scratch``."""

    client: RegistryClient
    repository: str
    scratch: Path

    @property
    def where(self) -> str:
        """Host and repository."""
        return f"{self.client.host}/{self.repository}"

    def read_manifest(self, digest: str) -> bytes:
        """Return the bytes of a manifest or index, checked against its digest."""
        return self.client.pull_manifest(repository=self.repository, digest=digest)

    def read_blob(self, descriptor: Descriptor) -> bytes:
        """Return the bytes of a blob of at most 4 MiB, checked against its digest."""
        if descriptor.size > LARGEST_DOCUMENT:
            raise ImageInvalid(f"{descriptor.digest} is too large for a config", where=self.where)
        with self.open_blob(descriptor) as file:
            return file.read()

    @contextmanager
    def open_blob(self, descriptor: Descriptor) -> Iterator[BinaryIO]:
        """Download a blob, checked against its digest, into a file that is gone when it is closed."""
        with tempfile.TemporaryFile(dir=self.scratch) as file:
            self.client.pull_blob(repository=self.repository, descriptor=descriptor, into=file)
            yield file


@dataclass(frozen=True, kw_only=True)
class PushedImage:
    """What a push did: the reference to pull by, and how many bytes of blobs were sent."""

    reference: str
    bytes_sent: int


def push_image(
    *,
    client: RegistryClient,
    layout: OciLayout,
    digest: str,
    repository: str,
    tag: str | None = None,
    mount_from: str | None = None,
) -> PushedImage:
    """Push the image ``digest`` of a layout: only blobs that the repository lacks are sent, the manifest last.

    :raises ImageInvalid: the layout's image is missing or damaged
    :raises RegistryError: the registry refuses (terminal) or does not answer (retryable)
    """
    data = layout.read_manifest(digest)
    manifest = read_document(data, where=f"{layout.where}@{digest}")
    client.refuse_other_tag(repository=repository, tag=tag, digest=digest)
    sent = 0
    for entry in (*manifest["layers"], manifest["config"]):
        blob = Descriptor.from_dict(entry, where=f"{layout.where}@{digest}")
        with layout.open_blob(blob):
            path = layout.blob_path(blob.digest)
        sent += client.push_blob(repository=repository, descriptor=blob, path=path, mount_from=mount_from)
    media_type = str(manifest.get("mediaType", MANIFEST))
    client.push_manifest(repository=repository, manifest=data, media_type=media_type, digest=digest, tag=tag)
    reference = str(RegistryReference(host=client.host, repository=repository, digest=digest))
    _log.info("Pushed %s, %d bytes of blobs sent.", reference, sent)
    return PushedImage(reference=reference, bytes_sent=sent)


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from blocks(file)
