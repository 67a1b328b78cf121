"""A stored archive, or one of its files, as it is sent to somebody: below the artifact root alone, digest checked."""

import hashlib
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, cast

from modelway.artifacts.store import Artifact, StoredFile
from modelway.errors import DigestMismatch, ModelwayError, NotStored

#: bytes that are read and sent at once: a download needs twice as many
BLOCK = 1 << 20


def open_download(archive: Artifact, *, root: str, member: Artifact | None = None) -> Iterator[bytes]:
    """Open a stored archive, or one file of it, and return its bytes piece by piece.

    The last piece comes only when the digest of all is right: a file that is damaged is cut off, never whole.

    :param root: the fsspec URL below which artifacts are stored
    :param member: the file by its path in the archive (``uri``), with its digest and size
    :raises NotStored: the archive is not below ``root``, is gone, or its store cannot be read
    :raises DigestMismatch: it is not a whole archive, or has no such file of that size; while it is sent, its bytes are
        not what the digest names
    """
    _refuse_outside(archive.uri, root)
    stack = ExitStack()
    try:
        file: BinaryIO = stack.enter_context(StoredFile(artifact=archive).open())
        if member is not None:
            file = stack.enter_context(_member(stack.enter_context(zipfile.ZipFile(file)), member))
    except (ModelwayError, KeyError, zipfile.BadZipFile) as error:
        stack.close()
        if isinstance(error, ModelwayError):
            raise NotStored(f"the file cannot be had: {error.what}", where=archive.digest, do=error.do) from error
        raise DigestMismatch("not a whole model archive, or without this file", where=archive.digest) from error
    except Exception as error:
        # Whatever the client of an object store raises: its text may have what no page shows.
        stack.close()
        what = f"the artifact store cannot be read ({type(error).__name__})"
        do = "See that the api-server may read the store, and has the package for it"
        raise NotStored(what, where=archive.digest, do=do) from error
    return _checked(stack, file, member or archive)


def _refuse_outside(uri: str, root: str) -> None:
    """Refuse what is not below the artifact root, also where a link leads out of it.

    :raises NotStored: it is not
    """
    place, below = _local_path(uri), _local_path(root)
    if place is not None and below is not None:
        inside = place.resolve().is_relative_to(below.resolve())
    else:
        inside = uri.startswith(root.rstrip("/") + "/") and ".." not in uri.split("/")
    if not inside:
        raise NotStored(
            "the file is not below the artifact root of this api-server",
            do="Set MODELWAY_ARTIFACT_ROOT for the api-server as for the workers",
        )


def _local_path(uri: str) -> Path | None:
    """Return the path that the store opens for a URI of this machine: no sign in it has a meaning; None elsewhere."""
    from fsspec.core import split_protocol, url_to_fs

    protocol, _ = split_protocol(uri)
    return Path(url_to_fs(uri)[1]) if protocol in (None, "file", "local") else None


def _member(zipped: zipfile.ZipFile, member: Artifact) -> BinaryIO:
    info = zipped.getinfo(member.uri)
    if info.file_size != member.size:
        raise KeyError(member.uri)
    return cast(BinaryIO, zipped.open(info))


def _checked(stack: ExitStack, file: Any, what: Artifact) -> Iterator[bytes]:
    digest, size, before = hashlib.sha256(), 0, b""
    with stack:
        while size <= what.size and (block := file.read(BLOCK)):
            # Of a file that is longer than recorded nothing beyond is read, nor the last piece sent.
            if before and size + len(block) <= what.size:
                yield before
            size, before = size + len(block), block
            digest.update(block)
    if (size, f"sha256:{digest.hexdigest()}") != (what.size, what.digest):
        raise DigestMismatch("the stored bytes are not what the digest names", where=what.digest)
    yield before
