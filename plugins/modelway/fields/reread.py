"""Sections that are read again from what they were as plain data: a task's message, a recorded spec."""

from collections.abc import Mapping
from typing import Any

from modelway.fields.units import format_duration


def with_durations(data: Any, *names: str) -> Any:
    """Return a section's data as somebody writes it: times in seconds, ``name_seconds``, become durations, ``name``."""
    if not isinstance(data, Mapping):
        return data
    seconds = {f"{name}_seconds": name for name in names}
    times = {seconds[key]: format_duration(data[key]) for key in seconds if type(data.get(key)) is int}
    return {key: value for key, value in data.items() if seconds.get(key) not in times} | times
