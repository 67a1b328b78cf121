"""Whether a model's files are those that were frozen: an image may be mounted in part, or as an empty folder."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from modelway.server.core.refusal import CannotServe

#: digests of all files of a frozen model; an image has those that serving needs
MANIFEST = "MANIFEST.json"
_SIGNATURE = "outputs/model.yml"
_DO = "mount or fetch the image again, or build it again"


def check_files(model_dir: Path) -> int:
    """Compare the files that are served with their digests and return how many there are.

    A folder without a manifest, such as one of an older image or of one's own, is served as it is.

    :raises CannotServe: a file is missing, or is not the one that was frozen
    """
    try:
        text = (model_dir / MANIFEST).read_text(encoding="utf-8")
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise CannotServe(f"{model_dir / MANIFEST}: cannot be read ({error.strerror})") from error
    try:
        files = [entry for entry in json.loads(text)["files"] if _is_served(entry)]
        expected = {str(entry["path"]): (int(entry["size"]), str(entry["sha256"])) for entry in files}
    except (ValueError, KeyError, TypeError) as error:
        raise CannotServe(f"{model_dir / MANIFEST}: is no manifest of a frozen model ({error!r})") from error
    for path, (size, digest) in expected.items():
        _check(model_dir / path, size, digest)
    return len(expected)


def _is_served(entry: Mapping[str, object]) -> bool:
    return entry["role"] == "model" or entry["path"] == _SIGNATURE


def _check(path: Path, size: int, digest: str) -> None:
    try:
        with path.open("rb") as file:
            found = path.stat().st_size
            if found != size:
                raise CannotServe(f"{path}: has {found} bytes instead of {size}; {_DO}")
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                raise CannotServe(f"{path}: is not the file that was frozen; {_DO}")
    except OSError as error:
        raise CannotServe(f"{path}: cannot be read ({error.strerror}); {_DO}") from error
