"""The counts of an endpoint's deployed models since it was changed, as Cloud Monitoring has them."""

from collections.abc import Mapping

from modelway.endpoints.base import PredictorMetrics
from modelway.endpoints.google.counts import MonitoredCounts, predictor_metrics
from modelway.endpoints.vertex.observed import Seen
from modelway.platforms.google.monitoring import Query, seconds_of

_DEPLOYED = "metric.labels.deployed_model_id"
_RESOURCE = "aiplatform.googleapis.com/Endpoint"
_PREFIX = "aiplatform.googleapis.com/prediction/online"


class Counts(MonitoredCounts):
    """The counts of endpoints."""

    def read(self, seen: Seen, ids: Mapping[str, str], *, project: str) -> Mapping[str, PredictorMetrics]:
        """Return the counts by predictor since the endpoint was changed last: nothing of another split is in them.

        :param ids: of the deployed models, by predictor
        :raises GoogleError: Cloud Monitoring refuses or does not answer
        """
        since = seconds_of(str(seen.endpoint.get("updateTime") or ""))
        chosen = f'resource.type = "{_RESOURCE}" AND resource.labels.endpoint_id = "{seen.name}"'
        by_code = (_DEPLOYED, "metric.labels.response_code")
        total = f'{chosen} AND metric.labels.latency_type = "total"'
        requests, latencies = self.sums(
            seen.name,
            Query(metric=f"{_PREFIX}/response_count", filter=chosen, labels=by_code, since=since),
            Query(metric=f"{_PREFIX}/prediction_latencies", filter=total, labels=(_DEPLOYED,), since=since),
            project=project,
        )
        return {
            name: predictor_metrics(key, requests=requests, latencies=latencies, since=since)
            for name, key in ids.items()
        }
