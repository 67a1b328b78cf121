"""``events.jsonl``: what a job reports, append-only; each line is whole or passed over."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

#: of what a job names: a metric, a chart, a feature, a column
LONGEST_NAME = 500


def append_event(folder: Path, kind: str, **fields: Any) -> None:
    """Append one line to ``events.jsonl`` and sync it."""
    line = json.dumps({"kind": kind, "at": round(time.time(), 3), **fields}, allow_nan=False)
    with (folder / "events.jsonl").open("ab") as file:
        # A line that a killed process left half-written must not swallow this one.
        if file.tell() and not _ends_with_newline(folder / "events.jsonl"):
            file.write(b"\n")
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def read_events(folder: Path) -> list[dict[str, Any]]:
    """Return the events of a job's folder in order; a half-written line is passed over."""
    path = folder / "events.jsonl"
    return parse_events(path.read_bytes()) if path.exists() else []


def parse_events(data: bytes) -> list[dict[str, Any]]:
    """Return the events that the bytes of an ``events.jsonl`` hold."""
    events = []
    # Not splitlines(): a text may hold other characters that end a line, such as U+2028.
    for line in data.decode(errors="replace").split("\n"):
        with contextlib.suppress(json.JSONDecodeError):
            event = json.loads(line)
            if isinstance(event, dict) and "kind" in event:
                events.append(event)
    return events


def recorded_datasets(events: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the data sets among a job's events, each once: a try that goes on may have recorded it again.

    One without a name says nothing and is passed over; one without a URI is kept, its URI empty.
    """
    kept, known = ("name", "uri", "digest", "version", "rows"), ("schema", "statistics")
    named = [event for event in events if event["kind"] == "dataset" and event.get("name")]
    found = [
        {**{key: event.get(key) for key in kept}, "uri": event.get("uri") or ""}
        | {key: event[key] for key in known if event.get(key)}
        for event in named
    ]
    return [dataset for place, dataset in enumerate(found) if dataset not in found[:place]]


def json_number(value: float) -> float | str:
    """Return a number that JSON can hold: NaN and the infinities as the text that ``float()`` reads back."""
    number = float(value)
    return number if number - number == 0 else str(number)


def finite_metrics(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """Return metrics with ``None`` in place of NaN and the infinities."""
    return {name: float(value) if float(value) - float(value) == 0 else None for name, value in metrics.items()}


def checked_name(name: Any, *, what: str) -> str:
    """Return what a job calls something, as text.

    :raises ValueError: no database can keep it, or it is no name but a text
    """
    text = str(name)
    if not text or len(text) > LONGEST_NAME:
        shown = f"'{text[:40]}…' has {len(text):,} characters" if text else "it is empty"
        raise ValueError(f"the name of {what} must have 1 to {LONGEST_NAME} characters: {shown}")
    if text != _keepable(text):
        raise ValueError(f"the name of {what}, {text[:40]!r}, holds a character that is none")
    return text


def listed(values: Any) -> list[Any]:
    """Return an array, a tensor, a column of a table or any sequence as a list of Python's own values."""
    return list(values.tolist() if hasattr(values, "tolist") else values)


def plain(value: Any) -> Any:
    """Return a value as strict JSON can hold it: other numbers than finite ones as text, like all that is unknown."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return json_number(value)
    if isinstance(value, str):
        return _keepable(value)
    if isinstance(value, Mapping):
        return {_keepable(str(key)): plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, (Sequence, set, frozenset)):
        return [plain(item) for item in value]
    return _keepable(str(value))


def _keepable(text: str) -> str:
    """Return a text that every database can keep: lone surrogates and NUL are replaced."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
