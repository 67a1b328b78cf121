"""Uploads of blobs: opened, sent in one request or in chunks, and compared with what the registry says it stored."""

import threading
from collections.abc import Callable, Iterator
from functools import partial
from urllib.parse import urljoin, urlsplit

import httpx

from modelway.errors import RegistryRefused
from modelway.oci.blobs import Blob, Piece, whole
from modelway.oci.http import RegistryConnection
from modelway.oci.sending import PartsBody, refuse_stopped

_OCTETS = "application/octet-stream"


def upload_blob(
    connection: RegistryConnection,
    repository: str,
    blob: Blob,
    *,
    mount_from: str | None,
    chunk_bytes: int | None,
    stop: threading.Event | None,
) -> int:
    """Upload a blob, unless it can be mounted, and return how many bytes were sent.

    :param mount_from: another repository of the registry that may have it
    :param chunk_bytes: size of the chunks, None for one request
    :param stop: when it is set, the upload is given up
    """
    start, size = f"/v2/{repository}/blobs/uploads/", blob.descriptor.size
    query = {"mount": blob.descriptor.digest, "from": mount_from} if mount_from else {}
    also = (mount_from,) if mount_from else ()
    opened = connection.request("POST", start, repository=repository, push=True, also=also, params=query)
    if opened is None or opened.status_code == httpx.codes.CREATED:
        return 0
    upload = _Upload(connection, repository, _location(connection, opened, repository))
    if chunk_bytes and size > chunk_bytes:
        upload.send_chunks(_until(stop, whole(blob)), size=chunk_bytes)
        upload.close(blob.descriptor.digest, lambda: b"", size=0)
    else:
        body = PartsBody(parts=blob.parts, stop=stop) if blob.parts is not None else None
        upload.close(blob.descriptor.digest, lambda: _until(stop, whole(blob)), size=size, body=body)
    return size


def check_stored(answer: httpx.Response, digest: str, *, where: str) -> None:
    """Check what a registry says that it stored.

    :raises RegistryRefused: it is something else
    """
    stored = answer.headers.get("Docker-Content-Digest", digest)
    if stored != digest:
        raise RegistryRefused(f"the registry stored {digest} as {stored}", where=where)


class _Upload:
    """An open upload."""

    def __init__(self, connection: RegistryConnection, repository: str, location: str) -> None:
        self._connection, self._repository, self._location = connection, repository, location

    def send_chunks(self, pieces: Iterator[Piece], *, size: int) -> None:
        """Send the bytes in several requests."""
        start = 0
        for chunk in _chunks(pieces, size=size):
            place = {"Content-Range": f"{start}-{start + len(chunk) - 1}", "Content-Length": str(len(chunk))}
            answer = self._send("PATCH", httpx.URL(self._location), partial(bytes, chunk), place)
            self._location = _location(self._connection, answer, self._repository)
            start += len(chunk)

    def close(
        self,
        digest: str,
        content: Callable[[], bytes | Iterator[Piece]],
        *,
        size: int,
        body: PartsBody | None = None,
    ) -> None:
        """Send the rest, or all of it, and say which digest it must have."""
        target = httpx.URL(self._location).copy_merge_params({"digest": digest})
        answer = self._send("PUT", target, content, {"Content-Length": str(size)}, body)
        check_stored(answer, digest, where=f"{self._connection.host}/{self._repository}")

    def _send(
        self,
        method: str,
        target: httpx.URL,
        content: Callable[[], bytes | Iterator[Piece]],
        headers: dict[str, str],
        body: PartsBody | None = None,
    ) -> httpx.Response:
        headers = {"Content-Type": _OCTETS, **headers}
        answer = self._connection.request(
            method, target, repository=self._repository, push=True, headers=headers, content=content, body=body
        )
        assert answer is not None
        return answer


def _location(connection: RegistryConnection, answer: httpx.Response, repository: str) -> str:
    """Return where an upload continues; a registry behind a TLS proxy may name itself by ``http``."""
    location = urljoin(f"{connection.base}/", str(answer.headers.get("Location", "")))
    ours, theirs = urlsplit(connection.base), urlsplit(location)
    if theirs.hostname != ours.hostname:
        what = f"the registry sends uploads to another host, {theirs.hostname}"
        raise RegistryRefused(what, where=f"{connection.host}/{repository}")
    if theirs.scheme != ours.scheme:
        return theirs._replace(scheme=ours.scheme, netloc=ours.netloc).geturl()
    return location


def _until(stop: threading.Event | None, pieces: Iterator[Piece]) -> Iterator[Piece]:
    """Yield pieces until another upload of the image has failed."""
    for piece in pieces:
        refuse_stopped(stop)
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
