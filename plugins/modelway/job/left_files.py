"""Files in a job's folder, opened as untrusted content: no link is followed out of it, nothing blocks.

A job may leave a link to a file of the machine that reads its folder, a FIFO on which a reader waits for ever, or more
than fits into memory. Links that stay inside the folder are followed, one name after another, each by the handle of its
folder, so that none can be exchanged in between.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

#: of a document that a job writes, such as how it ended
LARGEST_DOCUMENT = 16 << 20
MOST_LINKS = 40
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class NotBelow(OSError):
    """A name leads out of its folder, or to something that is not a plain file."""


def name_below(folder: Path, path: Path) -> str:
    """Return a path below ``folder`` as a name in it.

    :raises NotBelow: it is elsewhere
    """
    try:
        return path.relative_to(folder).as_posix()
    except ValueError:
        raise NotBelow(errno.EXDEV, f"it is outside {folder}", str(path)) from None


def open_below(folder: Path, name: str | PurePosixPath) -> BinaryIO:
    """Open a plain file below ``folder`` to read it.

    :raises NotBelow: a link or ``..`` leads out of the folder, or it is not a plain file
    :raises FileNotFoundError: there is none
    """
    with _walked(folder, name) as (parent, last):
        return os.fdopen(_open_plain(parent, last, os.O_RDONLY), "rb")


def append_below(folder: Path, name: str) -> BinaryIO:
    """Open a plain file below ``folder`` to append to it and read it; it is created where there is none.

    :raises NotBelow: a link or ``..`` leads out of the folder, or it is not a plain file
    """
    with _walked(folder, name) as (parent, last):
        return os.fdopen(_open_plain(parent, last, os.O_RDWR | os.O_APPEND | os.O_CREAT), "a+b")


def write_below(folder: Path, name: str, data: bytes) -> None:
    """Write a file below ``folder``, whole or not at all, in place of whatever has its name.

    :raises NotBelow: a link or ``..`` leads out of the folder
    """
    with _walked(folder, name, follow_last=False) as (parent, last):
        beside = f".{last}.{uuid.uuid4().hex}.part"
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644, dir_fd=parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fchmod(file.fileno(), 0o644)
                os.fsync(file.fileno())
            os.rename(beside, last, src_dir_fd=parent, dst_dir_fd=parent)
            os.fsync(parent)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(beside, dir_fd=parent)
            raise


def remove_below(folder: Path, name: str) -> None:
    """Remove a file below ``folder``, or the link that has its name; without error where there is none."""
    with contextlib.suppress(FileNotFoundError), _walked(folder, name, follow_last=False) as (parent, last):
        os.unlink(last, dir_fd=parent)


def read_below(folder: Path, name: str, *, most: int = LARGEST_DOCUMENT) -> bytes:
    """Return a plain file's bytes.

    :raises NotBelow: it leads out of the folder, is not a plain file or has more than ``most`` bytes
    :raises FileNotFoundError: there is none
    """
    with open_below(folder, name) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise NotBelow(errno.EFBIG, f"it has more than {most:,} bytes", str(folder / name))
    return data


def document_below(folder: Path, name: str, *, most: int = LARGEST_DOCUMENT) -> dict[str, Any] | None:
    """Return a JSON file's object; None where there is no such file, or it contains no object."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        found = json.loads(read_below(folder, name, most=most))
        return found if isinstance(found, dict) else None
    return None


def is_below(folder: Path, name: str) -> bool:
    """Whether there is a plain file below ``folder``."""
    with contextlib.suppress(OSError), open_below(folder, name):
        return True
    return False


def names_below(folder: Path, name: str = ".") -> list[str]:
    """Return the names in a folder below ``folder``, sorted; none where it leads out or is not a folder."""
    with contextlib.suppress(OSError), _walked(folder, f"{name}/.") as (parent, _):
        return sorted(os.listdir(parent))
    return []


def all_below(folder: Path, name: str, *, deepest: int = MOST_LINKS) -> Iterator[str]:
    """Yield the names of everything in a folder below ``folder``, or its own name where it is not a folder.

    A link is named itself, wherever it leads, and so is a folder that is too deep.
    """
    try:
        with _walked(folder, name, follow_last=False) as (parent, last):
            is_folder = stat.S_ISDIR(os.stat(last, dir_fd=parent, follow_symlinks=False).st_mode)
    except OSError:
        return
    if not is_folder or not deepest:
        yield name
        return
    for each in names_below(folder, name):
        yield from all_below(folder, f"{name}/{each}", deepest=deepest - 1)


def files_below(folder: Path, name: str) -> Iterator[str]:
    """Yield the names, in a folder below ``folder``, of the plain files in it and in the folders in it.

    Links that stay inside are followed.

    :raises NotBelow: a link leads out of ``folder``, or something is not a plain file
    :raises FileNotFoundError: there is no such folder
    """
    yield from _files(folder, name, "", depth=0)


def _files(folder: Path, name: str, prefix: str, depth: int) -> Iterator[str]:
    if depth > MOST_LINKS:
        raise NotBelow(errno.ELOOP, "its folders are too deep", str(folder / name))
    with _walked(folder, f"{name}/.") as (parent, _):
        names = sorted(os.listdir(parent))
    for each in names:
        below = f"{name}/{each}"
        if _is_folder(folder, below):
            yield from _files(folder, below, f"{prefix}{each}/", depth + 1)
            continue
        with open_below(folder, below):
            yield prefix + each


def _is_folder(folder: Path, name: str) -> bool:
    try:
        with _walked(folder, f"{name}/."):
            return True
    except NotADirectoryError:
        return False


def _open_plain(parent: int, name: str, flags: int) -> int:
    # Not blocking: a FIFO opens at once, and is refused.
    handle = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644, dir_fd=parent)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise NotBelow(errno.EINVAL, "it is not a plain file", name)
    return handle


@contextlib.contextmanager
def _walked(folder: Path, name: str | PurePosixPath, *, follow_last: bool = True) -> Iterator[tuple[int, str]]:
    """Yield the handle of the folder in which a name ends, and its last part, with the links on the way resolved."""
    left = [part for part in reversed(str(name).split("/")) if part]
    if str(name).startswith("/") or not left or "\0" in str(name):
        raise NotBelow(errno.EXDEV, "it is not a name below its folder", str(name))
    handles, links = [os.open(folder, _FOLDER)], 0
    try:
        while True:
            part = left.pop()
            if part == "..":
                if len(handles) == 1:
                    raise NotBelow(errno.EXDEV, "it leads out of its folder", str(folder / name))
                os.close(handles.pop())
                left = left or ["."]
                continue
            if part == "." and left:
                continue
            target = _link(handles[-1], part) if left or follow_last else None
            if target is not None:
                links += 1
                if links > MOST_LINKS or target.startswith("/"):
                    raise NotBelow(errno.EXDEV, "a link leads out of its folder", str(folder / name))
                left += [one for one in reversed(target.split("/")) if one]
            elif left:
                handles.append(os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=handles[-1]))
            else:
                yield handles[-1], part
                return
    finally:
        for handle in handles:
            os.close(handle)


def _link(parent: int, name: str) -> str | None:
    try:
        return os.readlink(name, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):
            return None
        raise
