"""What the servers of a predictor count themselves, read from their pods through the API server."""

import re
from collections import Counter
from datetime import datetime

from modelway.endpoints.base import PredictorMetrics
from modelway.endpoints.gateway.latency import request_seconds
from modelway.endpoints.kubernetes import waiting
from modelway.endpoints.kubernetes.cluster import ClusterObjects
from modelway.endpoints.kubernetes.desired import PORT
from modelway.endpoints.kubernetes.record import Seat
from modelway.errors import SubmitFailed
from modelway.platforms.kubernetes.api import Object

_ANSWERED = re.compile(r'^modelway_requests_total\{[^}]*code="(\d)\d\d"[^}]*\} (\S+)$', re.MULTILINE)


def server_metrics(cluster: ClusterObjects, name: str, seat: Seat) -> PredictorMetrics:
    """Return the counts of a predictor's pods together.

    A server that ended took its counts with it: counting began when the youngest one started.
    """
    pods = [pod for pod in cluster.pods(predictor=name) if waiting.is_ready(pod)]
    pages = [_page(cluster, pod) for pod in pods]
    answered: Counter[str] = Counter()
    for page in pages:
        for kind, number in _ANSWERED.findall(page):
            answered[kind] += int(float(number))
    return PredictorMetrics(
        requests=sum(answered.values()),
        client_errors=answered["4"],
        server_errors=answered["5"],
        broken_answers=0,
        rerouted=0,
        since=max([seat.since, *map(_started, pods)]),
        latency=request_seconds(pages),
    )


def _page(cluster: ClusterObjects, pod: Object) -> str:
    try:
        return cluster.objects.page(cluster.desired.namespace, pod["metadata"]["name"], port=PORT, path="/metrics")
    except SubmitFailed:
        # It has just ended.
        return ""


def _started(pod: Object) -> float:
    running = [(one.get("state") or {}).get("running") or {} for one in (pod.get("status") or {})["containerStatuses"]]
    moments = [datetime.fromisoformat(str(each["startedAt"])).timestamp() for each in running if each.get("startedAt")]
    return max(moments, default=0.0)
