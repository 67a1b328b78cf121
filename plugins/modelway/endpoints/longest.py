"""The longest times that a platform gives, against a section as written."""

from collections.abc import Iterator, Mapping
from typing import Any

from modelway.fields.refusal import KeyPath, Refusal
from modelway.fields.units import format_duration, parse_duration


def refused_times(
    name: str, section: Mapping[str, Any], longest: Mapping[str, tuple[int, str]]
) -> Iterator[tuple[KeyPath, Refusal]]:
    """Find the times of a section that are too long; what is no duration is refused by the section itself.

    :param name: of the section
    :param section: as written, such as ``answer_within: 2h``, or as read, with ``answer_within_seconds``
    :param longest: the seconds of each key, at most, and what the platform does then
    """
    for key, (most, why) in longest.items():
        seconds = section.get(f"{key}_seconds")
        if seconds is None and key in section:
            try:
                seconds = parse_duration(section[key])
            except Refusal:
                continue
        if isinstance(seconds, int) and seconds > most:
            yield (name, key), Refusal(why, do=f"Write {format_duration(most)} or less")
