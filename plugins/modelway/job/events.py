"""``events.jsonl``: what a job reports, append-only; each line is whole or skipped."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from modelway.job.event_limits import LONGEST_LINE, MOST_BYTES, MOST_READ_BYTES, counted_as, most_of, problem_of
from modelway.job.left_files import append_below, open_below

EVENTS = "events.jsonl"
_MOST_REASONS = 50

#: of what a job names: a metric, a chart, a feature, a column
LONGEST_NAME = 500


def append_event(folder: Path, kind: str, **fields: Any) -> None:
    """Append one line to ``events.jsonl`` and sync it.

    :raises ValueError: a number is not finite, or the event is larger than what is read again
    """
    line = json.dumps({"kind": kind, "at": round(time.time(), 3), **fields}, allow_nan=False)
    if len(line) > LONGEST_LINE:
        raise ValueError(f"an event of kind '{kind}' has {len(line):,} bytes, at most {LONGEST_LINE:,} are read")
    with append_below(folder, EVENTS) as file:
        # A line that a killed process left half-written must not swallow this one.
        if file.seek(0, os.SEEK_END) and not _ends_with_newline(file):
            file.write(b"\n")
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _ends_with_newline(file: BinaryIO) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


@dataclass
class LeftOut:
    """What was left out of a job's events: how often, by the kind of event and the reason."""

    counts: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, kind: Any, reason: str) -> None:
        """Count one that is left out; only so many of a job's own kinds and reasons are counted apart."""
        key = (kind[:40] if isinstance(kind, str) else "unknown", reason)
        if key not in self.counts and len(self.counts) >= _MOST_REASONS:
            key = "other", "they are invalid"
        self.counts[key] = self.counts.get(key, 0) + 1

    def notes(self) -> list[str]:
        """Return one line for each kind and reason."""
        return [
            f"{count:,} event{'s' if count > 1 else ''} of kind {kind!r} left out: {reason}"
            for (kind, reason), count in self.counts.items()
        ]


def read_events(folder: Path, *, left_out: LeftOut | None = None) -> list[dict[str, Any]]:
    """Return the events of a job's folder in order, without what is over a limit (``event_limits.py``).

    A half-written line is skipped; what is not a plain file below the folder has no events.

    :param left_out: receives what was left out
    """
    left_out = LeftOut() if left_out is None else left_out
    try:
        with open_below(folder, EVENTS) as file:
            return list(_checked(_lines(file, left_out), left_out))
    except FileNotFoundError:
        return []
    except OSError as error:
        left_out.add("all", f"{EVENTS}: {error.strerror or error}")
        return []


def parse_events(data: bytes) -> list[dict[str, Any]]:
    """Return the events that the bytes of an ``events.jsonl`` contain, without what is over a limit."""
    left_out = LeftOut()
    return list(_checked(_lines(io.BytesIO(data), left_out), left_out))


def _lines(file: BinaryIO, left_out: LeftOut) -> Iterator[bytes]:
    """Yield the lines of a file; one that is too long is skipped and never whole in memory."""
    size_read = 0
    while line := file.readline(LONGEST_LINE + 2):
        size_read += len(line)
        if size_read > MOST_READ_BYTES:
            left_out.add("all", f"more than {MOST_READ_BYTES:,} bytes are not read")
            return
        if len(line) <= LONGEST_LINE + 1:
            yield line
            continue
        left_out.add("unknown", f"its line has more than {LONGEST_LINE:,} bytes")
        while line and not line.endswith(b"\n"):
            line = file.readline(1 << 20)
            size_read += len(line)


def _checked(lines: Iterable[bytes], left_out: LeftOut) -> Iterator[dict[str, Any]]:
    counts: dict[tuple[str, str | None], int] = {}
    size = 0
    for line in lines:
        try:
            event = json.loads(line.decode(errors="replace"))
        except (ValueError, RecursionError) as error:
            # A half-written line is skipped in silence; one that our JSON reader cannot read was not written by us.
            if not isinstance(error, json.JSONDecodeError):
                left_out.add("unknown", "it is too deep, or a number in it too long")
            continue
        if not isinstance(event, dict) or "kind" not in event:
            continue
        if (problem := problem_of(event)) is not None:
            left_out.add(event["kind"], problem)
            continue
        kind, size = event["kind"], size + len(line)
        counted = counted_as(event)
        counts[counted] = counts.get(counted, 0) + 1
        if counts[counted] > most_of(kind) or size > MOST_BYTES:
            left_out.add(kind, f"there are more than {most_of(kind):,}, or all have more than {MOST_BYTES:,} bytes")
            size -= len(line)
            continue
        yield event


def recorded_datasets(events: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the data sets among a job's events, each once: a resumed attempt may have recorded it again.

    One without a name is skipped; one without a URI is returned with an empty URI.
    """
    always, known = ("name", "uri", "digest", "version", "rows"), ("schema", "statistics")
    named = [event for event in events if event["kind"] == "dataset" and event.get("name")]
    found = [
        {**{key: event.get(key) for key in always}, "uri": event.get("uri") or ""}
        | {key: event[key] for key in known if event.get(key)}
        for event in named
    ]
    return [dataset for place, dataset in enumerate(found) if dataset not in found[:place]]


def json_number(value: float) -> float | str:
    """Return a number that JSON can represent: NaN and the infinities as the text that ``float()`` reads back."""
    number = float(value)
    return number if number - number == 0 else str(number)


def finite_metrics(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """Return metrics with ``None`` in place of NaN and the infinities."""
    return {name: float(value) if float(value) - float(value) == 0 else None for name, value in metrics.items()}


def checked_name(name: Any, *, what: str) -> str:
    """Return the name that a job gives to something, as text.

    :raises ValueError: no database can store it, or it is too long for a name
    """
    text = str(name)
    if not text or len(text) > LONGEST_NAME:
        shown = f"'{text[:40]}…' has {len(text):,} characters" if text else "it is empty"
        raise ValueError(f"the name of {what} must have 1 to {LONGEST_NAME} characters: {shown}")
    if text != _storable(text):
        raise ValueError(f"the name of {what}, {text[:40]!r}, contains an invalid character")
    return text


def listed(values: Any) -> list[Any]:
    """Return an array, a tensor, a column of a table or any sequence as a list of Python's own values."""
    return list(values.tolist() if hasattr(values, "tolist") else values)


def plain(value: Any) -> Any:
    """Return a value as strict JSON: numbers that are not finite, and values of unknown types, as text."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return json_number(value)
    if isinstance(value, str):
        return _storable(value)
    if isinstance(value, Mapping):
        return {_storable(str(key)): plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, (Sequence, set, frozenset)):
        return [plain(item) for item in value]
    return _storable(str(value))


def _storable(text: str) -> str:
    """Return a text that every database can store: lone surrogates and NUL are replaced."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
