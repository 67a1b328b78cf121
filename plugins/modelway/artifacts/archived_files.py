"""The files of a model archive, read in place: they are stored as they are, so each is a part of the archive's file."""

import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from modelway.artifacts.store import Artifact, ArtifactStore
from modelway.errors import DigestMismatch

#: of a member's own header: 26 bytes, then the lengths of its name and of what is between the name and the data
_LENGTHS, _HEADER = struct.Struct("<HH"), 30
_AGAIN = "Run the freeze stage again"


@dataclass(frozen=True, kw_only=True)
class FilePart:
    """Some bytes of a file."""

    path: Path
    offset: int
    """Where they begin, in bytes."""
    size: int
    """In bytes."""


def archived_files(archive: Path) -> dict[str, FilePart]:
    """Return where each member of an archive lies in it, by the member's name.

    :raises DigestMismatch: the file is no archive, or compresses a member
    """
    try:
        with zipfile.ZipFile(archive) as zipped, archive.open("rb") as file:
            found = {}
            for entry in zipped.infolist():
                if entry.compress_type != zipfile.ZIP_STORED:
                    raise DigestMismatch(f"the member '{entry.filename}' is compressed", where=str(archive), do=_AGAIN)
                file.seek(entry.header_offset + _HEADER - _LENGTHS.size)
                offset = entry.header_offset + _HEADER + sum(_LENGTHS.unpack(file.read(_LENGTHS.size)))
                found[entry.filename] = FilePart(path=archive, offset=offset, size=entry.file_size)
            return found
    except (zipfile.BadZipFile, struct.error, OSError) as error:
        raise DigestMismatch(f"not a whole model archive ({error})", where=str(archive), do=_AGAIN) from error


def archive_file(store: ArtifactStore, archive: Artifact, *, scratch: Path) -> Path:
    """Return a file with an archive's bytes: the stored one where the store is on this machine, else a copy of it.

    The stored one is not read for it, so that its users check what they read.

    :param scratch: an existing folder for the copy
    :raises DigestMismatch: the archive is gone or truncated
    """
    url = urlsplit(archive.uri)
    if url.scheme == "file":
        stored = Path(unquote(url.path))
        if stored.is_file() and stored.stat().st_size == archive.size:
            return stored
    return store.fetch(archive, to=scratch / "archive.zip")
