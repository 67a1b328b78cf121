"""Figures as SVG within the page: nothing is loaded, no style is inline, and every text is escaped."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from modelway.lineage.record import FigureRecord, ImportanceRecord

WIDTH, HEIGHT, LEFT, BOTTOM, EDGE = 300, 220, 44, 34, 8
#: colours that the style sheet has
COLOURS = 8
#: of a matrix with more cells across, the numbers are told by pointing at them
MOST_NUMBERS = 12
BAR, NAMES, BARS = 18, 150, 190
#: the kinds whose axes reach from 0 to 1, and those of them with a diagonal
UNIT, DIAGONAL = ("roc", "pr", "calibration"), ("roc", "calibration")


def chart(figure: FigureRecord) -> Markup:
    """Return a figure as SVG with its legend; one that holds other data than its kind has is told as such."""
    try:
        if "values" in figure.data:
            return _bars(figure.data) if "names" in figure.data else _matrix(figure)
        return _curves(figure)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        return Markup('<p class="soft">This figure of kind {} cannot be drawn.</p>').format(figure.kind)


def importance_bars(importances: Sequence[ImportanceRecord], *, most: int = 30) -> Markup:
    """Return the most important features as bars, with the deviation in the title of each."""
    shown = importances[:most]
    notes = ["" if each.deviation is None else f" ± {each.deviation:.3g}" for each in shown]
    return _bars({"names": [each.feature for each in shown], "values": [each.importance for each in shown]}, notes)


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _shown(value: Any) -> str:
    return f"{_number(value):.4g}"


def _join(parts: Sequence[Markup]) -> Markup:
    return Markup("").join(parts)


def _svg(label: str, inside: Markup, *, width: int = WIDTH, height: int = HEIGHT) -> Markup:
    head = Markup('<svg class="chart" width="{w}" height="{h}" viewBox="0 0 {w} {h}" role="img" aria-label="{label}">')
    return head.format(w=width, h=height, label=label) + inside + Markup("</svg>")


def _curves(figure: FigureRecord) -> Markup:
    data = figure.data
    curves = [_points(curve, figure.name) for curve in data.get("curves", [data])]
    points = [point for _, _, found in curves for point in found]
    if not points:
        return Markup('<p class="soft">Nothing to draw.</p>')
    unit = figure.kind in UNIT
    (left, right), (low, high) = (_range([point[side] for point in points], unit=unit) for side in (0, 1))
    across, up = (WIDTH - LEFT - EDGE) / (right - left), (HEIGHT - BOTTOM - EDGE) / (high - low)

    def place(x: float, y: float) -> str:
        return f"{LEFT + (x - left) * across:.1f},{EDGE + (high - y) * up:.1f}"

    parts = [_axes(data, (left, right), (low, high))]
    if figure.kind in DIAGONAL:
        parts.append(Markup('<polyline class="guide" points="{} {}"/>').format(place(0, 0), place(1, 1)))
    for number, (name, _, found) in enumerate(curves):
        line = Markup('<polyline class="c{}" points="{}"><title>{}</title></polyline>')
        parts.append(line.format(number % COLOURS, " ".join(place(x, y) for x, y in found), name))
    return _svg(f"{figure.kind} {figure.name}", _join(parts)) + _legend(curves, data)


def _points(curve: Mapping[str, Any], default: str) -> tuple[str, Mapping[str, Any], list[tuple[float, float]]]:
    pairs = zip(map(_number, curve["x"]), map(_number, curve["y"]), strict=True)
    found = [pair for pair in pairs if all(map(math.isfinite, pair))]
    return str(curve.get("name", default)), curve, found


def _range(values: Sequence[float], *, unit: bool) -> tuple[float, float]:
    low, high = (0.0, 1.0) if unit else (min(values), max(values))
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _axes(data: Mapping[str, Any], across: tuple[float, float], up: tuple[float, float]) -> Markup:
    right, bottom = WIDTH - EDGE, HEIGHT - BOTTOM
    frame = Markup('<rect class="frame" x="{}" y="{}" width="{}" height="{}"/>')
    text = Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>')
    turned = Markup('<text transform="translate(12 {}) rotate(-90)" text-anchor="middle">{}</text>')
    return _join(
        [
            frame.format(LEFT, EDGE, right - LEFT, bottom - EDGE),
            text.format(LEFT, bottom + 14, "start", f"{across[0]:.3g}"),
            text.format(right, bottom + 14, "end", f"{across[1]:.3g}"),
            text.format(LEFT - 4, bottom, "end", f"{up[0]:.3g}"),
            text.format(LEFT - 4, EDGE + 9, "end", f"{up[1]:.3g}"),
            text.format((LEFT + right) // 2, HEIGHT - 4, "middle", str(data.get("x_label") or "")[:60]),
            turned.format((EDGE + bottom) // 2, str(data.get("y_label") or "")[:40]),
        ]
    )


def _legend(curves: Sequence[tuple[str, Mapping[str, Any], Any]], data: Mapping[str, Any]) -> Markup:
    entries = []
    for number, (name, curve, _) in enumerate(curves):
        area = f" {_shown(curve['area'])}" if curve.get("area") is not None else ""
        entries.append(Markup('<span class="key c{}">{}{}</span> ').format(number % COLOURS, name[:60], area))
    if data.get("area") is not None and len(curves) > 1:
        entries.append(Markup('<span class="soft">mean {}</span> ').format(_shown(data["area"])))
    if data.get("error") is not None:
        entries.append(Markup('<span class="soft">expected calibration error {}</span> ').format(_shown(data["error"])))
    if left := data.get("undefined"):
        entries.append(Markup('<span class="soft">no curve: {}</span> ').format(", ".join(map(str, left))[:300]))
    if count := data.get("classes_left_out"):
        entries.append(Markup('<span class="soft">{} rarer classes are not drawn</span>').format(count))
    return Markup('<div class="legend">{}</div>').format(_join(entries))


def _bars(data: Mapping[str, Any], notes: Sequence[str] = ()) -> Markup:
    names, values = [str(name) for name in data["names"]], [_number(value) for value in data["values"]]
    finite = [value for value in values if math.isfinite(value)]
    low, high = min([0.0, *finite]), max([0.0, *finite])
    scale = BARS / ((high - low) or 1)
    bar = Markup(
        '<g><title>{name} {value}</title><text x="{end}" y="{text}" text-anchor="end">{short}</text>'
        '<rect class="bar" x="{x:.1f}" y="{y}" width="{width:.1f}" height="{height}"/>'
        '<text x="{after}" y="{text}">{value}</text></g>'
    )
    parts = []
    for number, (name, value) in enumerate(zip(names, values, strict=True)):
        reach = value if math.isfinite(value) else 0.0
        shown = ("–" if math.isnan(value) else _shown(value)) + (notes[number] if notes else "")
        short = name if len(name) <= 22 else f"{name[:21]}…"
        spot = {"x": NAMES + 6 + (min(0.0, reach) - low) * scale, "width": abs(reach) * scale, "y": number * BAR + 3}
        fixed = {"end": NAMES, "text": number * BAR + 13, "height": BAR - 6, "after": NAMES + BARS + 12}
        parts.append(bar.format(name=name, short=short, value=shown, **spot, **fixed))
    width, height = NAMES + BARS + 110, max(1, len(names)) * BAR + 4
    return _svg("bars", _join(parts), width=width, height=height)


def _matrix(figure: FigureRecord) -> Markup:
    data = figure.data
    rows, columns = [str(each) for each in data["rows"]], [str(each) for each in data["columns"]]
    values = [[_number(value) for value in row] for row in data["values"]]
    most = max((abs(value) for row in values for value in row if math.isfinite(value)), default=0.0) or 1.0
    size = max(6, min(36, 300 // max(len(rows), len(columns), 1)))
    numbered, left, top = max(len(rows), len(columns)) <= MOST_NUMBERS, 80, 22
    cell = Markup(
        '<g><title>{title}</title><rect class="cell" x="{x}" y="{y}" width="{size}" height="{size}" '
        'fill-opacity="{share:.3f}"/>{number}</g>'
    )
    text = Markup('<text x="{}" y="{}" text-anchor="{}"{}>{}</text>')
    parts = []
    for down, (row, name) in enumerate(zip(values, rows, strict=True)):
        y = top + down * size
        if numbered:
            parts.append(text.format(left - 4, y + size // 2 + 4, "end", "", name[:12]))
        for along, (value, other) in enumerate(zip(row, columns, strict=True)):
            x, share = left + along * size, abs(value) / most if math.isfinite(value) else 0.0
            dark = Markup(' class="on"') if share > 0.6 else ""
            label = text.format(x + size // 2, y + size // 2 + 4, "middle", dark, f"{value:.4g}") if numbered else ""
            title = f"{name} → {other}: {value:.6g}"
            parts.append(cell.format(title=title, x=x, y=y, size=size, share=share, number=label))
    if numbered:
        heads = [(left + along * size + size // 2, name[:5]) for along, name in enumerate(columns)]
        parts += [text.format(x, top - 6, "middle", "", name) for x, name in heads]
    width, height = left + len(columns) * size + 4, top + len(rows) * size + 4
    return _svg(f"{figure.kind} {figure.name}", _join(parts), width=max(width, 120), height=height)
