"""What the monitor found of a model, as its page shows it: drift and quality over time, and what was requested."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from markupsafe import Markup

from modelway.lineage.records.monitoring import MonitorSlice, RetrainRequest
from modelway.ui.charts.history import values_over_time

Points = dict[str, list[tuple[datetime, float]]]


def of_version(requests: Sequence[RetrainRequest], number: int) -> list[RetrainRequest]:
    """Return what was requested because of a version, and the request whose run made it."""
    made = f"version {number}"
    return [each for each in requests if each.version == number or each.outcome == made]


@dataclass(frozen=True, kw_only=True)
class Monitored:
    """The checks of a model's endpoints, the oldest first, and the requests to retrain it, newest first."""

    checks: tuple[MonitorSlice, ...]
    requests: tuple[RetrainRequest, ...]

    @cached_property
    def newest(self) -> list[MonitorSlice]:
        """The newest check of each version at each endpoint, newest first."""
        last = {(each.endpoint, each.version): each for each in self.checks}
        return sorted(last.values(), key=lambda each: each.end, reverse=True)

    def drift(self) -> Markup:
        """Return the strongest effect of each version over time, in parts of the size from which it counts."""
        return _drawn(self._points(_strength), title="Drift of each version", y_label="strongest effect / its limit")

    def psi(self) -> Markup:
        """Return the greatest PSI of each version over time."""
        found = self._points(lambda check: _number(check.numbers.get("drift"), "psi"))
        return _drawn(found, title="PSI of each version", y_label="greatest PSI")

    def quality(self) -> Markup:
        """Return the share of right predictions of each version over time."""
        found = self._points(lambda check: _number(check.numbers.get("quality"), "share"))
        references = {
            _name(check): f"{value:.1%} at freezing"
            for check in self.checks
            if (value := _number(check.numbers.get("quality"), "reference")) is not None
        }
        return _drawn(found, title="Quality of each version", y_label="share that is right", notes=references)

    def rows(self) -> Markup:
        """Return the rows that each check counted."""
        return _drawn(self._points(lambda check: float(check.rows)), title="Rows of each check", y_label="rows")

    def _points(self, value_of: Callable[[MonitorSlice], float | None]) -> Points:
        found: Points = {}
        for check in self.checks:
            if (value := value_of(check)) is not None:
                found.setdefault(_name(check), []).append((check.end, value))
        return found


def _drawn(points: Points, *, title: str, y_label: str, notes: Mapping[str, str] | None = None) -> Markup:
    last = {name: f"{found[-1][1]:.3g} at last" for name, found in points.items()}
    texts = {name: ", ".join(filter(None, (text, (notes or {}).get(name)))) for name, text in last.items()}
    return values_over_time(points, title=title, y_label=y_label, notes=texts)


def _name(check: MonitorSlice) -> str:
    return f"v{check.version} at {check.endpoint}"


def _strength(check: MonitorSlice) -> float | None:
    found = check.numbers.get("drift")
    effects = found.get("effects") if isinstance(found, Mapping) else None
    values = [_number(each, "strength") for each in effects] if isinstance(effects, list) else []
    return max((value for value in values if value is not None), default=None)


def _number(found: Any, name: str) -> float | None:
    """Return a finite number of what was recorded, which an older monitor may have recorded otherwise."""
    value = found.get(name) if isinstance(found, Mapping) else None
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return None
    return float(value)
