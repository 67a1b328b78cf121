"""Images of a registry's repository as a source to read from, and the mirrors that are read in its place."""

import io
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import BinaryIO, TypeVar, cast

from modelway.errors import ImageInvalid, ModelwayError, RegistryError
from modelway.oci.blobs import PIECE
from modelway.oci.manifest import Descriptor, ImageSource, parse_repository
from modelway.oci.registry import RegistryClient

_T = TypeVar("_T")
_log = logging.getLogger(__name__)
#: ``docker.io=mirror.example.com/hub ghcr.io=…``: where images of a registry are read first
MIRRORS = "MODELWAY_REGISTRY_MIRRORS"


@dataclass(frozen=True, kw_only=True)
class RegistryImages:
    """The images of one repository; blobs are streamed, and nothing is stored."""

    client: RegistryClient
    repository: str

    @property
    def where(self) -> str:
        """Host and repository."""
        return f"{self.client.host}/{self.repository}"

    def read_manifest(self, digest: str) -> bytes:
        """Return the bytes of a manifest or index, checked against its digest."""
        return self.client.pull_manifest(repository=self.repository, digest=digest)

    def read_blob(self, descriptor: Descriptor) -> bytes:
        """Return the bytes of a blob of at most 4 MiB, checked against its digest."""
        return self.client.pull_document(repository=self.repository, descriptor=descriptor)

    @contextmanager
    def open_blob(self, descriptor: Descriptor) -> Iterator[BinaryIO]:
        """Open a blob for one pass of reading; the reader checks the digest."""
        pieces = self.client.stream_blob(repository=self.repository, descriptor=descriptor)
        yield cast(BinaryIO, io.BufferedReader(_Stream(pieces), PIECE))


class _Stream(io.RawIOBase):
    """Pieces as a file that is read once."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._rest = pieces, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        number = min(len(buffer), len(self._rest))
        buffer[:number] = self._rest[:number]
        self._rest = self._rest[number:]
        return number


@dataclass(frozen=True, kw_only=True)
class MirroredImages:
    """The images of a repository that mirrors have as well: each document or blob comes from the first that has it."""

    places: Sequence[ImageSource]
    """The mirrors, then the repository itself."""

    @property
    def where(self) -> str:
        """The repository."""
        return self.places[-1].where

    def read_manifest(self, digest: str) -> bytes:
        """Return the bytes of a manifest or index, checked against its digest."""
        return self._first(lambda place: place.read_manifest(digest))

    def read_blob(self, descriptor: Descriptor) -> bytes:
        """Return the bytes of a small blob, checked against its digest."""
        return self._first(lambda place: place.read_blob(descriptor))

    @contextmanager
    def open_blob(self, descriptor: Descriptor) -> Iterator[BinaryIO]:
        """Open a blob for one pass of reading; the reader checks the digest."""

        def opened(place: ImageSource) -> tuple[AbstractContextManager[BinaryIO], BinaryIO]:
            context = place.open_blob(descriptor)
            file = context.__enter__()
            # The first byte shows whether the place has it.
            cast(io.BufferedReader, file).peek(1)
            return context, file

        context, file = self._first(opened)
        try:
            yield file
        finally:
            context.__exit__(None, None, None)

    def _first(self, read: Callable[[ImageSource], _T]) -> _T:
        for mirror in self.places[:-1]:
            try:
                return read(mirror)
            except (RegistryError, ImageInvalid) as error:
                _log.info("%s The registry itself is read.", error)
        return read(self.places[-1])


def own_repository(source: ImageSource) -> RegistryImages | None:
    """Return the repository itself, behind its mirrors; None for a layout folder, which has no referrers."""
    own = source.places[-1] if isinstance(source, MirroredImages) else source
    return own if isinstance(own, RegistryImages) else None


def mirrors_of(host: str, repository: str) -> Iterator[tuple[str, str]]:
    """Yield host and repository of each mirror of a repository, as the environment names them.

    :raises ModelwayError: the environment cannot be read
    """
    for entry in os.environ.get(MIRRORS, "").replace(",", " ").split():
        registry, sign, mirror = entry.partition("=")
        if not sign or not mirror:
            raise ModelwayError(
                f"'{entry}' does not name a registry and its mirror",
                where=MIRRORS,
                do="Write docker.io=mirror.example.com, or docker.io=mirror.example.com/hub",
            )
        if registry == host:
            yield parse_repository(f"{mirror.rstrip('/')}/{repository}")
