"""The counts of a service's revisions since its split was changed, as Cloud Monitoring has them.

A server's own counters are no source: the URL of a tag reaches one of a revision's instances, and they end with it.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from modelway.endpoints.base import PredictorMetrics
from modelway.endpoints.cloud_run.observed import Seen
from modelway.platforms.google.monitoring import Query, Sums, seconds_of, sums
from modelway.platforms.google.rest import GoogleApi

_REVISION = "resource.labels.revision_name"
_REQUESTS = "run.googleapis.com/request_count"
_LATENCIES = "run.googleapis.com/request_latencies"
_MILLISECONDS = 1000.0


@dataclass
class Counts:
    """Reads the counts, and not again within some seconds: they are a minute apart."""

    api: GoogleApi
    fresh_seconds: float = 10.0
    _known: dict[tuple[str, float], tuple[float, list[Sums], list[Sums]]] = field(default_factory=dict)

    def read(self, seen: Seen, *, project: str) -> Mapping[str, PredictorMetrics]:
        """Return the counts by predictor since the service was changed last: nothing of another split is in them.

        :raises GoogleError: Cloud Monitoring refuses or does not answer
        """
        since = seconds_of(str(seen.service.get("updateTime") or ""))
        requests, latencies = self._sums(seen.name, since, project=project)
        return {
            made.name: _metrics(each["revision"], requests=requests, latencies=latencies, since=since)
            for each, made in seen.predictors()
        }

    def _sums(self, service: str, since: float, *, project: str) -> tuple[list[Sums], list[Sums]]:
        key = (service, since)
        known = self._known.get(key)
        if known is None or time.monotonic() > known[0] + self.fresh_seconds:
            chosen = f'resource.type = "cloud_run_revision" AND resource.labels.service_name = "{service}"'
            by_code = (_REVISION, "metric.labels.response_code_class")
            requests = Query(metric=_REQUESTS, filter=chosen, labels=by_code, since=since)
            latencies = Query(metric=_LATENCIES, filter=chosen, labels=(_REVISION,), since=since)
            known = (time.monotonic(), sums(self.api, project, requests), sums(self.api, project, latencies))
            self._known = {key: known}
        return known[1], known[2]


def _metrics(revision: str, *, requests: list[Sums], latencies: list[Sums], since: float) -> PredictorMetrics:
    of_class: dict[str, int] = {}
    for one in requests:
        if one.labels[0] == revision:
            of_class[one.labels[1]] = of_class.get(one.labels[1], 0) + one.count
    latency: dict[float, int] = {}
    for one in latencies:
        if one.labels[0] == revision:
            for bound, count in one.buckets.items():
                latency[bound / _MILLISECONDS] = latency.get(bound / _MILLISECONDS, 0) + count
    return PredictorMetrics(
        requests=sum(of_class.values()),
        client_errors=of_class.get("4xx", 0),
        server_errors=of_class.get("5xx", 0),
        broken_answers=0,
        rerouted=0,
        since=since,
        latency=dict(sorted(latency.items())),
    )
