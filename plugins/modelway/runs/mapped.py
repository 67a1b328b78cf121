"""Trainings that are expanded over parameters: what tells them apart, and their results as one list."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from modelway.errors import NothingToSelect


def map_item(index: int, **given: Any) -> str:
    """Return what names the job of a mapped task: its index, and a digest of what it is given.

    After a clear the same index may be given something else: that must not continue the job of before.
    """
    text = json.dumps(given, sort_keys=True, default=str)
    return f"{index}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def flat(given: Iterable[Any] | None) -> list[Mapping[str, Any]]:
    """Return mappings out of lists, and of lists of lists as mapped tasks return them, in order."""
    found: list[Mapping[str, Any]] = []
    for each in given or ():
        if isinstance(each, Mapping):
            found.append(each)
        elif each:
            found += flat(each)
    return found


def flat_checkpoints(given: Iterable[Any] | None) -> list[Mapping[str, Any]]:
    """Return the checkpoints of one training or several, each once.

    :raises NothingToSelect: two of them have one name
    """
    found: dict[str, Mapping[str, Any]] = {}
    for each in flat(given):
        known = found.setdefault(each["id"], each)
        if known.get("digest") != each.get("digest"):
            raise NothingToSelect(
                f"two checkpoints are called {each['id']}: their evaluations cannot be told apart",
                do="Give each training a stage of its own",
            )
    return list(found.values())
