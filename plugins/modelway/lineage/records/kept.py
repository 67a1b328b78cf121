"""Which checkpoints that were not selected stay: the rule ``keep`` of a model spec, applied to those of one run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from modelway.fields.units import parse_duration, parse_size


@dataclass(frozen=True, kw_only=True)
class Unselected:
    """A stored checkpoint that was not selected."""

    digest: str
    step: int
    size: int
    stored: datetime


@dataclass(frozen=True, kw_only=True)
class KeepRule:
    """By count, time and bytes; the defaults keep none."""

    checkpoints: int = 0
    seconds: int = 0
    most_bytes: int | None = None

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> "KeepRule":
        """Return the rule of a model spec as plain data; a spec of an earlier version has none."""
        section = spec.get("keep") or {}
        size = section.get("size")
        return cls(
            checkpoints=int(section.get("checkpoints") or 0),
            seconds=parse_duration(section["time"]) if section.get("time") else 0,
            most_bytes=None if size is None else parse_size(size),
        )

    def to_dict(self) -> dict[str, int]:
        """Return what the record of a removal says of the rule."""
        known = {"keep": self.checkpoints, "keep_seconds": self.seconds, "keep_bytes": self.most_bytes}
        return {name: value for name, value in known.items() if value is not None}

    def kept(self, checkpoints: Sequence[Unselected], *, now: datetime) -> set[str]:
        """Return the digests of those that stay."""
        found: set[str] = set()
        size = 0
        for place, each in enumerate(sorted(checkpoints, key=lambda one: one.step, reverse=True)):
            if place >= self.checkpoints and now - each.stored >= timedelta(seconds=self.seconds):
                continue
            size += each.size
            if self.most_bytes is None or size <= self.most_bytes:
                found.add(each.digest)
        return found
