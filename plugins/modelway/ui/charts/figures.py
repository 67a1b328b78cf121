"""Figures as a page shows them: nothing is loaded, no style is inline, and every text is escaped."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from markupsafe import Markup

from modelway.lineage.records.version import FigureRecord, MetricSeries
from modelway.ui.charts.bars import figure_bars
from modelway.ui.charts.curves import figure_curves, metric_curves
from modelway.ui.charts.matrix import figure_matrix

#: of one figure; more would make a page of many megabytes that shows nothing more
MOST_CELLS, MOST_BARS, MOST_POINTS = 2_500, 1_000, 20_000
_TITLES = {"roc": "ROC", "pr": "Precision and recall", "confusion": "Confusion matrix", "calibration": "Calibration"}


def figure_title(figure: FigureRecord) -> str:
    """Return the title of a figure: its name, or the kind in plain English."""
    return _TITLES.get(figure.kind, figure.name) if figure.name == figure.kind else figure.name


def chart(figure: FigureRecord) -> Markup:
    """Return a figure with its legend; one whose data does not fit its kind is marked as such."""
    title = figure_title(figure)
    try:
        if size := _too_large(figure.data):
            return Markup('<p class="soft">This figure is too large to be drawn: {}.</p>').format(size)
        if "values" in figure.data:
            return figure_bars(figure.data) if "names" in figure.data else figure_matrix(figure, title=title)
        return figure_curves(figure, title=title)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError):
        return Markup('<p class="soft">This figure of kind {} cannot be drawn.</p>').format(figure.kind)


def _too_large(data: Mapping[str, Any]) -> str | None:
    """Return what of a figure is more than a page can show; what jobs record is less, but a record may be older."""
    if "rows" in data and (cells := len(data["rows"]) * len(data["columns"])) > MOST_CELLS:
        return f"it has {cells:,} cells, at most {MOST_CELLS:,} are drawn"
    if "names" in data and len(data["names"]) > MOST_BARS:
        return f"it has {len(data['names']):,} bars, at most {MOST_BARS:,} are drawn"
    points = sum(len(curve["x"]) for curve in data.get("curves", ())) + len(data.get("x", ()))
    return f"it has {points:,} points, at most {MOST_POINTS:,} are drawn" if points > MOST_POINTS else None


def training_charts(series: Sequence[MetricSeries], stages: Sequence[str] = ()) -> list[tuple[str, Markup]]:
    """Return the name and the chart of each metric that training logged; its stages share one.

    :param stages: the names of the stages in the order in which they ran
    """
    places = {stage: place for place, stage in enumerate(stages)}
    ordered = sorted(series, key=lambda each: (each.name, places.get(each.stage, -1)))
    by_name = groupby(ordered, key=lambda each: each.name)
    return [(name, _metric(list(several))) for name, several in by_name]


def _metric(several: Sequence[MetricSeries]) -> Markup:
    try:
        return metric_curves(several)
    except ArithmeticError:
        return Markup('<p class="soft">Its numbers are too far apart to be drawn.</p>')
