"""``events.jsonl``: what a job reports, append-only; each line is whole or passed over."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


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
    kept = ("name", "uri", "digest", "version", "rows")
    named = [event for event in events if event["kind"] == "dataset" and event.get("name")]
    found = [{key: event.get(key) for key in kept} | {"uri": event.get("uri") or ""} for event in named]
    return [dataset for place, dataset in enumerate(found) if dataset not in found[:place]]


def json_number(value: float) -> float | str:
    """Return a number that JSON can hold: NaN and the infinities as the text that ``float()`` reads back."""
    number = float(value)
    return number if number - number == 0 else str(number)


def finite_metrics(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """Return metrics with ``None`` in place of NaN and the infinities."""
    return {name: float(value) if float(value) - float(value) == 0 else None for name, value in metrics.items()}
