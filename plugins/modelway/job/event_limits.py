"""Limits of events: a job's own code can append anything to ``events.jsonl``, so each line is checked when read.

An event over a limit is left out and counted; what else the job did is not lost.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

#: of one line, in bytes: a summary of some thousand columns fits
LONGEST_LINE = 4 << 20
#: of all lines that are retained, in bytes
MOST_BYTES = 64 << 20
#: of what is read at all, in bytes
MOST_READ_BYTES = 4 << 30
#: how many events of a kind are retained, of some per evaluated checkpoint; of other kinds ``MOST_OF_A_KIND``
MOST = {"metric": 500_000, "checkpoint": 200_000, "checkpoint_removed": 200_000, "figure": 100, "importance": 100}
MOST_OF_A_KIND = 20_000
MOST_IMPORTANCES = 10_000
#: of a chart after its curves are thinned, in bytes
LARGEST_FIGURE = 512 << 10
DEEPEST = 16
MOST_VALUES = 200_000
LONGEST_TEXT = 64 << 10
LONGEST_NAME = 500
_LARGEST_INTEGER = 2**63 - 1
_NOT_FINITE = ("nan", "inf", "-inf")


def counted_as(event: dict[str, Any]) -> tuple[str, str | None]:
    """Return the key under which a valid event is counted."""
    of_input = event["kind"] in ("figure", "importance")
    return event["kind"], event.get("input") if of_input else None


def most_of(kind: str) -> int:
    """Return how many events of a kind are retained."""
    return MOST.get(kind, MOST_OF_A_KIND)


def problem_of(event: dict[str, Any]) -> str | None:
    """Return why an event is left out; None for a valid one. The curves of a chart are thinned."""
    if not isinstance(event["kind"], str):
        return "its kind is not a string"
    if len(event["kind"]) > LONGEST_NAME:
        return f"its kind has more than {LONGEST_NAME} characters"
    check = _KINDS.get(event["kind"])
    return _too_much(event) or (check(event) if check else None)


def _too_much(event: dict[str, Any]) -> str | None:
    """Return which of the limits for all events is exceeded; without recursion, whatever the depth."""
    left: list[tuple[dict[str, Any] | list[Any], int]] = [(event, 1)]
    values = 0
    while left:
        value, depth = left.pop()
        children = list(value.values()) if isinstance(value, dict) else value
        values += len(children)
        if depth > DEEPEST:
            return f"it is more than {DEEPEST} levels deep"
        if values > MOST_VALUES:
            return f"it has more than {MOST_VALUES:,} values"
        if isinstance(value, dict) and any(len(key) > LONGEST_NAME for key in value):
            return f"a name in it has more than {LONGEST_NAME} characters"
        for child in children:
            if isinstance(child, (dict, list)):
                left.append((child, depth + 1))
            elif problem := _value_problem(child):
                return problem
    return None


def _value_problem(value: Any) -> str | None:
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        return f"a text in it has more than {LONGEST_TEXT:,} characters"
    if isinstance(value, float) and not math.isfinite(value):
        return "a number in it is not finite"
    if isinstance(value, int) and abs(value) > _LARGEST_INTEGER:
        return "a number in it has more than 64 bits"
    return None


def _is_number(value: Any) -> bool:
    return (isinstance(value, (int, float)) and not isinstance(value, bool)) or value in _NOT_FINITE


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST_NAME


def _metric(event: Mapping[str, Any]) -> str | None:
    step = event.get("step")
    whole = isinstance(step, (int, float)) and _is_name(event.get("name")) and _is_number(event.get("value"))
    return None if whole else "it is not a metric with a name, a step and a number"


def _checkpoint(event: Mapping[str, Any]) -> str | None:
    path = event.get("path")
    if not _is_name(event.get("id")) or not isinstance(path, (str, type(None))):
        return "its id or path is not a string"
    inside = path is None or not (path.startswith("/") or "\0" in path or ".." in path.split("/"))
    return None if inside else "its path leads out of the job's folder"


def _figure(event: dict[str, Any]) -> str | None:
    # Imported here: charts imports from events, which imports this module.
    from modelway.job.figures.charts import checked_figure

    try:
        event |= checked_figure(event.get("name"), event.get("chart") or "", event.get("data"))
    except (ValueError, TypeError, AttributeError) as error:
        return str(error)[:300]
    if len(json.dumps(event["data"])) > LARGEST_FIGURE:
        return f"a chart has at most {LARGEST_FIGURE:,} bytes"
    return _of_an_input(event)


def _importance(event: Mapping[str, Any]) -> str | None:
    values = event.get("values")
    if not isinstance(values, list) or len(values) > MOST_IMPORTANCES:
        return f"it is not a list of at most {MOST_IMPORTANCES:,} importances"
    for one in values:
        numbers = [one.get("importance"), one.get("deviation")] if isinstance(one, dict) else [()]
        if not all(number is None or _is_number(number) for number in numbers) or not _is_name(one.get("feature")):
            return "one of its importances has no feature, or is not a number"
    return _of_an_input(event)


def _evaluation(event: Mapping[str, Any]) -> str | None:
    metrics, seconds = event.get("metrics"), event.get("seconds")
    if not isinstance(event.get("input"), str):
        return "it names no input"
    if metrics is not None and not (isinstance(metrics, dict) and all(map(_is_number, metrics.values()))):
        return "its metrics are not a mapping from names to numbers"
    if metrics is not None and not (isinstance(seconds, (int, float)) and seconds >= 0):
        return "it has metrics and no seconds"
    return None if isinstance(event.get("error", ""), str) else "its error is not a string"


def _of_an_input(event: Mapping[str, Any]) -> str | None:
    return None if isinstance(event.get("input"), (str, type(None))) else "its input is not a string"


def _dataset(event: Mapping[str, Any]) -> str | None:
    texts = [event.get(key) for key in ("name", "uri", "digest", "version")]
    tables = [event.get(key) for key in ("schema", "statistics")]
    if not all(isinstance(text, (str, type(None))) for text in texts):
        return "its name, URI, digest or version is not a string"
    if not all(isinstance(table, (dict, type(None))) for table in tables):
        return "its schema or statistics are not a mapping"
    rows = event.get("rows")
    return None if rows is None or (isinstance(rows, int) and rows >= 0) else "its rows are not a count"


def _environment(event: Mapping[str, Any]) -> str | None:
    packages = event.get("packages")
    named = isinstance(packages, dict) and all(isinstance(version, str) for version in packages.values())
    return None if packages is None or named else "its packages are not a mapping from names to versions"


_KINDS: dict[str, Callable[[dict[str, Any]], str | None]] = {
    "metric": _metric,
    "checkpoint": _checkpoint,
    "checkpoint_removed": _checkpoint,
    "figure": _figure,
    "importance": _importance,
    "evaluation": _evaluation,
    "evaluation-begun": lambda event: None if isinstance(event.get("input"), str) else "it names no input",
    "dataset": _dataset,
    "environment": _environment,
}
