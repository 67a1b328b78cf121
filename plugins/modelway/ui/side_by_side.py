"""Up to five versions beside one another: what differs first, then what is the same in all."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelway.lineage.records.readable import digest_text
from modelway.lineage.records.values import plain
from modelway.lineage.records.version import MetricSeries, VersionDetail, VersionSummary
from modelway.ui.charts.parallel import Line, differing


@dataclass(frozen=True, kw_only=True)
class Row:
    """One fact of each version; None where a version has none."""

    name: str
    values: tuple[Any, ...]

    @property
    def differs(self) -> bool:
        """Whether the versions have more than one value."""
        return len({json.dumps(plain(value), sort_keys=True, default=str) for value in self.values}) > 1


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The facts of several versions, by group; a version is a column."""

    metrics: tuple[Row, ...]
    params: tuple[Row, ...]
    facts: tuple[Row, ...]
    series: tuple[tuple[str, tuple[MetricSeries, ...]], ...]
    """each metric that training logged, with a curve for each version"""


def columns(details: Sequence[VersionDetail]) -> Columns:
    """Return several versions as rows of facts."""
    return Columns(
        metrics=_rows([each.summary.metrics for each in details]),
        params=_rows([_flat(each.params) for each in details]),
        facts=tuple(Row(name=name, values=tuple(map(of, details))) for name, of in _FACTS.items()),
        series=_series(details),
    )


def version_lines(
    several: Sequence[tuple[VersionSummary, Mapping[str, Mapping[str, Any]]]], *, at: str
) -> tuple[list[Line], list[str]]:
    """Return each version as a line across what differs, and the axes: parameters first, then metrics.

    :param several: versions with their parameters by stage
    :param at: the path of the model's page
    """
    params = [Line(name="", values=_single(_flat(values))) for _, values in several]
    metrics = [Line(name="", values=summary.metrics) for summary, _ in several]
    lines = [
        Line(
            name=f"v{summary.number}",
            values={**of_params.values, **of_metrics.values},
            note=", ".join(summary.aliases),
            href=f"{at}/versions/{summary.number}",
        )
        for (summary, _), of_params, of_metrics in zip(several, params, metrics, strict=True)
    ]
    return lines, list(dict.fromkeys([*differing(params), *differing(metrics)]))


def _single(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that are no objects, which JSON gives as dicts."""
    return {name: value for name, value in params.items() if not isinstance(value, dict)}


def _rows(several: Sequence[Mapping[str, Any]]) -> tuple[Row, ...]:
    names = dict.fromkeys(name for values in several for name in sorted(values))
    return tuple(Row(name=name, values=tuple(values.get(name) for values in several)) for name in names)


def _flat(params: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the parameters of all stages; one that all stages share stands once."""
    stages = list(params)
    if len(stages) == 1:
        return dict(params[stages[0]])
    found: dict[str, Any] = {}
    for name in dict.fromkeys(name for values in params.values() for name in values):
        having = [stage for stage in stages if name in params[stage]]
        shared = all(params[stage][name] == params[having[0]][name] for stage in having)
        if shared and having == stages:
            found[name] = params[having[0]][name]
        else:
            found |= {f"{stage}.{name}": params[stage][name] for stage in having}
    return found


def _series(details: Sequence[VersionDetail]) -> tuple[tuple[str, tuple[MetricSeries, ...]], ...]:
    """Return the curves of the last stage that logged a metric, under the version's name."""
    by_name: dict[str, dict[int, MetricSeries]] = {}
    for detail in details:
        for series in detail.series:
            by_name.setdefault(series.name, {})[detail.summary.number] = series
    return tuple(
        (name, tuple(_named(series, f"v{number}") for number, series in sorted(found.items())))
        for name, found in sorted(by_name.items())
    )


def _named(series: MetricSeries, name: str) -> MetricSeries:
    return MetricSeries(stage=name, name=series.name, steps=series.steps, values=series.values)


def _data(detail: VersionDetail) -> str | None:
    names = {f"{each.name} {each.version or digest_text(each.digest)}" for each in detail.run.datasets}
    return ", ".join(sorted(names)) or None


_FACTS: dict[str, Callable[[VersionDetail], Any]] = {
    "registered": lambda each: each.summary.created_at,
    "by": lambda each: each.summary.created_by,
    "checkpoint": lambda each: each.summary.checkpoint,
    "commit": lambda each: (each.run.commit or "")[:12] or None,
    "code": lambda each: digest_text(each.run.code_digest),
    "model": lambda each: digest_text(each.summary.model_digest),
    "data": _data,
    "seed": lambda each: each.run.seed,
    "began from": lambda each: None if each.base is None else f"v{each.base}",
    "training time, s": lambda each: each.run.seconds,
    "GPU time, s": lambda each: each.run.gpu_seconds,
    "archive, bytes": lambda each: each.summary.archive_size,
}
