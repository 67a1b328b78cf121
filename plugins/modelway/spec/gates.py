"""Gates: what a metric must reach before a version is registered, as a number or compared with another version."""

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast

from modelway.fields.refusal import Refusal, shown
from modelway.names import is_alias

Comparison = Literal[">=", "<=", ">", "<"]

_COMPARE: dict[Comparison, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_NUMBER = r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d{1,4})?"
_GATE = re.compile(rf"\s*(>=|<=|>|<)\s*([-+]?{_NUMBER})\s*", re.ASCII)
_VERSION_GATE = re.compile(rf"\s*(>=|<=|>|<)\s*([a-z][^\s+*]*)(?:\s+([-+*])\s*({_NUMBER}))?\s*", re.ASCII)
#: ``champion-0.005``: an alias may be spelled like this, and a margin is more probably meant
_WITHOUT_SPACES = re.compile(rf"\s*(>=|<=|>|<)\s*([a-z][\w.-]*?)\s*([-+*])\s*({_NUMBER})\s*", re.ASCII)
_HINT = 'Write one of >=, <=, >, < and a number, in quotes: ">= 0.9"'
_VERSION_HINT = f'{_HINT}, or a version: ">= champion - 0.005"'


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


@dataclass(frozen=True)
class VersionGate:
    """A limit of one metric by that of another version on the same data, such as ``>= champion - 0.005``."""

    op: Comparison
    version: str
    """an alias, ``v3`` or ``latest``"""
    margin: float = 0.0
    """added to the other version's metric"""
    factor: float = 1.0
    """by which it is multiplied first"""

    @property
    def wants_more(self) -> bool:
        """Whether greater values are better."""
        return self.op in (">=", ">")

    def passes(self, difference: float) -> bool:
        """Return whether a metric may be so far from ``factor`` times the other version's."""
        return _COMPARE[self.op](difference, self.margin)

    def __str__(self) -> str:
        if self.factor != 1:
            return f"{self.op} {self.version} * {self.factor!r}"
        if not self.margin:
            return f"{self.op} {self.version}"
        return f"{self.op} {self.version} {'-' if self.margin < 0 else '+'} {abs(self.margin)!r}"


def parse_gate(value: object) -> Gate:
    """Return the gate of a text such as ``>= 0.9``.

    :raises Refusal: the value is not a comparison with a number
    """
    if isinstance(value, str) and len(value) <= 100 and _VERSION_GATE.fullmatch(value):
        raise Refusal(f"{shown(value)} compares with a version: only verify.gates can", do=_HINT)
    match = _GATE.fullmatch(value) if isinstance(value, str) and len(value) <= 100 else None
    if match is None:
        raise Refusal(f"{shown(value)} is not a gate", do=_HINT)
    return Gate(cast(Comparison, match[1]), _finite(match[2], value))


def parse_any_gate(value: object) -> Gate | VersionGate:
    """Return the gate of a text such as ``>= 0.9`` or ``>= champion - 0.005``.

    :raises Refusal: the value is not a gate
    """
    if isinstance(value, Gate | VersionGate):
        return value
    text = value if isinstance(value, str) and len(value) <= 200 else ""
    if _GATE.fullmatch(text):
        return parse_gate(value)
    spaced = _WITHOUT_SPACES.fullmatch(text)
    match = _VERSION_GATE.fullmatch(text)
    if match is None or (spaced and not match[3]):
        if spaced and _is_version(spaced[2]):
            do = f'Write spaces around the sign: "{" ".join(spaced.groups())}"'
            raise Refusal(f"{shown(value)} is not a gate", do=do)
        raise Refusal(f"{shown(value)} is not a gate", do=_VERSION_HINT)
    op, version, sign, number = match.groups()
    if not _is_version(version):
        do = 'Write an alias such as champion, latest or v3: ">= champion - 0.005"'
        raise Refusal(f"{shown(value)} compares with {shown(version)}, which is no version", do=do)
    amount = _finite(number, value) if number else 0.0
    if sign == "*":
        if not amount:
            raise Refusal(f"{shown(value)} compares with 0", do=_VERSION_HINT)
        return VersionGate(cast(Comparison, op), version, factor=amount)
    return VersionGate(cast(Comparison, op), version, margin=-amount if sign == "-" else amount)


def _finite(text: str, value: object) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise Refusal(f"{shown(value)} is not a finite number", do=_HINT)
    return number


def _is_version(text: str) -> bool:
    return text == "latest" or re.fullmatch(r"v[1-9]\d{0,8}", text, re.ASCII) is not None or is_alias(text)


def gate_of(value: object) -> Gate | VersionGate:
    """Return the gate of a text such as ``>= 0.9``, or of a pair such as ``(">=", 0.9)`` in a DAG written by hand.

    :raises Refusal: it is not a gate
    """
    if isinstance(value, list | tuple) and len(value) == 2 and not isinstance(value[1], bool):
        comparison, limit = value
        if isinstance(comparison, str) and isinstance(limit, int | float):
            return parse_gate(f"{comparison} {limit!r}")
    return parse_any_gate(value)
