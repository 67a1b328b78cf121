"""Cloud Monitoring as far as endpoints need it: what happened is counted, and shown some time later."""

import bisect
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.google.documents import Invalid
from tests.google.fake import Call, GoogleFake
from tests.google.lists import page_of

#: upper bounds of the latencies that Google's services report, in milliseconds: 1.1 to the power of 0, 1, 2 …
_GROWTH, _FINITE = 1.1, 120
_BOUNDS = [_GROWTH**index for index in range(_FINITE + 1)]
_TERM = re.compile(r'\s*(metric\.type|resource\.type|(?:metric|resource)\.labels\.\w+)\s*=\s*"([^"]*)"\s*')


@dataclass(frozen=True)
class _Point:
    metric: str
    resource: str
    labels: Mapping[str, str]
    at: float
    #: of a distribution; None: one more of a counter
    value: float | None


class Monitoring:
    """``projects.timeSeries.list``."""

    def __init__(self, fake: GoogleFake) -> None:
        self._fake, self._points, self._lock = fake, list[_Point](), threading.Lock()
        self.late_seconds = 0.0
        """How old a point must be to be shown."""
        fake.handle("monitoring.projects.timeSeries.list", self._list)

    def record(self, metric: str, resource: str, labels: Mapping[str, str], value: float | None = None) -> None:
        """Count one event.

        :param labels: by path, such as ``resource.labels.service_name``
        :param value: of a distribution
        """
        with self._lock:
            self._points.append(_Point(metric, resource, labels, self._fake.clock.now(), value))

    def _list(self, call: Call) -> Mapping[str, Any]:
        query = call.query
        begin, end = (_seconds(query[f"interval.{name}Time"]) for name in ("start", "end"))
        period = query.get("aggregation.alignmentPeriod", "")
        if not re.fullmatch(r"\d+s", period) or int(period[:-1]) < 60:
            raise Invalid("Field aggregation.alignmentPeriod had an invalid value: must be at least 60 seconds.")
        if query.get("aggregation.perSeriesAligner") != "ALIGN_DELTA" or begin >= end:
            raise Invalid("The fake knows ALIGN_DELTA over an interval alone.")
        terms = dict(_terms(query["filter"]))
        groups: dict[tuple[str, ...], list[_Point]] = {}
        names = [name for name in query.get("aggregation.groupByFields", "").split(",") if name]
        shown = self._fake.clock.now() - self.late_seconds
        with self._lock:
            points = [each for each in self._points if begin < each.at <= min(end, shown) and _matches(each, terms)]
        for each in points:
            groups.setdefault(tuple(each.labels.get(name, "") for name in names), []).append(each)
        series = [_series(names, labels, found, query) for labels, found in sorted(groups.items())]
        return page_of(series, key="timeSeries", query=query)


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def _terms(text: str) -> list[tuple[str, str]]:
    found = []
    for part in text.split(" AND "):
        term = _TERM.fullmatch(part)
        if term is None:
            raise Invalid(f"Field filter had an invalid value: {text}")
        found.append((term[1], term[2]))
    return found


def _matches(point: _Point, terms: Mapping[str, str]) -> bool:
    known = {**point.labels, "metric.type": point.metric, "resource.type": point.resource}
    return all(known.get(name) == value for name, value in terms.items())


def _series(
    names: list[str], labels: tuple[str, ...], points: list[_Point], query: Mapping[str, str]
) -> dict[str, Any]:
    parts: dict[str, dict[str, str]] = {"metric": {}, "resource": {}}
    for name, value in zip(names, labels, strict=True):
        part, _, label = name.partition(".labels.")
        parts[part][label] = value
    values = [each.value for each in points if each.value is not None]
    interval = {"startTime": query["interval.startTime"], "endTime": query["interval.endTime"]}
    value = {"distributionValue": _distribution(values)} if values else {"int64Value": str(len(points))}
    return {
        "metric": {"type": points[0].metric, "labels": parts["metric"]},
        "resource": {"type": points[0].resource, "labels": parts["resource"]},
        "metricKind": "DELTA",
        "valueType": "DISTRIBUTION" if values else "INT64",
        "points": [{"interval": interval, "value": value}],
    }


def _distribution(values: list[float]) -> dict[str, Any]:
    counts = [0] * (_FINITE + 2)
    for value in values:
        counts[bisect.bisect_right(_BOUNDS, value)] += 1
    while counts and not counts[-1]:
        counts.pop()
    options = {"exponentialBuckets": {"numFiniteBuckets": _FINITE, "growthFactor": _GROWTH, "scale": 1.0}}
    return {
        "count": str(len(values)),
        "mean": sum(values) / len(values),
        "bucketOptions": options,
        "bucketCounts": [str(count) for count in counts],
    }
