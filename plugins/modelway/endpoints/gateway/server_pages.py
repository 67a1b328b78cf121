"""What the servers of a predictor count themselves, out of their pages ``/metrics``: times, and errors of gRPC."""

import re
from collections.abc import Iterable, Sequence

#: the buckets of a histogram in Prometheus' text format
_SERIES = "modelway_request_seconds_bucket{"
_FAILED_CALL = re.compile(r'^modelway_grpc_requests_total\{[^}]*code="5\d\d"[^}]*\} (\S+)$', re.MULTILINE)


def request_seconds(pages: Iterable[str]) -> dict[float, int]:
    """Return the requests by the upper bound of their seconds; not cumulative, the last bound is infinite.

    :param pages: one page per server, "" for one that does not answer; other servers' pages count nothing
    """
    found: dict[float, int] = {}
    for page in pages:
        before = 0
        for line in page.splitlines():
            if not line.startswith(_SERIES):
                continue
            labels, _, number = line.rpartition(" ")
            bound, total = float(labels.partition('le="')[2].partition('"')[0]), int(float(number))
            found[bound] = found.get(bound, 0) + total - before
            before = total
    return dict(sorted(found.items()))


def call_errors(pages: Sequence[str]) -> dict[str, int]:
    """Return how many calls of gRPC the servers failed, which a gateway sees as 200, and how many servers say so.

    :param pages: as of :func:`request_seconds`
    """
    failed = sum(int(float(number)) for page in pages for number in _FAILED_CALL.findall(page))
    return {"call_errors": failed, "counting_servers": sum(map(bool, pages))}
