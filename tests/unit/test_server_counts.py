"""What is read of the pages of a predictor's servers."""

import math

from modelway.endpoints.gateway.server_counts import ServerCounts, read_server_counts
from modelway.server.core.metrics import Metrics


def page(*seconds, invalid=0):
    metrics = Metrics(model="m", version="1")
    for each in seconds:
        metrics.count(200, each)
    for _ in range(invalid):
        metrics.count_invalid()
    return metrics.text().decode()


def test_the_counts_of_all_servers_add_up():
    found = read_server_counts([page(0.0004, 0.004, invalid=2), page(0.004, 99.0, invalid=1)])
    assert found.invalid == 3
    assert {bound: count for bound, count in found.latency.items() if count} == {0.0005: 1, 0.005: 2, math.inf: 1}


def test_where_one_server_does_not_answer_nothing_is_known():
    assert read_server_counts([page(0.004, invalid=2), ""]) == ServerCounts()
    assert read_server_counts(["of another program"]) == ServerCounts()
