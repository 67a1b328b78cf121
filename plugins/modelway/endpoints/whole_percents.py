"""Targets that split requests in whole per cents: what they cannot serve is refused, with the key that says it."""

from collections.abc import Iterator, Mapping
from typing import Any

from modelway.endpoints.shares import below_one_percent, percentages
from modelway.errors import InvalidSpec
from modelway.fields.refusal import KeyPath, Refusal

_DO = "Give it a share of at least 1 %, or choose another target"


def whole_percents(weights: Mapping[str, int], *, where: str) -> dict[str, int]:
    """Return the weights as whole per cents that add up to 100, by largest remainder.

    :raises InvalidSpec: a share is above zero and below 1 %
    """
    for name in below_one_percent(weights):
        share = 100 * weights[name] / sum(weights.values())
        raise InvalidSpec(f"the share of {name} is {share:.2g} %, and is split in whole per cents", where=where, do=_DO)
    return percentages(weights)


def refused_shares(endpoint: Mapping[str, Any]) -> Iterator[tuple[KeyPath, Refusal]]:
    """Find the weights of a section ``endpoint``, as written, that whole per cents cannot express."""
    listed = endpoint.get("predictors")
    predictors = [each for each in listed if isinstance(each, Mapping)] if isinstance(listed, list) else []
    weights: dict[int, int] = {-1: _whole(endpoint.get("weight", 100))}
    weights |= {index: _whole(each.get("weight")) for index, each in enumerate(predictors)}
    total = sum(weights.values())
    for index in below_one_percent(weights):
        path: KeyPath = ("weight",) if index == -1 else ("predictors", index, "weight")
        what = f"its share is {100 * weights[index] / total:.2g} %, and the target splits in whole per cents"
        yield path, Refusal(what, do=_DO)


def _whole(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
