"""One file under two names of one file system, without a copy of its bytes: a reflink, else a read-only hard link."""

import contextlib
import fcntl
import os
import uuid
from pathlib import Path
from typing import BinaryIO

from modelway.artifacts.whole_files import sync_folder
from modelway.job.file_marks import mark_digest

#: the request of Linux that lets one file share another's blocks
_FICLONE = 0x40049409


def share(file: BinaryIO, *, digest: str, to: Path) -> bool:
    """Give an open file the name ``to`` as well; return False where neither way is possible.

    The file and ``to`` are read-only afterwards: a hard link is the same file, so that no writer may change it.
    """
    beside = to.with_name(f"{to.name}.{uuid.uuid4().hex}.part")
    try:
        os.fsync(file.fileno())
        if not (_reflink(file, beside, digest) or _hard_link(file, beside)):
            return False
        beside.replace(to)
        sync_folder(to.parent)
        return True
    finally:
        # It is still there where ``to`` was the same file already.
        beside.unlink(missing_ok=True)


def _reflink(file: BinaryIO, beside: Path, digest: str) -> bool:
    try:
        with beside.open("xb") as clone:
            fcntl.ioctl(clone, _FICLONE, file.fileno())
            # Before it is read-only: then it accepts no attributes.
            mark_digest(clone, digest)
            os.fchmod(clone.fileno(), 0o444)
            os.fsync(clone.fileno())
        return True
    except OSError:
        beside.unlink(missing_ok=True)
        return False


def _hard_link(file: BinaryIO, beside: Path) -> bool:
    folder = os.open(beside.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fchmod(file.fileno(), 0o444)
        # By the open file, not by its name, which may lead elsewhere by now.
        os.link(f"/proc/self/fd/{file.fileno()}", beside.name, dst_dir_fd=folder, follow_symlinks=True)
        return True
    except OSError:
        # Another file system, another user's file, or one that has no more room for links.
        return False
    finally:
        os.close(folder)


def is_shared(path: Path) -> bool:
    """Whether a file has other names too."""
    with contextlib.suppress(OSError):
        return path.stat().st_nlink > 1
    return False
