"""A small client of the OCI distribution specification 1.1: pushes blobs and manifests, pulls them by digest."""

import threading
from collections.abc import Callable, Iterator
from functools import partial
from types import TracebackType
from typing import Self
from urllib.parse import urljoin, urlsplit

import httpx

from modelway.errors import ImageInvalid, RegistryError, RegistryRefused
from modelway.oci.blobs import PIECE, Blob, Piece, whole
from modelway.oci.http import RegistryConnection
from modelway.oci.manifest import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    INDEX,
    LARGEST_DOCUMENT,
    MANIFEST,
    Descriptor,
    check_document,
    is_digest,
)
from modelway.oci.retries import Retries

_ACCEPT = {"Accept": ", ".join((MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX))}
_OCTETS = "application/octet-stream"
_PUSH_AGAIN = "Push the image again from its layout, or remove the damaged blob from the registry's storage first"


class RegistryClient:
    """A client of one registry over HTTPS (HTTP on this machine or with ``insecure``); several threads may use it.

    The login is the given one, else that of Docker's own settings. Each blob or manifest is attempted several times
    when the registry does not answer or answers 429 or 5xx.
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
        timeout_seconds: float = 300,
        chunk_bytes: int | None = None,
    ) -> None:
        """Open no connection yet.

        :param host: host and port, as they stand in a reference
        :param pause_seconds: wait before the second attempt; doubled before each further one
        :param timeout_seconds: longest wait for the next byte; object stores take minutes to commit a large blob
        :param chunk_bytes: send blobs in chunks of this size, for registries that require it; default: in one request
        """
        self.host = host
        self._chunk_bytes = chunk_bytes
        self._connection = RegistryConnection(
            host=host,
            username=username,
            password=password,
            insecure=insecure,
            retries=Retries(attempts=attempts, pause_seconds=pause_seconds),
            timeout_seconds=timeout_seconds,
        )
        self._call = self._connection.retries.call

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def has_blob(self, *, repository: str, digest: str) -> bool:
        """Return whether the repository has the blob."""
        path = f"/v2/{repository}/blobs/{digest}"
        return self._call(
            lambda: self._connection.request("HEAD", path, repository=repository, absent=True) is not None
        )

    def find_manifest(self, *, repository: str, name: str) -> str | None:
        """Return the digest of the manifest that a tag or digest names, or ``None`` if there is none."""
        path = f"/v2/{repository}/manifests/{name}"
        answer = self._call(
            lambda: self._connection.request("HEAD", path, repository=repository, headers=_ACCEPT, absent=True)
        )
        if answer is None:
            return None
        digest = answer.headers.get("Docker-Content-Digest", "")
        if not is_digest(digest):
            raise RegistryRefused(f"the registry returns no digest of '{name}'", where=f"{self.host}/{repository}")
        return str(digest)

    def push_blob(
        self,
        *,
        repository: str,
        blob: Blob,
        mount_from: str | None = None,
        send_always: bool = False,
        stop: threading.Event | None = None,
    ) -> int:
        """Push a blob to the repository and return how many bytes had to be sent: 0 if it was there or mounted.

        The bytes are streamed in one request (monolithic upload with a known digest), which every registry accepts.

        :param mount_from: another repository of this registry that may have the blob
        :param send_always: whatever the registry says that it has
        :param stop: when it is set, the upload is given up
        :raises OtherBytes: the bytes are not what the descriptor names
        """
        if not send_always and self.has_blob(repository=repository, digest=blob.descriptor.digest):
            return 0
        source = None if send_always else mount_from
        return self._call(lambda: self._upload(repository, blob, source, stop), stop=stop)

    def push_manifest(self, *, repository: str, manifest: bytes, media_type: str, digest: str, tag: str | None) -> None:
        """Put a manifest whose blobs are there, then its tag; what is there already is not put again.

        :raises RegistryRefused: the tag names another image already
        :raises BlobsMissing: the registry lacks a blob of it
        """
        if self.find_manifest(repository=repository, name=digest) is None:
            self._put(repository, digest, manifest, media_type=media_type, digest=digest)
        if tag and not self.refuse_other_tag(repository=repository, tag=tag, digest=digest):
            # Most registries set a tag whether or not it is new: who came second is seen afterwards.
            self._put(repository, tag, manifest, media_type=media_type, digest=digest, only_new=True)
            self.refuse_other_tag(repository=repository, tag=tag, digest=digest)

    def replace_tag(self, *, repository: str, tag: str, manifest: bytes, media_type: str, digest: str) -> None:
        """Put a manifest under a tag that may name another one, such as a list of referrers."""
        self._put(repository, tag, manifest, media_type=media_type, digest=digest)

    def refuse_other_tag(self, *, repository: str, tag: str | None, digest: str) -> bool:
        """Return whether a tag names the image already.

        :raises RegistryRefused: it names another one
        """
        current = self.find_manifest(repository=repository, name=tag) if tag else None
        if current not in (None, digest):
            raise RegistryRefused(
                f"the tag '{tag}' names {current} already and is not moved to {digest}",
                where=f"{self.host}/{repository}",
                do="Give the new image another tag; a version's tag never moves",
            )
        return current is not None

    def pull_manifest(self, *, repository: str, digest: str) -> bytes:
        """Return the bytes of a manifest or index, checked against its digest.

        :raises ImageInvalid: they are not what the digest names
        """
        path, where = f"/v2/{repository}/manifests/{digest}", f"{self.host}/{repository}"
        return check_document(self._call(lambda: self._get(repository, path)), digest, where=where, do=_PUSH_AGAIN)

    def list_referrers(self, *, repository: str, digest: str) -> bytes | None:
        """Return the index of what refers to a manifest, ``None`` where the registry has no such list."""
        path = f"/v2/{repository}/referrers/{digest}"
        try:
            return self._call(lambda: self._get(repository, path))
        except RegistryRefused:
            return None

    def pull_document(self, *, repository: str, descriptor: Descriptor) -> bytes:
        """Return the bytes of a blob of at most 4 MiB, checked against its digest.

        :raises ImageInvalid: it is larger, or the bytes are not what the digest names
        """
        where = f"{self.host}/{repository}"
        if descriptor.size > LARGEST_DOCUMENT:
            raise ImageInvalid(f"{descriptor.digest} is too large for a config", where=where)
        data = b"".join(self.stream_blob(repository=repository, descriptor=descriptor))
        return check_document(data, descriptor.digest, where=where, do=_PUSH_AGAIN)

    def stream_blob(self, *, repository: str, descriptor: Descriptor) -> Iterator[bytes]:
        """Yield a blob's bytes; after a broken connection it continues where that ended. The reader checks the digest.

        :raises ImageInvalid: the registry has less bytes of it
        :raises RegistryError: the registry refuses, or does not answer
        """
        received, failures = 0, 0
        while received < descriptor.size:
            before = received
            try:
                for piece in self._from(repository, descriptor, received):
                    received += len(piece)
                    yield piece
                if received < descriptor.size:
                    raise RegistryError(
                        f"{descriptor.digest} ends after {received} of {descriptor.size} bytes",
                        where=f"{self.host}/{repository}",
                        do=_PUSH_AGAIN,
                    )
            except RegistryRefused as error:
                if not received:
                    raise
                what = f"blob {descriptor.digest} is damaged: it ends after {received} of {descriptor.size} bytes"
                raise ImageInvalid(what, where=f"{self.host}/{repository}", do=_PUSH_AGAIN) from error
            except RegistryError as error:
                failures = 0 if received > before else failures
                self._connection.retries.pause(failures, error)
                failures += 1

    def _from(self, repository: str, descriptor: Descriptor, start: int) -> Iterator[bytes]:
        path = f"/v2/{repository}/blobs/{descriptor.digest}"
        headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
        with (
            self._connection.open("GET", path, repository=repository, headers=headers) as answer,
            self._connection.translate_errors(repository),
        ):
            # A registry that ignores the range sends all of it again.
            passed = 0 if answer.status_code == httpx.codes.PARTIAL_CONTENT else start
            for piece in answer.iter_raw():
                skipped = min(passed, len(piece))
                passed -= skipped
                if skipped < len(piece):
                    yield piece[skipped:]

    def _get(self, repository: str, path: str) -> bytes:
        with self._connection.open("GET", path, repository=repository, headers=_ACCEPT) as answer:
            return self._connection.read(answer, repository)

    def _put(
        self, repository: str, name: str, manifest: bytes, *, media_type: str, digest: str, only_new: bool = False
    ) -> None:
        path = f"/v2/{repository}/manifests/{name}"
        headers = {"Content-Type": media_type, **({"If-None-Match": "*"} if only_new else {})}
        answer = self._call(
            lambda: self._connection.request(
                "PUT", path, repository=repository, push=True, headers=headers, content=lambda: manifest
            )
        )
        assert answer is not None
        self._check_stored(answer, digest, repository)

    def _check_stored(self, answer: httpx.Response, digest: str, repository: str) -> None:
        stored = answer.headers.get("Docker-Content-Digest", digest)
        if stored != digest:
            raise RegistryRefused(f"the registry stored {digest} as {stored}", where=f"{self.host}/{repository}")

    def _upload(self, repository: str, blob: Blob, mount_from: str | None, stop: threading.Event | None) -> int:
        start, size = f"/v2/{repository}/blobs/uploads/", blob.descriptor.size
        query = {"mount": blob.descriptor.digest, "from": mount_from} if mount_from else {}
        also = (mount_from,) if mount_from else ()
        opened = self._connection.request("POST", start, repository=repository, push=True, also=also, params=query)
        if opened is None or opened.status_code == httpx.codes.CREATED:
            return 0
        location = self._location(opened, repository)
        if self._chunk_bytes and size > self._chunk_bytes:
            location, rest = self._send_chunks(repository, blob, location, stop), 0
        else:
            rest = size
        target = httpx.URL(location).copy_merge_params({"digest": blob.descriptor.digest})
        headers = {"Content-Length": str(rest)}
        stored = self._send("PUT", target, repository, lambda: _until(stop, whole(blob)) if rest else b"", headers)
        self._check_stored(stored, blob.descriptor.digest, repository)
        return size

    def _send_chunks(self, repository: str, blob: Blob, location: str, stop: threading.Event | None) -> str:
        """Send a blob in several requests and return where the upload is closed."""
        start = 0
        for chunk in _chunks(_until(stop, whole(blob)), size=self._chunk_bytes or PIECE):
            place = {"Content-Range": f"{start}-{start + len(chunk) - 1}", "Content-Length": str(len(chunk))}
            answer = self._send("PATCH", httpx.URL(location), repository, partial(bytes, chunk), place)
            location = self._location(answer, repository)
            start += len(chunk)
        return location

    def _send(
        self,
        method: str,
        target: httpx.URL,
        repository: str,
        content: Callable[[], bytes | Iterator[Piece]],
        headers: dict[str, str],
    ) -> httpx.Response:
        headers = {"Content-Type": _OCTETS, **headers}
        answer = self._connection.request(
            method, target, repository=repository, push=True, headers=headers, content=content
        )
        assert answer is not None
        return answer

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


def _until(stop: threading.Event | None, pieces: Iterator[Piece]) -> Iterator[Piece]:
    """Yield pieces until another upload of the image has failed."""
    for piece in pieces:
        if stop is not None and stop.is_set():
            raise RegistryRefused("the upload is given up, as another one of the image failed")
        yield piece


def _chunks(pieces: Iterator[Piece], *, size: int) -> Iterator[bytes]:
    """Yield the bytes in chunks of ``size``, the last one smaller."""
    waiting = bytearray()
    for piece in pieces:
        waiting += piece
        while len(waiting) >= size:
            yield bytes(waiting[:size])
            del waiting[:size]
    if waiting:
        yield bytes(waiting)
