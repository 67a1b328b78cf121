"""How values that databases and JSON do not all know are written: non-finite numbers and times."""

import dataclasses
import math
from collections.abc import Mapping
from datetime import date
from functools import cache
from typing import Any

#: the names that JSON uses for them in protobuf's mapping (https://protobuf.dev/programming-guides/json/)
NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

#: Python itself refuses to read a number of more than some thousand digits
_MOST_BITS = 10_000


def flag_of(value: float) -> str | None:
    """Return the name of a non-finite number, None for every other."""
    if math.isfinite(value):
        return None
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def split_number(value: float | None) -> tuple[float | None, str | None]:
    """Return the two columns of a number: the value when it is finite, else its flag; neither for None."""
    if value is None:
        return None, None
    flag = flag_of(float(value))
    return (None, flag) if flag else (float(value), None)


def join_number(value: float | None, flag: str | None) -> float | None:
    """Return the number that ``split_number`` took apart."""
    return NON_FINITE[flag] if flag else value


def storable(text: str) -> str:
    """Return the text without what PostgreSQL rejects: NUL, and lone surrogates."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def plain(value: Any) -> Any:
    """Return ``value`` as data that strict JSON can represent.

    Dataclasses and mappings become dicts, sequences lists, times ISO 8601 text, non-finite floats their names, huge
    integers hexadecimal text, anything else becomes its text.
    """
    # By the exact type first: a list of a thousand models has ten thousand values.
    kind = type(value)
    if value is None or kind is str or kind is bool:
        return value
    if kind is float:
        return value if math.isfinite(value) else flag_of(value)
    if kind is dict:
        return {key if type(key) is str else str(key): plain(item) for key, item in value.items()}
    if kind is tuple or kind is list:
        return [plain(item) for item in value]
    if kind is not int and dataclasses.is_dataclass(kind):
        return {name: plain(getattr(value, name)) for name in _fields_of(kind)}
    return _other(value)


@cache
def _fields_of(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind))


def _other(value: Any) -> Any:
    """Return what is rarer, and of types that are derived from those above."""
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        return hex(value)
    if isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return flag_of(value) or value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    return value.isoformat() if isinstance(value, date) else str(value)
