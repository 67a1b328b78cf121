"""The names of assets, of their versions and of their files, and what may not be one."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from modelway.errors import ModelwayError
from modelway.names import is_alias

LONGEST_NAME = 100
#: a path is part of a database's key, which has less than 2.7 kB
LONGEST_PATH_BYTES = 1_000
#: the file in an asset's folder that says what belongs to the asset
RECORD = ".asset.json"
#: the folder in an asset's folder that retains parts of files whose download was interrupted
PARTS = ".asset.parts"

_NAME = re.compile(rf"[a-z0-9][a-z0-9._-]{{0,{LONGEST_NAME - 1}}}")
_WANTED = re.compile(r"(?P<name>[^@:]*)(?:@(?P<number>[1-9][0-9]{0,8})|:(?P<alias>[^@:]+))?")
_SHOWN = 40


@dataclass(frozen=True, kw_only=True)
class WantedVersion:
    """A version of an asset as a user names it; with neither number nor alias: the latest."""

    name: str
    number: int | None = None
    alias: str | None = None

    def __str__(self) -> str:
        if self.number is not None:
            return f"{self.name}@{self.number}"
        return f"{self.name}:{self.alias}" if self.alias else self.name


def check_asset_name(name: str, *, what: str = "an asset") -> str:
    """Return the name.

    :param what: what it is to name
    :raises ModelwayError: it cannot name an asset, which becomes a folder
    """
    if not _NAME.fullmatch(name):
        raise ModelwayError(
            f"'{_short(name)}' cannot name {what}",
            do=f"Use lower-case letters, digits, dots, dashes and underscores, at most {LONGEST_NAME}, and begin with "
            "a letter or digit",
        )
    return name


def parse_wanted(text: str) -> WantedVersion:
    """Read ``NAME``, ``NAME@3`` or ``NAME:alias``; ``NAME:latest`` is ``NAME``.

    :raises ModelwayError: it is none of them
    """
    found = _WANTED.fullmatch(text)
    alias = found["alias"] if found else None
    # v3 is the version of the asset that was written with version 3 of the model.
    if not found or (alias and not (is_alias(alias) or alias == "latest" or re.fullmatch(r"v[1-9][0-9]{0,8}", alias))):
        raise ModelwayError(
            f"'{_short(text)}' names no version of an asset",
            do="Write NAME for the latest one, NAME@3 for a number, or NAME:alias",
        )
    check_asset_name(found["name"])
    number = int(found["number"]) if found["number"] else None
    return WantedVersion(name=found["name"], number=number, alias=None if alias == "latest" else alias)


def check_asset_path(path: str) -> str:
    """Return the path of a file within an asset.

    :raises ModelwayError: it could leave the folder that it is put into, or cannot be written down
    """
    parts = path.split("/")
    problem = None
    if path.startswith("/"):
        problem = "begins with '/'"
    elif ".." in parts or "." in parts or "" in parts:
        problem = "has an empty part, '.' or '..'"
    elif path == RECORD or parts[0] == PARTS:
        problem = "is the asset's own record"
    elif not path.isprintable():
        problem = "has characters that cannot be shown"
    elif len(path.encode()) > LONGEST_PATH_BYTES or max(len(part.encode()) for part in parts) > 255:
        problem = f"is too long: {LONGEST_PATH_BYTES} bytes at most, and 255 of each part"
    if problem:
        raise ModelwayError(
            f"'{_short(path)}' cannot be a file of an asset: it {problem}",
            do="Give a path below the asset's folder, such as images/cat.png",
        )
    return PurePosixPath(path).as_posix()


def _short(text: str) -> str:
    shown = text.encode("utf-8", "backslashreplace").decode()
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}… ({len(text):,} characters)"
