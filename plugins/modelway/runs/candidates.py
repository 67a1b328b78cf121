"""The candidates of a sweep: how they are drawn, and which of them train the next stage. Pure."""

import itertools
import json
import math
import random
from collections.abc import Iterator, Mapping
from typing import Any

from modelway.errors import ModelwayError
from modelway.spec.search import SearchedSection, SearchSection

#: draws for each candidate until the combinations count as used up
_MOST_DRAWS = 200


def candidate_params(search: SearchSection, *, seed: int) -> dict[str, dict[str, Any]]:
    """Return the parameters of each candidate by its name, ``c01`` and so on.

    The same seed gives the same candidates; with more of them the first ones stay the same. Two are never equal.

    :raises ModelwayError: there are fewer combinations than candidates
    """
    found = list(_grid(search) if search.is_grid else _drawn(search, seed=seed))
    width = max(2, len(str(len(found))))
    return {f"c{number:0{width}d}": params for number, params in enumerate(found, start=1)}


def survivors(scores: Mapping[str, float | None], *, entered: int, eta: int, mode: str) -> list[str]:
    """Return the names of the candidates that train the next stage: the best ``1 / eta`` of a stage, at least one.

    :param scores: the value of the metric by candidate, None for one that cannot continue
    :param entered: how many candidates the stage had, those that failed too
    :param mode: ``min`` or ``max``
    """
    sign = 1.0 if mode == "min" else -1.0
    usable = {name: sign * score for name, score in scores.items() if score is not None}
    # Of equal values the earlier candidate continues: the sort is stable.
    best = sorted(usable, key=usable.__getitem__)[: max(1, entered // eta)]
    return [name for name in scores if name in best]


def params_text(params: Mapping[str, Any]) -> str:
    """Return parameters in one short line."""
    return " ".join(f"{name}={_short(value)}" for name, value in params.items())


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _grid(search: SearchSection) -> Iterator[dict[str, Any]]:
    values = [each.values or () for each in search.params.values()]
    for combination in itertools.product(*values):
        yield dict(zip(search.params, combination, strict=True))


def _drawn(search: SearchSection, *, seed: int) -> Iterator[dict[str, Any]]:
    wanted, seen = search.candidates or 0, set[str]()
    for number in range(wanted * _MOST_DRAWS):
        drawn = {
            # A generator for each value: a parameter more leaves the others as they were.
            name: _value(each, random.Random(f"{seed}/{number}/{name}").random())
            for name, each in search.params.items()
        }
        if (text := json.dumps(drawn, sort_keys=True, default=str)) in seen:
            continue
        seen.add(text)
        yield drawn
        if len(seen) == wanted:
            return
    raise ModelwayError(
        f"{wanted} candidates are wanted, and {wanted * _MOST_DRAWS:,} draws gave {len(seen)} different ones",
        do="Write fewer candidates, or method: grid",
    )


def _value(searched: SearchedSection, place: float) -> Any:
    """Return the value at a place from 0 to below 1."""
    if searched.values is not None:
        return searched.values[int(place * len(searched.values))]
    if searched.int_ is not None:
        first, last = searched.int_
        return min(last, first + int(place * (last - first + 1)))
    if searched.uniform is not None:
        least, greatest = searched.uniform
        return least + place * (greatest - least)
    least, greatest = map(math.log, searched.log_uniform or (1.0, 1.0))
    return math.exp(least + place * (greatest - least))
