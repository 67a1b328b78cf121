"""What a job draws: the kinds of charts, and the data of each.

- ``line``, ``roc``, ``pr``, ``calibration``: ``{"curves": [{"name", "x": […], "y": […], …}]}``, or ``{"x", "y"}`` where
  there is one curve; the axes of ROC and PR reach from 0 to 1
- ``bars``: ``{"names": […], "values": […]}``
- ``matrix``, ``confusion``: ``{"rows": […], "columns": […], "values": [[…]]}``; of a confusion matrix the rows are the
  true classes and the columns the predicted ones, and ``{"classes", "values"}`` is enough

``x_label`` and ``y_label`` name the axes. Other keys are retained: further facts, such as an ``area``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from modelway.job.events import checked_name, json_number, listed, plain

#: of a curve: more cannot be seen
MOST_POINTS = 200
MOST_CURVES = 50
MOST_BARS = 200
MOST_CELLS_ACROSS = 50


def checked_figure(name: Any, kind: str, data: Any) -> dict[str, Any]:
    """Return the fields of a chart's event; curves are thinned to ``MOST_POINTS``.

    :raises ValueError: there is no such kind of chart, or the data does not fit it
    """
    name = checked_name(name, what="a figure")
    if kind not in KINDS:
        raise ValueError(f"figure '{name}': '{kind}' is not a kind of chart. Known: {', '.join(sorted(KINDS))}")
    if not isinstance(data, Mapping):
        raise ValueError(f"figure '{name}': data must be a mapping, got {type(data).__name__}")
    try:
        return {"name": name, "chart": kind, "data": KINDS[kind](name, data)}
    except (TypeError, KeyError) as error:
        raise ValueError(f"figure '{name}': {kind} takes {_TAKES[KINDS[kind]]}: {error!r}") from None
    except ValueError as error:
        raise ValueError(f"figure '{name}': {error}") from None


def rounded(value: float) -> float | str:
    """Return a number with as many digits as a chart can show."""
    return json_number(float(f"{float(value):.6g}"))


def thinned(values: Sequence[Any], most: int = MOST_POINTS) -> list[Any]:
    """Return at most so many of the values, evenly spaced, with the first and the last."""
    if len(values) <= most:
        return list(values)
    return [values[round(place * (len(values) - 1) / (most - 1))] for place in range(most)]


def _curves(name: str, data: Mapping[str, Any]) -> dict[str, Any]:
    given = data["curves"] if "curves" in data else [{"name": name, "x": data["x"], "y": data["y"]}]
    if not 0 < len(given) <= MOST_CURVES:
        raise ValueError(f"a chart has 1 to {MOST_CURVES} curves, got {len(given)}")
    rest = {key: value for key, value in data.items() if key not in ("curves", "x", "y")}
    return {**plain(rest), "curves": [_curve(curve, default=name) for curve in given]}


def _curve(curve: Mapping[str, Any], *, default: str) -> dict[str, Any]:
    across, up = listed(curve["x"]), listed(curve["y"])
    if len(across) != len(up):
        raise ValueError(f"a curve has {len(across)} values of x and {len(up)} of y")
    called = checked_name(curve.get("name", default), what="a curve")
    points = {"x": [rounded(value) for value in thinned(across)], "y": [rounded(value) for value in thinned(up)]}
    rest = {key: value for key, value in curve.items() if key not in ("name", "x", "y")}
    return {**plain(rest), "name": called, **points}


def _bars(name: str, data: Mapping[str, Any]) -> dict[str, Any]:
    names = [checked_name(each, what="a bar") for each in listed(data["names"])]
    values = [rounded(value) for value in listed(data["values"])]
    if len(names) != len(values) or len(names) > MOST_BARS:
        raise ValueError(f"a chart has at most {MOST_BARS} bars, got {len(names)} names and {len(values)} values")
    return {**plain(data), "names": names, "values": values}


def _matrix(name: str, data: Mapping[str, Any]) -> dict[str, Any]:
    values = [[rounded(value) for value in listed(row)] for row in listed(data["values"])]
    rows, columns = (
        [checked_name(each, what=f"one of the {side}") for each in listed(data[side if side in data else "classes"])]
        for side in ("rows", "columns")
    )
    if len(values) != len(rows) or any(len(row) != len(columns) for row in values):
        raise ValueError(f"the values are not {len(rows)} rows of {len(columns)}")
    if max(len(rows), len(columns)) > MOST_CELLS_ACROSS:
        raise ValueError(f"a matrix has at most {MOST_CELLS_ACROSS} rows and columns")
    rest = {key: value for key, value in data.items() if key != "classes"}
    return {**plain(rest), "rows": rows, "columns": columns, "values": values}


KINDS: dict[str, Callable[[str, Mapping[str, Any]], dict[str, Any]]] = {
    "line": _curves,
    "roc": _curves,
    "pr": _curves,
    "calibration": _curves,
    "bars": _bars,
    "matrix": _matrix,
    "confusion": _matrix,
}
_TAKES: dict[Any, str] = {
    _curves: '{"x": numbers, "y": numbers} or {"curves": [{"name", "x", "y"}]}',
    _bars: '{"names": texts, "values": numbers}',
    _matrix: '{"rows": texts, "columns": texts, "values": rows of numbers}',
}
