"""The data interval of a run."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, kw_only=True)
class Interval:
    """The data interval of a run; without ``start`` where the run has no interval of its own."""

    start: datetime | None
    end: datetime
    partition: str | None = None

    @classmethod
    def of(cls, start: datetime | None, end: datetime, *, partition: str | None = None) -> "Interval":
        """Return an interval, named by its start unless the run has a partition key."""
        return cls(start=start, end=end, partition=partition or (f"{start:%Y-%m-%dT%H:%M:%S}" if start else None))

    def to_dict(self) -> dict[str, str | None]:
        """Return start and end in ISO 8601."""
        return {"start": self.start.isoformat() if self.start else None, "end": self.end.isoformat()}
