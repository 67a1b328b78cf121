"""A small client of the OCI distribution specification 1.1: pushes blobs and manifests, pulls them by digest."""

import threading
from collections.abc import Iterator
from functools import partial
from types import TracebackType
from typing import Self

import httpx

from modelway.errors import ImageInvalid, RegistryError, RegistryRefused
from modelway.oci.blobs import Blob
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
from modelway.oci.retries import RegistryBusy, Retries
from modelway.oci.upload import check_stored, upload_blob

_ACCEPT = {"Accept": ", ".join((MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX))}
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
        """Return whether the repository has the blob, before it is pushed there."""
        path = f"/v2/{repository}/blobs/{digest}"
        # With the right to push: token servers grant no other one for a repository that does not exist yet.
        found = self._call(
            lambda: self._connection.request("HEAD", path, repository=repository, push=True, absent=True)
        )
        return found is not None

    def find_manifest(self, *, repository: str, name: str, push: bool = False) -> str | None:
        """Return the digest of the manifest that a tag or digest names, or ``None`` if there is none.

        :param push: with the right to push, as part of a push
        """
        path = f"/v2/{repository}/manifests/{name}"
        answer = self._call(
            lambda: self._connection.request(
                "HEAD", path, repository=repository, push=push, headers=_ACCEPT, absent=True
            )
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
        if not send_always and self._may_skip(repository=repository, digest=blob.descriptor.digest):
            return 0
        source = None if send_always else mount_from
        upload = partial(
            upload_blob,
            self._connection,
            repository,
            blob,
            mount_from=source,
            chunk_bytes=self._chunk_bytes,
            stop=stop,
        )
        return self._call(upload, stop=stop)

    def _may_skip(self, *, repository: str, digest: str) -> bool:
        try:
            return self.has_blob(repository=repository, digest=digest)
        except RegistryBusy as error:
            if error.pause_seconds:
                raise
            # A registry whose disk was full answers 500 about a blob until it is sent again (docker-registry 2.8.2).
            return False

    def push_manifest(self, *, repository: str, manifest: bytes, media_type: str, digest: str, tag: str | None) -> None:
        """Put a manifest whose blobs are there, then its tag; what is there already is not put again.

        :raises RegistryRefused: the tag names another image already
        :raises BlobsMissing: the registry lacks a blob of it
        """
        if self.find_manifest(repository=repository, name=digest, push=True) is None:
            self._put(repository, digest, manifest, media_type=media_type, digest=digest)
        if tag and not self.refuse_other_tag(repository=repository, tag=tag, digest=digest):
            # Registries set a tag whether or not it is new: who came second is seen afterwards.
            self._put(repository, tag, manifest, media_type=media_type, digest=digest)
            self.refuse_other_tag(repository=repository, tag=tag, digest=digest)

    def replace_tag(self, *, repository: str, tag: str, manifest: bytes, media_type: str, digest: str) -> None:
        """Put a manifest under a tag that may name another one, such as a list of referrers."""
        self._put(repository, tag, manifest, media_type=media_type, digest=digest)

    def refuse_other_tag(self, *, repository: str, tag: str | None, digest: str) -> bool:
        """Return whether a tag names the image already.

        :raises RegistryRefused: it names another one
        """
        current = self.find_manifest(repository=repository, name=tag, push=True) if tag else None
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

    def _put(self, repository: str, name: str, manifest: bytes, *, media_type: str, digest: str) -> None:
        path, headers = f"/v2/{repository}/manifests/{name}", {"Content-Type": media_type}
        answer = self._call(
            lambda: self._connection.request(
                "PUT", path, repository=repository, push=True, headers=headers, content=lambda: manifest
            )
        )
        assert answer is not None
        check_stored(answer, digest, where=f"{self.host}/{repository}")
