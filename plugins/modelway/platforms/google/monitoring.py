"""Counts that Cloud Monitoring has of what happened since a time, added up by labels.

Source: the Cloud Monitoring API v3, ``projects.timeSeries.list``.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from modelway.platforms.google.exchange import Document
from modelway.platforms.google.rest import GoogleApi

#: the least period that values are added up over
_PERIOD_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Query:
    """A metric of some resources, added up by labels."""

    metric: str
    #: what else the series must have, such as ``resource.labels.service_name = "digits"``
    filter: str
    #: such as ``resource.labels.revision_name``
    labels: tuple[str, ...]
    #: seconds since the epoch
    since: float


@dataclass(frozen=True, kw_only=True)
class Sums:
    """A series: the values of its labels, in the order of the query, and what was counted."""

    labels: tuple[str, ...]
    count: int
    #: of a distribution: how many by the upper bound of their value; not cumulative, the last bound is infinite
    buckets: Mapping[float, int] = field(default_factory=dict)


def sums(api: GoogleApi, project: str, query: Query) -> list[Sums]:
    """Return what was counted from ``since`` until now, as far as Cloud Monitoring has it: minutes late.

    All of it is one period that begins exactly then and ends within the next minute, so nothing of before is in it.

    :raises GoogleError: it was refused, or not answered
    """
    periods = max(1, math.ceil((api.now() - query.since) / _PERIOD_SECONDS))
    params = {
        "filter": f'metric.type = "{query.metric}" AND {query.filter}',
        "interval.startTime": _timestamp(query.since),
        "interval.endTime": _timestamp(query.since + periods * _PERIOD_SECONDS),
        "aggregation.alignmentPeriod": f"{periods * _PERIOD_SECONDS}s",
        "aggregation.perSeriesAligner": "ALIGN_DELTA",
        "aggregation.crossSeriesReducer": "REDUCE_SUM",
        "aggregation.groupByFields": list(query.labels),
        "view": "FULL",
    }
    found = api.pages("monitoring", f"projects/{project}/timeSeries", "timeSeries", params=params)
    return [_sums(series, query.labels) for series in found]


def _sums(series: Document, labels: Sequence[str]) -> Sums:
    values = [point.get("value") or {} for point in series.get("points") or ()]
    buckets: dict[float, int] = {}
    count = 0
    for value in values:
        if "distributionValue" in value:
            distribution = value["distributionValue"]
            count += int(distribution.get("count") or 0)
            for bound, number in _buckets(distribution):
                buckets[bound] = buckets.get(bound, 0) + number
        else:
            count += int(value.get("int64Value") or value.get("doubleValue") or 0)
    return Sums(labels=tuple(_label(series, each) for each in labels), count=count, buckets=buckets)


def _label(series: Mapping[str, Any], path: str) -> str:
    part, _, name = path.partition(".labels.")
    return str(((series.get(part) or {}).get("labels") or {}).get(name, ""))


def _buckets(distribution: Mapping[str, Any]) -> Iterator[tuple[float, int]]:
    """Yield upper bound and count of each bucket, the one without an upper bound last."""
    counts = [int(each) for each in distribution.get("bucketCounts") or ()]
    bounds = _bounds(distribution.get("bucketOptions") or {})
    # Those after the last count above zero are left out.
    counts += [0] * (len(bounds) + 1 - len(counts))
    yield from zip([*bounds, math.inf], counts, strict=False)


def _bounds(options: Mapping[str, Any]) -> list[float]:
    if found := options.get("explicitBuckets"):
        return [float(each) for each in found.get("bounds") or ()]
    if found := options.get("exponentialBuckets"):
        growth, scale = float(found["growthFactor"]), float(found["scale"])
        return [scale * growth**index for index in range(int(found["numFiniteBuckets"]) + 1)]
    if found := options.get("linearBuckets"):
        width, offset = float(found["width"]), float(found.get("offset") or 0)
        return [offset + width * index for index in range(int(found["numFiniteBuckets"]) + 1)]
    return []


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def seconds_of(timestamp: str) -> float:
    """Return the seconds since the epoch of one of Google's timestamps; 0 for none.

    It may have nine digits of a second, of which Python reads six.
    """
    if not timestamp:
        return 0.0
    whole, dot, rest = timestamp.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{whole}{dot}{rest[:6].ljust(6, '0') if dot else ''}+00:00").timestamp()
