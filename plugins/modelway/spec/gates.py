"""Gates: what a metric must reach before a version is registered."""

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast

from modelway.fields.refusal import Refusal, shown

Comparison = Literal[">=", "<=", ">", "<"]

_COMPARE: dict[Comparison, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_GATE = re.compile(r"\s*(>=|<=|>|<)\s*([-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d{1,4})?)\s*", re.ASCII)
_HINT = 'Write one of >=, <=, >, < and a number, in quotes: ">= 0.9"'


@dataclass(frozen=True)
class Gate:
    """A limit of one metric, such as ``>= 0.9``."""

    op: Comparison
    limit: float

    def passes(self, value: float) -> bool:
        """Return whether a metric's value is good enough; NaN never is, as every comparison with it is false."""
        return _COMPARE[self.op](value, self.limit)

    def __str__(self) -> str:
        return f"{self.op} {self.limit!r}"


def parse_gate(value: object) -> Gate:
    """Return the gate of a text such as ``>= 0.9``.

    :raises Refusal: the value is not a gate
    """
    match = _GATE.fullmatch(value) if isinstance(value, str) and len(value) <= 100 else None
    if match is None:
        raise Refusal(f"{shown(value)} is not a gate", do=_HINT)
    limit = float(match[2])
    if not math.isfinite(limit):
        raise Refusal(f"{shown(value)} is not a finite number", do=_HINT)
    return Gate(cast(Comparison, match[1]), limit)


def gate_of(value: object) -> Gate:
    """Return the gate of a text such as ``>= 0.9``, or of a pair such as ``(">=", 0.9)`` in a DAG written by hand.

    :raises Refusal: it is not a gate
    """
    if isinstance(value, list | tuple) and len(value) == 2 and not isinstance(value[1], bool):
        comparison, limit = value
        if isinstance(comparison, str) and isinstance(limit, int | float):
            return parse_gate(f"{comparison} {limit!r}")
    return parse_gate(value)
