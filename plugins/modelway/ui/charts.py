"""Figures as a page shows them: nothing is loaded, no style is inline, and every text is escaped."""

from collections.abc import Sequence
from itertools import groupby

from markupsafe import Markup

from modelway.lineage.record import FigureRecord, MetricSeries
from modelway.ui.bars import figure_bars
from modelway.ui.curves import figure_curves, metric_curves
from modelway.ui.matrix import figure_matrix

_TITLES = {"roc": "ROC", "pr": "Precision and recall", "confusion": "Confusion matrix", "calibration": "Calibration"}


def figure_title(figure: FigureRecord) -> str:
    """Return what stands above a figure: its name, or in words what the job called by the kind."""
    return _TITLES.get(figure.kind, figure.name) if figure.name == figure.kind else figure.name


def chart(figure: FigureRecord) -> Markup:
    """Return a figure with its legend; one that holds other data than its kind has is told as such."""
    title = figure_title(figure)
    try:
        if "values" in figure.data:
            return figure_bars(figure.data) if "names" in figure.data else figure_matrix(figure, title=title)
        return figure_curves(figure, title=title)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError):
        return Markup('<p class="soft">This figure of kind {} cannot be drawn.</p>').format(figure.kind)


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
