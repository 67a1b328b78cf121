"""The counts of an endpoint's deployed models since it was changed, as Cloud Monitoring has them."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from modelway.endpoints.base import PredictorMetrics
from modelway.endpoints.vertex.observed import Seen
from modelway.platforms.google.monitoring import Query, Sums, seconds_of, sums
from modelway.platforms.google.rest import GoogleApi

_DEPLOYED = "metric.labels.deployed_model_id"
_RESOURCE = "aiplatform.googleapis.com/Endpoint"
_PREFIX = "aiplatform.googleapis.com/prediction/online"
_MILLISECONDS = 1000.0


@dataclass
class Counts:
    """Reads the counts, and not again within some seconds: they are a minute apart."""

    api: GoogleApi
    fresh_seconds: float = 10.0
    _known: dict[tuple[str, float], tuple[float, list[Sums], list[Sums]]] = field(default_factory=dict)

    def read(self, seen: Seen, ids: Mapping[str, str], *, project: str) -> Mapping[str, PredictorMetrics]:
        """Return the counts by predictor since the endpoint was changed last: nothing of another split is in them.

        :param ids: of the deployed models, by predictor
        :raises GoogleError: Cloud Monitoring refuses or does not answer
        """
        since = seconds_of(str(seen.endpoint.get("updateTime") or ""))
        requests, latencies = self._sums(seen.name, since, project=project)
        return {name: _metrics(key, requests=requests, latencies=latencies, since=since) for name, key in ids.items()}

    def _sums(self, endpoint: str, since: float, *, project: str) -> tuple[list[Sums], list[Sums]]:
        key = (endpoint, since)
        known = self._known.get(key)
        if known is None or time.monotonic() > known[0] + self.fresh_seconds:
            chosen = f'resource.type = "{_RESOURCE}" AND resource.labels.endpoint_id = "{endpoint}"'
            by_code = (_DEPLOYED, "metric.labels.response_code")
            requests = Query(metric=f"{_PREFIX}/response_count", filter=chosen, labels=by_code, since=since)
            total = f'{chosen} AND metric.labels.latency_type = "total"'
            latencies = Query(metric=f"{_PREFIX}/prediction_latencies", filter=total, labels=(_DEPLOYED,), since=since)
            known = (time.monotonic(), sums(self.api, project, requests), sums(self.api, project, latencies))
            self._known = {key: known}
        return known[1], known[2]


def _metrics(deployed_id: str, *, requests: list[Sums], latencies: list[Sums], since: float) -> PredictorMetrics:
    of_class: dict[str, int] = {}
    for one in requests:
        if one.labels[0] == deployed_id:
            of_class[one.labels[1][:1]] = of_class.get(one.labels[1][:1], 0) + one.count
    latency: dict[float, int] = {}
    for one in latencies:
        if one.labels[0] == deployed_id:
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
