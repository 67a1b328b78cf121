"""A summary of a data set: the type of each column, and a summary of its values.

Numbers (also true and false, and arrays of more dimensions, all of their values together): ``count`` of those that
are present, ``missing`` (None, NaN), ``mean``, ``deviation`` (of the population), ``min``, ``max``, ``quantiles`` at
5, 25, 50, 75 and 95 % (linear between neighbours: type 7 of Hyndman and Fan 1996, as in numpy). Everything else is
treated as text: ``count``, ``missing``, ``distinct`` and the most ``frequent`` values with their counts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from modelway.job.events import checked_name, json_number, plain

QUANTILES = (5, 25, 50, 75, 95)
MOST_FREQUENT = 5
#: of a frequent value
MOST_CHARACTERS = 100
MOST_COLUMNS = 10_000


def summarised(columns: Any) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """Return the type and the summary of each column, by the columns' names.

    :param columns: a mapping from names to lists, arrays or tensors; a table of pandas is one
    :raises ValueError: these are not columns
    """
    if not hasattr(columns, "items"):
        raise ValueError(f"columns must be a mapping from names to values, got {type(columns).__name__}")
    found = {checked_name(name, what="a column"): values for name, values in columns.items()}
    if len(found) > MOST_COLUMNS:
        raise ValueError(f"{len(found)} columns are more than {MOST_COLUMNS}: give those that matter")
    described = {name: _described(name, values) for name, values in found.items()}
    types = {name: kind for name, (kind, _) in described.items()}
    return types, {name: summary for name, (_, summary) in described.items()}


def checked_schema(schema: Mapping[Any, Any]) -> dict[str, str]:
    """Return the given schema: the type of each column as text."""
    return {checked_name(name, what="a column"): str(plain(str(kind))) for name, kind in schema.items()}


def checked_statistics(statistics: Mapping[Any, Mapping[Any, Any]]) -> dict[str, Any]:
    """Return the given statistics in a form that JSON can represent.

    :raises ValueError: they are not a mapping for each column
    """
    for name, summary in statistics.items():
        if not isinstance(summary, Mapping):
            raise ValueError(f"the statistics of column '{name!s:.60}' must be a mapping, such as {{'mean': 0.5}}")
    return {checked_name(name, what="a column"): plain(summary) for name, summary in statistics.items()}


def _described(name: str, values: Any) -> tuple[str, dict[str, Any]]:
    try:
        if hasattr(values, "to_numpy"):
            values = values.to_numpy()
        if hasattr(values, "detach"):
            return _of_tensor(values)
        if hasattr(values, "dtype") and values.dtype.kind in "biuf":
            return _shown_type(str(values.dtype), values.shape), _of_array(values)
        return _of_list(list(values.tolist() if hasattr(values, "tolist") else values))
    except TypeError as error:
        raise ValueError(f"the values of column '{name[:60]}' cannot be summarised: {error}") from None


def _shown_type(kind: str, shape: Any) -> str:
    return kind + (str(list(shape[1:])) if len(shape) > 1 else "")


def _of_tensor(values: Any) -> tuple[str, dict[str, Any]]:
    import torch

    kind = _shown_type(str(values.dtype).replace("torch.", ""), values.shape)
    values = values.detach().cpu()
    return kind, _of_array((values.float() if values.dtype == torch.bfloat16 else values).numpy())


def _of_array(values: Any) -> dict[str, Any]:
    """Return the summary of an array of numbers."""
    import numpy

    flat = values.reshape(-1)
    there = flat[~numpy.isnan(flat)] if flat.dtype.kind == "f" else flat
    if there.dtype.kind == "b" or there.dtype.itemsize < 8:
        there = there.astype(numpy.float64)
    counts = {"count": int(there.size), "missing": int(flat.size - there.size)}
    if not there.size:
        return counts
    with numpy.errstate(all="ignore"):
        ordered = numpy.quantile(there, [at / 100 for at in QUANTILES]).tolist()
        return _number_summary(counts, float(there.mean()), float(there.std()), there.min(), there.max(), ordered)


def _number_summary(
    counts: dict[str, Any], mean: float, deviation: float, low: Any, high: Any, quantiles: list[float]
) -> dict[str, Any]:
    numbers = {"mean": mean, "deviation": deviation, "min": low, "max": high}
    at = dict(zip(map(str, QUANTILES), map(json_number, quantiles)))  # noqa: B905 - newer than Python 3.9
    return {**counts, **{name: json_number(value) for name, value in numbers.items()}, "quantiles": at}


def _of_list(values: list[Any]) -> tuple[str, dict[str, Any]]:
    there = [value for value in values if value is not None and value == value]
    counts = {"count": len(there), "missing": len(values) - len(there)}
    kinds = {type(value) for value in there}
    kind = _kind(kinds)
    if kinds and kinds <= {bool, int, float}:
        return kind, _of_numbers([float(value) for value in there], counts)
    return kind, _of_texts(there, counts)


def _kind(kinds: set[type]) -> str:
    if not kinds:
        return "empty"
    if kinds == {int, float}:
        return "float"
    return next(iter(kinds)).__name__ if len(kinds) == 1 else "mixed"


def _of_numbers(there: list[float], counts: dict[str, Any]) -> dict[str, Any]:
    ordered = sorted(there)
    if math.isinf(ordered[0]) or math.isinf(ordered[-1]):
        mean = deviation = float("nan")
        if not (math.isinf(ordered[0]) and math.isinf(ordered[-1])) or ordered[0] == ordered[-1]:
            mean = ordered[0] if math.isinf(ordered[0]) else ordered[-1]
    else:
        mean = math.fsum(there) / len(there)
        deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in there) / len(there))
    quantiles = [_quantile(ordered, at / 100) for at in QUANTILES]
    return _number_summary(counts, mean, deviation, ordered[0], ordered[-1], quantiles)


def _quantile(ordered: list[float], at: float) -> float:
    place = at * (len(ordered) - 1)
    low = math.floor(place)
    high, share = min(low + 1, len(ordered) - 1), place - low
    if not share or ordered[low] == ordered[high]:
        return ordered[low]
    return ordered[low] + share * (ordered[high] - ordered[low])


def _of_texts(there: list[Any], counts: dict[str, Any]) -> dict[str, Any]:
    texts = [value if isinstance(value, str) else str(value) for value in there]
    often: Callable[[tuple[str, int]], tuple[int, str]] = lambda pair: (-pair[1], pair[0])  # noqa: E731
    found = Counter(texts)
    frequent = sorted(found.items(), key=often)[:MOST_FREQUENT]
    shown = [[plain(text[:MOST_CHARACTERS]), count] for text, count in frequent]
    return {**counts, "distinct": len(found), "frequent": shown}
