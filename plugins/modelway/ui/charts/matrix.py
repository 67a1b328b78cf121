"""A matrix as SVG: a confusion matrix, or any other one."""

import math
from collections.abc import Sequence

from markupsafe import Markup

from modelway.lineage.records.version import FigureRecord
from modelway.ui.charts.svg import as_float, breadth, cut, join, short, svg

#: of a matrix with more cells across, the numbers show on hovering
MOST_NUMBERS = 12
#: how many letters of a row's or a column's name are shown, and the width and height of one
NAME, WIDE, HIGH = 14, 7.6, 12
#: a cell with a number in it has room for four digits
LEAST = 30
#: the darkest cell behind a number, which must be read on it
DARKEST = 0.55
_CELL = Markup(
    '<g><title>{title}</title><rect class="cell" x="{x}" y="{y}" width="{size}" height="{size}" '
    'fill-opacity="{share:.3f}"/>{number}</g>'
)
_TEXT = Markup('<text x="{:.0f}" y="{:.0f}" text-anchor="{}">{}</text>')
_TURNED = Markup('<text transform="translate({:.0f} {:.0f}) rotate(-60)">{}</text>')
_NUMBER = Markup('<text class="number" x="{:.0f}" y="{:.0f}" text-anchor="middle">{}</text>')


def figure_matrix(figure: FigureRecord, *, title: str) -> Markup:
    """Return a matrix; a confusion matrix is shaded by row, so that rare classes are seen as well as frequent ones."""
    data, is_confusion = figure.data, figure.kind == "confusion"
    rows, columns = [str(each) for each in data["rows"]], [str(each) for each in data["columns"]]
    values = [[as_float(value) for value in row] for row in data["values"]]
    along, down = (
        str(data.get(key) or (default if is_confusion else ""))
        for key, default in (("x_label", "said"), ("y_label", "true"))
    )
    across = max(len(rows), len(columns), 1)
    numbered = across <= MOST_NUMBERS
    size = max(LEAST, min(36, 300 // across)) if numbered else max(6, 300 // across)
    flat = _longest(columns) * WIDE <= size - 2
    left = int(_longest(rows) * WIDE) + 10 + (16 if down else 0)
    head = HIGH + 8 if flat else int(_longest(columns) * WIDE * 0.87) + 14
    top = head + (16 if along else 0)
    most = max((abs(value) for row in values for value in row if math.isfinite(value)), default=0.0) or 1.0
    darkest = DARKEST if numbered else 1.0
    parts = []
    for y, (row, name) in enumerate(zip(values, rows, strict=True)):
        total = sum(row)
        for x, (value, other) in enumerate(zip(row, columns, strict=True)):
            at = {"x": left + x * size, "y": top + y * size}
            label = f"{down} {name}, {along} {other}: {value:.6g}" if is_confusion else f"{name} → {other}: {value:.6g}"
            if is_confusion and total > 0:
                label += f", {100 * value / total:.3g} % of the row"
            middle = (at["x"] + size / 2, at["y"] + size / 2 + 4)
            number = _NUMBER.format(*middle, _cell_text(value, size)) if numbered else ""
            among = total if is_confusion else most
            share = abs(value) / among * darkest if math.isfinite(value) and among > 0 else 0.0
            parts.append(_CELL.format(title=label, size=size, share=share, number=number, **at))
    parts += _row_names(rows, left=left, top=top, size=size) + _column_names(columns, left=left, top=top, size=size)
    width, height = left + len(columns) * size, top + len(rows) * size
    if along:
        parts.append(_TEXT.format(left + len(columns) * size / 2, 12, "middle", cut(along, 40)))
    if down:
        turned = Markup('<text transform="translate(12 {:.0f}) rotate(-90)" text-anchor="middle">{}</text>')
        parts.append(turned.format(top + len(rows) * size / 2, cut(down, 40)))
    # The last of the turned names reaches beyond its column.
    room = 4 if flat else 4 + int(_longest(columns) * WIDE * 0.5)
    label = f"{len(rows)} rows, {len(columns)} columns"
    if is_confusion and rows == columns:
        right, total = sum(values[place][place] for place in range(len(rows))), sum(map(sum, values))
        label += f"; {right:.6g} of {total:.6g} are on the diagonal; shaded by the share of the row"
    note = Markup('<ul class="legend"><li class="soft">{}</li></ul>').format(label)
    return svg(title, label, join(parts), width=max(width + room, 120), height=height + 4) + note


def _cell_text(value: float, size: int) -> str:
    text = "–" if math.isnan(value) else short(value)
    # What is too long shows on hovering.
    return text if breadth(text) * 6.9 <= size + 4 else "…"


def _longest(names: Sequence[str]) -> float:
    return max((breadth(cut(name, NAME)) for name in names), default=0.0)


def _every(size: int) -> int:
    """Return the step between the names that fit."""
    return -(-HIGH // size)


def _row_names(rows: Sequence[str], *, left: int, top: int, size: int) -> list[Markup]:
    spots = enumerate(rows)
    return [
        _TEXT.format(left - 5, top + y * size + size / 2 + 4, "end", cut(name, NAME))
        for y, name in spots
        if not y % _every(size)
    ]


def _column_names(columns: Sequence[str], *, left: int, top: int, size: int) -> list[Markup]:
    named = [(left + x * size + size / 2, cut(name, NAME)) for x, name in enumerate(columns) if not x % _every(size)]
    if _longest(columns) * WIDE <= size - 2:
        return [_TEXT.format(x, top - 6, "middle", name) for x, name in named]
    return [_TURNED.format(x + 4, top - 5, name) for x, name in named]
