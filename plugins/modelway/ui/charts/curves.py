"""Curves as SVG: loss curves and other lines, ROC, PR and calibration."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from modelway.lineage.records.version import FigureRecord, MetricSeries
from modelway.ui.charts.axes import HEIGHT, WIDTH, Axis, axis_over, drawn_axes, place
from modelway.ui.charts.svg import as_float, cut, join, shown, svg

#: colours that the style sheet has; the curves after them are dashed
COLOURS = 10
#: a metric's points are drawn as the lowest and the highest of so many parts
PARTS = 150
#: the kinds whose axes reach from 0 to 1, and those of them with a diagonal
UNIT, DIAGONAL = ("roc", "pr", "calibration"), ("roc", "calibration")
#: what their axes are where the job named none
LABELS = {
    "roc": ("false positive rate", "true positive rate"),
    "pr": ("recall", "precision"),
    "calibration": ("score", "share that was right"),
}
#: the name of the area below a curve
AREAS = {"roc": "AUC", "pr": "AP"}
_NOTHING = Markup('<p class="soft">Nothing to draw.</p>')


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A line; points that are not finite interrupt it."""

    name: str
    points: Sequence[tuple[float, float]]
    note: str = ""
    """Its text in the legend."""
    titles: Sequence[str] = ()
    """The text of each point; without it, points have none."""
    finite: list[list[tuple[float, float]]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        """Split the points where one is not finite."""
        parts: list[list[tuple[float, float]]] = [[]]
        for point in self.points:
            if all(map(math.isfinite, point)):
                parts[-1].append(point)
            elif parts[-1]:
                parts.append([])
        self.finite.extend(part for part in parts if part)


def figure_curves(figure: FigureRecord, *, title: str) -> Markup:
    """Return the curves that a job drew, with their legend."""
    data = figure.data
    curves = [_curve(each, figure) for each in data.get("curves", [data])]
    x_label, y_label = (
        str(data.get(key) or known)
        for key, known in zip(("x_label", "y_label"), LABELS.get(figure.kind, ("", "")), strict=True)
    )
    notes = []
    if data.get("area") is not None and len(curves) > 1:
        notes.append(f"mean {AREAS.get(figure.kind, 'area')} {shown(data['area'])}")
    if data.get("error") is not None:
        notes.append(f"expected calibration error {shown(data['error'])}")
    if left := data.get("undefined"):
        notes.append(f"no curve: {cut(', '.join(map(str, left)), 300)}")
    if count := data.get("classes_left_out"):
        notes.append(f"{count} rarer classes are not drawn")
    is_unit, has_diagonal = figure.kind in UNIT, figure.kind in DIAGONAL
    return drawn_curves(
        curves, title=title, notes=notes, x_label=x_label, y_label=y_label, unit=is_unit, diagonal=has_diagonal
    )


def metric_curves(several: Sequence[MetricSeries]) -> Markup:
    """Return one metric over the steps, a curve for each stage behind the one before, with its last value."""
    curves, begins, end = list[Curve](), dict[float, str](), 0
    for series in several:
        # A stage that continues the steps of the one before is behind it already.
        offset = end if curves and min(series.steps) <= end else 0
        steps = [step + offset for step in series.steps]
        if curves:
            begins[end] = series.stage
        end = max(*steps, end)
        note = f"{shown(series.values[-1])} at step {series.steps[-1]:,}"
        note += f" ({steps[-1]:,} of all)" if offset else ""
        points = _thinned(list(zip(steps, map(float, series.values), strict=True)))
        curves.append(Curve(name=series.stage, points=points, note=note + _not_finite(series)))
    label = "step of all stages" if begins else "step"
    title = f"{several[0].name} over the steps"
    return drawn_curves(curves, title=title, notes=(), x_label=label, y_label="", whole=True, marks=begins)


def overlaid_curves(name: str, several: Sequence[MetricSeries]) -> Markup:
    """Return one metric of several versions over the steps of each; a series has its version's name as its stage."""
    curves = [
        Curve(
            name=series.stage,
            points=_thinned(list(zip(map(float, series.steps), map(float, series.values), strict=True))),
            note=f"{shown(series.values[-1])} at step {series.steps[-1]:,}{_not_finite(series)}",
        )
        for series in several
    ]
    return drawn_curves(curves, title=f"{name} of each version", notes=(), x_label="step", y_label="", whole=True)


def _curve(data: Mapping[str, Any], figure: FigureRecord) -> Curve:
    points = list(zip(map(as_float, data["x"]), map(as_float, data["y"]), strict=True))
    note = [f"{AREAS.get(figure.kind, 'area')} {shown(data['area'])}"] if data.get("area") is not None else []
    if data.get("positives") is not None:
        note.append(f"{data['positives']:,} rows")
    counts = data.get("count") or []
    titles = [f"{shown(x)}: {shown(y)}, {count:,} rows" for (x, y), count in zip(points, counts, strict=False)]
    return Curve(name=str(data.get("name", figure.name)), points=points, note=", ".join(note), titles=titles)


def _not_finite(series: MetricSeries) -> str:
    wrong = [(step, value) for step, value in zip(series.steps, series.values, strict=True) if not math.isfinite(value)]
    if not wrong:
        return ""
    some = ", ".join(f"{value} at {step:,}" for step, value in wrong[:3])
    return f"; {len(wrong):,} of {len(series.values):,} not finite: {some}{', …' if len(wrong) > 3 else ''}"


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points that can be seen: of each part the lowest and the highest, and one that is not finite."""
    if len(points) <= 2 * PARTS:
        return points
    chosen = {0, len(points) - 1}
    for part in range(PARTS):
        places = range(part * len(points) // PARTS, (part + 1) * len(points) // PARTS)
        finite = [place for place in places if math.isfinite(points[place][1])]
        if finite:
            chosen |= {min(finite, key=lambda place: points[place][1]), max(finite, key=lambda place: points[place][1])}
        chosen |= set([place for place in places if not math.isfinite(points[place][1])][:1])
    return [points[place] for place in sorted(chosen)]


def drawn_curves(
    curves: Sequence[Curve],
    *,
    title: str,
    notes: Sequence[str],
    x_label: str,
    y_label: str,
    unit: bool = False,
    diagonal: bool = False,
    whole: bool = False,
    marks: Mapping[float, str] | None = None,
) -> Markup:
    """Return curves as one picture with its legend.

    :param unit: both axes reach from 0 to 1
    :param whole: only whole numbers have ticks on the axis across
    :param marks: where something begins on the axis across, by what it is called
    """
    legend = _legend(curves, notes)
    points = [point for curve in curves for part in curve.finite for point in part]
    if not points:
        return _NOTHING + legend
    across = axis_over([x for x, _ in points], unit=unit, whole=whole)
    up = axis_over([y for _, y in points], unit=unit, room=0.0 if unit else 0.04)
    parts = [drawn_axes(across, up, x_label=x_label, y_label=y_label)]
    if diagonal:
        parts.append(Markup('<polyline class="guide" points="{}"/>').format(_path(across, up, [(0, 0), (1, 1)])))
    mark = Markup('<polyline class="guide" points="{}"><title>{}</title></polyline>')
    for step, stage in (marks or {}).items():
        if across.low < step < across.high:
            parts.append(mark.format(_path(across, up, [(step, up.low), (step, up.high)]), f"{stage} begins"))
    for number, curve in enumerate(curves):
        parts += [_line(across, up, curve, _colour(number), part) for part in curve.finite]
        parts += [_dot(across, up, _colour(number), *each) for each in zip(curve.points, curve.titles, strict=False)]
    note = "; ".join(f"{curve.name} {curve.note}".strip() for curve in curves)
    return svg(title, cut("; ".join([note, *notes]), 2000), join(parts), width=WIDTH, height=HEIGHT) + legend


def _colour(number: int) -> str:
    dashed = number // COLOURS
    return f"c{number % COLOURS}{f' dash{min(dashed, 2)}' if dashed else ''}"


def _path(across: Axis, up: Axis, points: Sequence[tuple[float, float]]) -> str:
    return " ".join("{:.1f},{:.1f}".format(*place(across, up, x, y)) for x, y in points)


def _line(across: Axis, up: Axis, curve: Curve, colour: str, points: Sequence[tuple[float, float]]) -> Markup:
    if len(points) == 1:
        return _dot(across, up, colour, points[0], f"{curve.name} {shown(points[0][0])}: {shown(points[0][1])}")
    line = Markup('<polyline class="{}" points="{}"><title>{}</title></polyline>')
    return line.format(colour, _path(across, up, points), f"{curve.name} {curve.note}".strip())


def _dot(across: Axis, up: Axis, colour: str, point: tuple[float, float], title: str) -> Markup:
    if not all(map(math.isfinite, point)):
        return Markup("")
    x, y = place(across, up, *point)
    return Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="3"><title>{}</title></circle>').format(
        colour, x, y, title
    )


def _legend(curves: Sequence[Curve], notes: Sequence[str]) -> Markup:
    entry = Markup(
        '<li><svg class="key" width="18" height="8" aria-hidden="true"><polyline class="{}" points="0,4 18,4"/>'
    )
    rest = Markup('</svg><span title="{}">{}</span> <span class="soft">{}</span></li>')
    entries = [
        entry.format(_colour(number)) + rest.format(curve.name, cut(curve.name, 60), curve.note)
        for number, curve in enumerate(curves)
    ]
    entries += [Markup('<li class="soft">{}</li>').format(note) for note in notes]
    return Markup('<ul class="legend">{}</ul>').format(join(entries))
