"""What the servers of a predictor count themselves, read from their pods through the API server."""

import re
from collections import Counter

from modelway.endpoints.base import PredictorMetrics
from modelway.endpoints.gateway.server_counts import read_server_counts
from modelway.endpoints.kubernetes import waiting
from modelway.endpoints.kubernetes.cluster import ClusterObjects
from modelway.endpoints.kubernetes.desired import PORT
from modelway.endpoints.kubernetes.record import Seat
from modelway.errors import EndpointNotReady, SubmitFailed
from modelway.platforms.kubernetes.api import Object

_ANSWERED = re.compile(r'^modelway_requests_total\{[^}]*code="(\d)\d\d"[^}]*\} (\S+)$', re.MULTILINE)


def server_metrics(cluster: ClusterObjects, name: str, seat: Seat) -> PredictorMetrics:
    """Return the counts of a predictor's pods together.

    A server that ended took its counts with it, and those of one that joins, or that was left out for a while, are not
    new: counting began when the last one became ready.

    :raises EndpointNotReady: a server that is ready does not say what it counts
    """
    pods = _ready(cluster, name)
    pages = [_page(cluster, name, pod, "/metrics") for pod in pods]
    answered: Counter[str] = Counter()
    for page in pages:
        for kind, number in _ANSWERED.findall(page):
            answered[kind] += int(float(number))
    more = read_server_counts(pages)
    return PredictorMetrics(
        requests=sum(answered.values()),
        client_errors=answered["4"],
        server_errors=answered["5"],
        broken_answers=0,
        rerouted=0,
        since=max([seat.since, *map(waiting.ready_since, pods)]),
        latency=more.latency,
        invalid=more.invalid,
    )


def server_pages(cluster: ClusterObjects, name: str, path: str) -> list[str]:
    """Return what the pods of a predictor answer to a path.

    :raises EndpointNotReady: a server that is ready does not answer
    """
    return [_page(cluster, name, pod, path) for pod in _ready(cluster, name)]


def _ready(cluster: ClusterObjects, name: str) -> list[Object]:
    return [pod for pod in cluster.pods(predictor=name) if waiting.is_ready(pod)]


def _page(cluster: ClusterObjects, name: str, pod: Object, path: str) -> str:
    try:
        return cluster.objects.page(cluster.desired.namespace, pod["metadata"]["name"], port=PORT, path=path)
    except SubmitFailed as error:
        if pod["metadata"]["name"] in [one["metadata"]["name"] for one in _ready(cluster, name)]:
            # Its counts would be missing now, and look new as soon as it answers.
            raise EndpointNotReady(error.what, where=cluster.where, do="Try again") from error
        return ""
