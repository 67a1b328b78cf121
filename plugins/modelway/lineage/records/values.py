"""How values that databases and JSON do not all know are written: non-finite numbers and times."""

import dataclasses
import math
from collections.abc import Mapping
from datetime import date
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
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        return hex(value)
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return flag_of(value) or value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    return value.isoformat() if isinstance(value, date) else str(value)
