"""The counts of a service's revisions since its split was changed, as Cloud Monitoring has them.

A server's own counters are no source: the URL of a tag reaches one of a revision's instances, and they end with it.
"""

from collections.abc import Mapping

from modelway.endpoints.base import PredictorMetrics
from modelway.endpoints.cloud_run.observed import Seen
from modelway.endpoints.google.counts import MonitoredCounts, predictor_metrics
from modelway.platforms.google.monitoring import Query, seconds_of

_REVISION = "resource.labels.revision_name"
_REQUESTS = "run.googleapis.com/request_count"
_LATENCIES = "run.googleapis.com/request_latencies"


class Counts(MonitoredCounts):
    """The counts of services."""

    def read(self, seen: Seen, *, project: str) -> Mapping[str, PredictorMetrics]:
        """Return the counts by predictor since the service was changed last: nothing of another split is in them.

        :raises GoogleError: Cloud Monitoring refuses or does not answer
        """
        since = seconds_of(str(seen.service.get("updateTime") or ""))
        chosen = f'resource.type = "cloud_run_revision" AND resource.labels.service_name = "{seen.name}"'
        by_code = (_REVISION, "metric.labels.response_code_class")
        requests, latencies = self.sums(
            seen.name,
            Query(metric=_REQUESTS, filter=chosen, labels=by_code, since=since),
            Query(metric=_LATENCIES, filter=chosen, labels=(_REVISION,), since=since),
            project=project,
        )
        return {
            made.name: predictor_metrics(each["revision"], requests=requests, latencies=latencies, since=since)
            for each, made in seen.predictors()
        }
