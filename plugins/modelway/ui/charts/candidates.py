"""The candidates of a sweep as lines through their parameters to their metrics."""

from collections.abc import Sequence

from markupsafe import Markup

from modelway.lineage.records.sweep import ranked, searched_params
from modelway.lineage.records.version import CandidateRecord
from modelway.ui.charts.parallel import MOST_AXES, Line, differing, parallel_coordinates


def candidate_lines(candidates: Sequence[CandidateRecord]) -> Markup:
    """Return the chart: the parameters that differ, then the metrics, and the selected candidate first."""
    lines = [
        Line(name=each.name, values={**each.params, **each.metrics}, note=each.state) for each in ranked(candidates)
    ]
    known = differing(lines)
    params = [name for name in searched_params(candidates) if name in known]
    metrics = list(dict.fromkeys(name for each in candidates for name in each.metrics))
    shown = [name for name in metrics if name in known and name not in params]
    # The metrics are what the lines are read for: of many parameters the last ones have no axis.
    axes = [*params[: max(1, MOST_AXES - len(shown))], *shown]
    return parallel_coordinates(lines, axes, title="Candidates of the sweep")
