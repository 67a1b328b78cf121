"""The counts of predictors as Cloud Monitoring has them: a minute apart, so they are read again only after a while."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from modelway.endpoints.base import PredictorMetrics
from modelway.platforms.google.monitoring import Query, Sums, sums
from modelway.platforms.google.rest import GoogleApi

_MILLISECONDS = 1000.0


@dataclass
class MonitoredCounts:
    """Reads the sums of requests and latencies, and not again within some seconds."""

    api: GoogleApi
    fresh_seconds: float = 10.0
    _known: dict[tuple[str, float], tuple[float, list[Sums], list[Sums]]] = field(default_factory=dict)

    def sums(self, name: str, requests: Query, latencies: Query, *, project: str) -> tuple[list[Sums], list[Sums]]:
        """Return the sums of both queries, which are of the same name and time.

        :raises GoogleError: Cloud Monitoring refuses or does not answer
        """
        key = (name, requests.since)
        known = self._known.get(key)
        if known is None or time.monotonic() > known[0] + self.fresh_seconds:
            known = (time.monotonic(), sums(self.api, project, requests), sums(self.api, project, latencies))
            self._known = {key: known}
        return known[1], known[2]


def predictor_metrics(
    key: str, *, requests: Iterable[Sums], latencies: Iterable[Sums], since: float
) -> PredictorMetrics:
    """Return the counts of one predictor.

    :param key: the first label of its sums; the second label of requests is a status or its class, ``503`` or ``5xx``
    """
    of_class: dict[str, int] = {}
    for one in requests:
        if one.labels[0] == key:
            of_class[one.labels[1][:1]] = of_class.get(one.labels[1][:1], 0) + one.count
    latency: dict[float, int] = {}
    for one in latencies:
        if one.labels[0] == key:
            for bound, count in one.buckets.items():
                latency[bound / _MILLISECONDS] = latency.get(bound / _MILLISECONDS, 0) + count
    return PredictorMetrics(
        requests=sum(of_class.values()),
        client_errors=of_class.get("4", 0),
        server_errors=of_class.get("5", 0),
        broken_answers=0,
        rerouted=0,
        since=since,
        latency=dict(sorted(latency.items())),
    )
