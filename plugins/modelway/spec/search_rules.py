"""What a search refuses of the rest of the spec, checked on the values as written, valid or not."""

from collections.abc import Iterator, Mapping
from typing import Any

from modelway.fields.refusal import KeyPath, Refusal

_PROCESSES = ("nodes", "processes_per_node")


def refused_search(data: Mapping[str, Any]) -> Iterator[tuple[KeyPath, Refusal]]:
    """Find what of a spec's ``search`` contradicts its other sections."""
    search, train = _mapping(data, "search"), _mapping(data, "train")
    if not search:
        return
    written = train.get("stages")
    stages = [each for each in written if isinstance(each, dict)] if isinstance(written, list) else []
    if search.get("method") == "halving" and len(stages) < 2:
        what = "halving decides between two stages, and training has one"
        yield ("search", "method"), Refusal(what, do="Write two or more train.stages, or method: grid")
    for name in _mapping(search, "params"):
        if name in _mapping(data, "params"):
            what = "the run has a parameter of this name (params)"
            yield ("search", "params", name), Refusal(what, do="Keep one of the two")
    if search.get("stop") is not None and any(_several(each) for each in (train, *stages)):
        what = "a training of several processes cannot be ended early by one of them"
        yield ("search", "stop"), Refusal(what, do="Remove it, or train in one process")


def _several(section: Mapping[str, Any]) -> bool:
    return any(isinstance(section.get(key), int) and section[key] > 1 for key in _PROCESSES)


def _mapping(data: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = data.get(key)
    return value if isinstance(value, dict) else {}
