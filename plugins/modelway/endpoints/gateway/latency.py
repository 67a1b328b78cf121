"""How long requests took, as the servers of a predictor counted it: out of their pages ``/metrics``."""

from collections.abc import Iterable

#: the buckets of a histogram in Prometheus' text format
_SERIES = "modelway_request_seconds_bucket{"


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
