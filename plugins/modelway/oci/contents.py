"""The contents of an unpacked image: recorded when it was unpacked, and compared before it serves again."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modelway.artifacts.whole_files import replace_file
from modelway.job.file_marks import known_digest

#: written into the unpacked folder as the last file: which image it is, and the digest of its contents
MARKER = ".unpacked.json"


def is_unpacked(root: Path, *, digest: str) -> bool:
    """Return whether ``root`` is the finished folder of the image ``digest``, every file as it was unpacked.

    A file whose digest is recorded with it, and that was not changed since, is not read.
    """
    try:
        marker = json.loads((root / MARKER).read_bytes())
        return bool(marker == _contents(root, digest))
    except (OSError, ValueError):
        return False


def mark_unpacked(root: Path, *, digest: str) -> None:
    """Record the contents of the folder, which marks it as finished."""
    (root / MARKER).unlink(missing_ok=True)
    replace_file(path=root / MARKER, data=json.dumps(_contents(root, digest)).encode())


def entries(root: Path) -> Iterator[Path]:
    """Yield everything below a folder; links are not followed."""
    for folder, names, files in os.walk(root):
        yield from (Path(folder, name) for name in (*names, *files))


def _contents(root: Path, digest: str) -> dict[str, Any]:
    """Return the image's digest, how many files it has, links among them, and the digest of names and contents."""
    hasher, files = hashlib.sha256(), 0
    for path in sorted(entries(root)):
        if path == root / MARKER:
            continue
        if path.is_symlink():
            entry = f"link {os.readlink(path)}"
        elif path.is_dir():
            entry = "folder"
        else:
            with path.open("rb") as file:
                entry = f"file {known_digest(file)} {path.stat().st_mode & 0o777:o}"
        files += entry != "folder"
        hasher.update(f"{path.relative_to(root)}\0{entry}\0".encode("utf-8", "surrogateescape"))
    return {"digest": digest, "files": files, "contents": f"sha256:{hasher.hexdigest()}"}
