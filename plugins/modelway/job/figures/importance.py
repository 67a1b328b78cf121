"""Permutation importance: by how much a metric gets worse when the values of one feature are shuffled.

Breiman 2001, "Random Forests", section 10, and, for any model, Fisher, Rudin and Dominici 2019, "All Models are Wrong,
but Many are Useful", as the difference of the two losses; mean and (population) standard deviation over the repetitions
as in scikit-learn. Of features that carry the same information, each seems to matter less than both do.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from modelway.job.events import checked_name, json_number, listed

Score = Callable[[Any], Any]


def importances(
    *, features: Any, score: Score | None, names: Sequence[Any] | None, repeats: int, seed: int
) -> list[dict[str, Any]]:
    """Return ``{feature, importance, deviation}`` of each feature, in their order.

    :param features: each feature's column by its name, or rows (a matrix, with ``names``); without ``score``, each
        feature's importance by its name
    :param score: returns the loss for features of the same form; higher is worse
    :raises ValueError: the features have no such form
    """
    if score is None:
        return _ready(features)
    if repeats < 1:
        raise ValueError(f"job.importance: repeats is {repeats}, at least 1 is needed")
    table = _Columns(features) if isinstance(features, Mapping) else _Matrix(features, names)
    before = float(score(features))
    found = []
    for name, place in table.places():
        worse = [
            float(score(table.shuffled(place, random.Random(f"{seed}/{name}/{number}")))) - before
            for number in range(repeats)
        ]
        spread = statistics.pstdev(worse) if all(value - value == 0 for value in worse) else float("nan")
        importance = json_number(sum(worse) / repeats)
        found.append({"feature": name, "importance": importance, "deviation": json_number(spread)})
    return found


def _ready(features: Any) -> list[dict[str, Any]]:
    if not isinstance(features, Mapping):
        raise ValueError("job.importance: give score=, or the importance of each feature by its name")
    return [
        {"feature": checked_name(name, what="a feature"), "importance": json_number(value), "deviation": None}
        for name, value in features.items()
    ]


class _Columns:
    """Features as columns by name: lists, arrays or tensors of the same length."""

    def __init__(self, features: Mapping[Any, Any]) -> None:
        self.features = features
        if len(lengths := {len(column) for column in features.values()}) != 1:
            raise ValueError(f"job.importance: the features have {sorted(lengths)} values, not as many each")

    def places(self) -> list[tuple[str, Any]]:
        return [(checked_name(name, what="a feature"), name) for name in self.features]

    def shuffled(self, place: Any, chance: random.Random) -> dict[Any, Any]:
        return {**self.features, place: _in_order(self.features[place], chance)}


class _Matrix:
    """Features as the columns of an array or a tensor, or of a list of rows."""

    def __init__(self, features: Any, names: Sequence[Any] | None) -> None:
        self.features = features
        self.width = len(features[0]) if len(features) else 0
        self.names = [str(place) for place in range(self.width)] if names is None else listed(names)
        if len(self.names) != self.width:
            raise ValueError(f"job.importance: there are {len(self.names)} names for {self.width} columns")

    def places(self) -> list[tuple[str, int]]:
        return [(checked_name(name, what="a feature"), place) for place, name in enumerate(self.names)]

    def shuffled(self, place: int, chance: random.Random) -> Any:
        if not hasattr(self.features, "ndim"):
            column = _in_order([row[place] for row in self.features], chance)
            pairs = zip(self.features, column)  # noqa: B905 - newer than Python 3.9
            return [[*row[:place], value, *row[place + 1 :]] for row, value in pairs]
        other = self.features.clone() if hasattr(self.features, "clone") else self.features.copy()
        other[:, place] = _in_order(self.features[:, place], chance)
        return other


def _in_order(column: Any, chance: random.Random) -> Any:
    """Return the values of a column in another order, in the form that it has."""
    seed, count = chance.getrandbits(62), len(column)
    if hasattr(column, "detach"):
        import torch

        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
        return column[order.to(column.device)]
    if hasattr(column, "dtype") or hasattr(column, "to_numpy"):
        import numpy

        values = column.to_numpy() if hasattr(column, "to_numpy") else column
        return values[numpy.random.default_rng(seed).permutation(count)]
    values = list(column)
    random.Random(seed).shuffle(values)
    return values
