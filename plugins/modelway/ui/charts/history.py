"""What changes from version to version, and from day to day: a metric, and the shares of an endpoint's traffic."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from markupsafe import Markup

from modelway.lineage.records.version import VersionSummary, WeightChange
from modelway.ui.charts.curves import Curve, drawn_curves
from modelway.ui.charts.svg import shown

#: the units of the axis of time, with their seconds: the first in which the time is not too long
_UNITS = (("minutes", 60.0, 180.0), ("hours", 3600.0, 96.0), ("days", 86400.0, math.inf))


def metric_by_version(versions: Sequence[VersionSummary], metric: str) -> Markup:
    """Return a metric over the numbers of a model's versions."""
    rising = sorted(versions, key=lambda version: version.number)
    known = [(each, value) for each in rising if (value := each.metrics.get(metric)) is not None]
    points = [(float(each.number), float(value)) for each, value in known]
    titles = [f"v{each.number}: {shown(value)}" for each, value in known]
    title = f"{metric} of each version"
    curve = Curve(name=metric, points=points, titles=titles, note=f"{len(known):,} versions")
    return drawn_curves([curve], title=title, notes=(), x_label="version", y_label="", whole=True)


def weights_over_time(changes: Sequence[WeightChange], *, now: datetime | None = None) -> Markup:
    """Return the share of each version at an endpoint over time, newest at the right.

    :param changes: the changes of the endpoint's weights, in any order
    """
    now = now or datetime.now(UTC)
    rising = sorted(changes, key=lambda change: change.at)
    if not rising:
        return Markup("")
    unit, length = _unit(rising[0].at, now)
    curves = []
    for model, number in dict.fromkeys((each.model, each.version) for each in rising):
        mine = [each for each in rising if (each.model, each.version) == (model, number)]
        curves.append(
            Curve(name=f"{model} v{number}", points=_steps(mine, now, length), note=f"{mine[-1].weight} % now")
        )
    label = f"{unit} before now"
    return drawn_curves(curves, title="Share of the traffic", notes=(), x_label=label, y_label="per cent")


def values_over_time(
    values: Mapping[str, Sequence[tuple[datetime, float]]],
    *,
    title: str,
    y_label: str,
    notes: Mapping[str, str] | None = None,
    now: datetime | None = None,
) -> Markup:
    """Return values over time, a curve for each name, newest at the right.

    :param values: the points of each curve, rising in time; one that is not finite interrupts it
    :param notes: what the legend says of a curve
    """
    now = now or datetime.now(UTC)
    times = [at for points in values.values() for at, _ in points]
    if not times:
        return Markup("")
    unit, length = _unit(min(times), now)
    curves = [
        Curve(
            name=name,
            points=[(min(0.0, (at - now).total_seconds() / length), value) for at, value in points],
            note=(notes or {}).get(name, ""),
        )
        for name, points in values.items()
    ]
    return drawn_curves(curves, title=title, notes=(), x_label=f"{unit} before now", y_label=y_label)


def _unit(first: datetime, now: datetime) -> tuple[str, float]:
    """Return the unit that fits the time since a moment, and its seconds."""
    seconds = (now - first).total_seconds()
    return next((unit, length) for unit, length, most in _UNITS if seconds <= length * most)


def _steps(mine: Sequence[WeightChange], now: datetime, length: float) -> list[tuple[float, float]]:
    points: list[tuple[float, float]] = []
    before = 0
    for change in mine:
        at = min(0.0, (change.at - now).total_seconds() / length)
        points += [(at, float(before)), (at, float(change.weight))]
        before = change.weight
    return [*points, (0.0, float(before))]
