"""Bars as a table: names of any length wrap, numbers can be copied, and a screen reader reads them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from modelway.lineage.records.version import ImportanceRecord
from modelway.ui.charts.svg import as_float, cut, join, shown

_ROW = Markup(
    '<tr><th scope="row">{name}</th><td class="length"><svg viewBox="0 0 100 12" preserveAspectRatio="none" '
    'aria-hidden="true"><rect class="bar{sign}" x="{x:.2f}" y="1" width="{width:.2f}" height="10"/>{more}</svg></td>'
    '<td class="number">{value}{note}</td></tr>'
)
_LINE = Markup('<line class="{}" x1="{:.2f}" y1="{}" x2="{:.2f}" y2="{}"/>')


def figure_bars(data: Mapping[str, Any]) -> Markup:
    """Return the bars that a job drew."""
    names, values = [str(name) for name in data["names"]], [as_float(value) for value in data["values"]]
    heads = tuple(str(data.get(label) or "") for label in ("x_label", "y_label"))
    return _table(names, values, deviations=[0.0] * len(names), heads=(heads[0], heads[1]), reach=_reach(values))


def importance_bars(importances: Sequence[ImportanceRecord], *, most: int = 30) -> Markup:
    """Return the most important features, each with its deviation; those after them can be unfolded."""
    heads = ("feature", f"{importances[0].metric or 'metric'}, ± deviation" if importances else "")
    values = [as_float(each.importance) for each in importances]
    deviations = [as_float(each.deviation) for each in importances]
    names = [each.feature for each in importances]
    ends = [value + sign * spread for value, spread in zip(values, deviations, strict=True) for sign in (-1, 1)]
    reach = _reach([*values, *ends])
    parts = [_table(names[:most], values[:most], deviations=deviations[:most], heads=heads, reach=reach)]
    if names[most:]:
        rest = _table(names[most:], values[most:], deviations=deviations[most:], heads=heads, reach=reach)
        details = Markup("<details><summary>{:,} less important</summary>{}</details>")
        parts.append(details.format(len(names) - most, rest))
    return join(parts)


def _reach(values: Sequence[float]) -> tuple[float, float]:
    """Return the range of the bars, which includes zero."""
    finite = [value for value in values if math.isfinite(value)]
    return min([0.0, *finite]), max([0.0, *finite])


def _table(
    names: Sequence[str],
    values: Sequence[float],
    *,
    deviations: Sequence[float],
    heads: tuple[str, str],
    reach: tuple[float, float],
) -> Markup:
    low, high = reach
    # Halved, so that the distance of the greatest numbers stays finite.
    whole = (high / 2 - low / 2) or 1.0

    def at(value: float) -> float:
        return min(100.0, max(0.0, 100 * ((value / 2 - low / 2) / whole)))

    rows = []
    for name, value, deviation in zip(names, values, deviations, strict=True):
        ends = sorted((at(0.0), at(value if math.isfinite(value) else 0.0)))
        more = _LINE.format("zero", at(0.0), 0, at(0.0), 12) if low < 0 else Markup("")
        note = ""
        if math.isfinite(value) and math.isfinite(deviation) and deviation > 0:
            note = f" ± {deviation:.3g}"
            more += _LINE.format("spread", at(value - deviation), 6, at(value + deviation), 6)
        rows.append(
            _ROW.format(
                name=cut(name, 200),
                sign=" below" if value < 0 else "",
                x=ends[0],
                width=ends[1] - ends[0],
                more=more,
                value="–" if math.isnan(value) else shown(value),
                note=note,
            )
        )
    head = Markup('<thead><tr><th scope="col">{}</th><td></td><th scope="col" class="number">{}</th></tr></thead>')
    return Markup('<table class="bars">{}<tbody>{}</tbody></table>').format(
        head.format(*heads) if any(heads) else "", join(rows)
    )
