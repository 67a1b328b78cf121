"""Durations and sizes as people write them, parsed once into whole seconds and bytes, and written back."""

import re
from decimal import ROUND_CEILING, Decimal

from modelway.fields.refusal import Refusal, shown

SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
#: the suffixes of Kubernetes quantities, and B for single bytes
BYTES = {
    "Ti": 2**40,
    "Gi": 2**30,
    "Mi": 2**20,
    "Ki": 2**10,
    "T": 10**12,
    "G": 10**9,
    "M": 10**6,
    "k": 10**3,
    "B": 1,
}
LONGEST_SECONDS = 365 * SECONDS["d"]
LARGEST_BYTES = 1024 * BYTES["Ti"]

# GB and GiB are common mistakes; 512m would be half a byte on Kubernetes.
_MEANT = {"b": "B", "bytes": "B", "k": "k", "m": "Mi", "g": "Gi", "t": "Ti"}
_MEANT |= {f"{unit.lower()}b": unit for unit in BYTES if unit != "B"}
_MEANT |= {unit.lower(): unit for unit in BYTES if unit.endswith("i")}

_DURATION = re.compile(r"(?=\d)(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?", re.ASCII)
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,9})?) ?([A-Za-z]*)", re.ASCII)
_DURATION_HINT = "Write it with a unit, such as 10s, 30m, 2h, 1h30m or 7d"
_SIZE_HINT = "Write it with a unit, such as 512Mi or 2Gi"


def parse_duration(value: object) -> int:
    """Return the seconds of a duration such as ``10s``, ``2h`` or ``1h30m``.

    :raises Refusal: the value is not text, has no known unit, or is not between 1 s and 365 d
    """
    if value is None or isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Refusal(f"expected a duration, got {shown(value)}", do=_DURATION_HINT)
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise Refusal(f"{shown(value)} is not a duration", do=_DURATION_HINT)
    seconds = sum(int(number or 0) * size for number, size in zip(match.groups(), SECONDS.values(), strict=True))
    if not 1 <= seconds <= LONGEST_SECONDS:
        raise Refusal(f"must be between 1s and 365d, got {shown(value)}")
    return seconds


def format_duration(seconds: int) -> str:
    """Return the duration as ``parse_duration`` reads it, such as ``1h30m``."""
    text = ""
    for unit, size in SECONDS.items():
        number, seconds = divmod(seconds, size)
        text += f"{number}{unit}" if number else ""
    return text or "0s"


def parse_size(value: object) -> int:
    """Return the bytes of a size such as ``512Mi`` or ``1.5Gi``, rounded up to a whole byte.

    :raises Refusal: the value is not text, has no known unit, or is not between 1 B and 1024 Ti
    """
    if value is None or isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Refusal(f"expected a size, got {shown(value)}", do=_SIZE_HINT)
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None or not match[2]:
        raise Refusal(f"{shown(value)} is not a size", do=_SIZE_HINT)
    number, unit = match.groups()
    if unit not in BYTES:
        near = _MEANT.get(unit.lower())
        suggestion = f"{number}{near}" if near else None
        raise Refusal(f"{shown(unit)} is not a unit of size", known=BYTES, suggestion=suggestion)
    size = int((Decimal(number) * BYTES[unit]).to_integral_value(ROUND_CEILING))
    if not 1 <= size <= LARGEST_BYTES:
        raise Refusal(f"must be between 1B and 1024Ti, got {shown(value)}")
    return size


def format_size(size: int) -> str:
    """Return the size as ``parse_size`` reads it, in the largest unit that divides it."""
    unit, factor = next((unit, factor) for unit, factor in BYTES.items() if size % factor == 0)
    return f"{size // factor}{unit}"
