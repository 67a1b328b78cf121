"""A data set's present content as one digest: of its bytes where they are local, else of what its store reports."""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from modelway.artifacts.store import file_digest
from modelway.artifacts.whole_files import blocks
from modelway.errors import DatasetUnavailable, DigestMismatch, InvalidDataset

#: what object stores report of an object's content, best first
_CONTENT_KEYS = ("sha256", "md5Hash", "ETag", "etag", "e_tag", "crc32c", "checksum", "content_md5")
#: what stores call the time of an object's last change
_TIMES = ("mtime", "created", "LastModified", "last_modified")


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data set for training: ``digest`` is None where nothing identifies its content."""

    name: str
    uri: str
    digest: str | None = None
    version: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the data set as plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Dataset":
        """Read a data set from plain data."""
        return cls(name=data["name"], uri=data["uri"], digest=data.get("digest"), version=data.get("version"))


def read_dataset(*, name: str, uri: str, digest: str | None = None, version: str | None = None) -> Dataset:
    """Return a data set with the digest of its present content.

    :param digest: ``sha256:<hex>`` that it must have
    :raises InvalidDataset: it is not there, is empty of files, or its URI cannot be used
    :raises DigestMismatch: its content does not match ``digest``
    :raises DatasetUnavailable: its store does not answer
    """
    found = content_digest(uri, name=name) if digest else fingerprint(uri, name=name)
    if digest and found != digest:
        raise DigestMismatch(
            f"data set '{name}' is {found}, not {digest} as the model spec says",
            where=uri,
            do="Bring the data back, or write its new digest into datasets",
        )
    return Dataset(name=name, uri=uri, digest=found, version=version)


def fingerprint(uri: str, *, name: str) -> str | None:
    """Return a value that identifies the content of a data set, None where nothing is known of it.

    ``sha256:…`` of the bytes on this machine; elsewhere what the store reports, with its name, such as ``etag:…``.
    """
    if (path := local_path(uri)) is not None:
        return _digest_of_path(path, name=name)
    found = stored_files(uri, name=name)
    if found is None:
        return None
    reported = {place: content for place, info in found.items() if (content := reported_content(info))}
    if len(reported) < len(found):
        return None
    kinds = {kind for kind, _ in reported.values()}
    if len(reported) == 1:
        kind, value = next(iter(reported.values()))
        return f"{kind}:{value}"
    return f"{kinds.pop() if len(kinds) == 1 else 'state'}s:" + _digest_of_lines(
        {place: f"{kind}:{value}" for place, (kind, value) in reported.items()}
    )


def content_digest(uri: str, *, name: str) -> str:
    """Return ``sha256:<hex>`` of a data set's bytes, wherever they are: of a file, or of a folder's names and files.

    :raises InvalidDataset: it is not there, or nothing here can read it
    """
    if (path := local_path(uri)) is not None:
        return _digest_of_path(path, name=name)
    found = stored_files(uri, name=name)
    if found is None:
        raise InvalidDataset(
            f"the digest of data set '{name}' cannot be checked: nothing here reads {uri.partition(':')[0]}://",
            where=uri,
            do="Install the fsspec package of that store, or leave digest out and give a version",
        )
    fs, top = file_system(uri)
    digests = {}
    for place in found:
        with fs.open(place, "rb") as file:
            digest = hashlib.sha256()
            for block in blocks(file):
                digest.update(block)
        digests[place] = "sha256:" + digest.hexdigest()
    if len(digests) == 1 and top in digests:
        return digests[top]
    return "sha256:" + _digest_of_lines({place[len(top) :].strip("/"): value for place, value in digests.items()})


def local_path(uri: str) -> Path | None:
    """Return the path of a data set on this machine, None when it is elsewhere."""
    if uri.startswith("/"):
        return Path(uri)
    try:
        parts = urlsplit(uri)
    except ValueError:
        # A bracket in a bucket's name; opening it reports what is wrong.
        return None
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return Path(unquote(parts.path))
    return None


def _digest_of_path(path: Path, *, name: str) -> str:
    try:
        if path.is_dir():
            return "sha256:" + _digest_of_lines(_files_below(path, name=name))
        if path.is_file():
            return file_digest(path)
    except OSError as error:
        raise InvalidDataset(
            f"data set '{name}' cannot be read ({error.strerror})",
            where=str(error.filename or path),
            do="Give the Airflow worker access to it",
        ) from error
    what = "is no file or folder" if path.exists() else "is not there"
    raise InvalidDataset(f"data set '{name}' {what}", where=str(path), do="Put it there, or change its uri")


def _files_below(folder: Path, *, name: str) -> dict[str, str]:
    """Return the digest of each file by its name below the folder."""

    def refuse(error: OSError) -> None:
        raise error

    digests, walked = {}, set()
    # The target of a link is read as data, too, so it counts.
    for base, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        if (real := os.path.realpath(base)) in walked:
            raise InvalidDataset(
                f"data set '{name}' holds a folder twice, by a link", where=base, do="Remove the link from the folder"
            )
        walked.add(real)
        folders.sort()
        for file in files:
            path = Path(base) / file
            if not path.is_file():
                raise InvalidDataset(
                    f"data set '{name}' holds what is no file", where=str(path), do="Remove it from the folder"
                )
            digests[path.relative_to(folder).as_posix()] = file_digest(path)
    if not digests:
        raise InvalidDataset(f"data set '{name}' is a folder without files", where=str(folder), do="Put the data there")
    return digests


def _digest_of_lines(values: Mapping[str, str]) -> str:
    """Return the hex SHA-256 over sorted names with their values."""
    digest = hashlib.sha256()
    for name in sorted(values):
        digest.update(os.fsencode(name) + b"\0" + values[name].encode() + b"\n")
    return digest.hexdigest()


def file_system(uri: str) -> tuple[Any, str]:
    """Return the fsspec file system of a URI or an absolute path, and the place in it."""
    import fsspec

    fs, place = fsspec.core.url_to_fs(uri)
    return fs, str(place)


def stored_files(uri: str, *, name: str) -> dict[str, dict[str, Any]] | None:
    """Return what a store reports of each file of a data set, None where nothing here can read it.

    :raises InvalidDataset: it is not there, may not be read, or has no files
    :raises DatasetUnavailable: its store does not answer
    """
    if not uri.startswith("/") and not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", uri):
        raise InvalidDataset(
            f"data set '{name}' has a relative path", where=uri, do="Write an absolute path, or a URI such as s3://…"
        )
    try:
        fs, place = file_system(uri)
        # A cached listing would hide a change.
        fs.invalidate_cache()
        info = fs.info(place)
        found = fs.find(place, detail=True) if info["type"] == "directory" else {str(info["name"]): info}
    except (ValueError, ImportError):
        # No file system of that name, or its package is not installed: the job may read it all the same.
        return None
    except FileNotFoundError as error:
        raise InvalidDataset(f"data set '{name}' is not there", where=uri, do="Put it there, or change uri") from error
    except PermissionError as error:
        raise InvalidDataset(
            f"data set '{name}' may not be read ({error})", where=uri, do="Give the Airflow worker access to it"
        ) from error
    # Each store raises errors of its own.
    except Exception as error:
        raise DatasetUnavailable(
            f"data set '{name}' cannot be inspected ({type(error).__name__}: {error})",
            where=uri,
            do="Check that its store answers and that the worker may read it",
        ) from error
    if not found:
        raise InvalidDataset(f"data set '{name}' is a folder without files", where=uri, do="Put the data there")
    return {str(place): info for place, info in found.items()}


def reported_content(info: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the name and value of what a store reports of a file's content; else of its size and time.

    None where it reports no time: another content can have the same size.
    """
    for key in _CONTENT_KEYS:
        if value := info.get(key):
            kind = "etag" if key in ("ETag", "etag", "e_tag") else key.lower()
            return kind, str(value).strip('"')
    known = {key: str(info[key]) for key in ("size", *_TIMES) if info.get(key) is not None}
    return ("state", _digest_of_lines(known)) if any(key in known for key in _TIMES) else None
