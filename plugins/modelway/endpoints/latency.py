"""How long answers took, out of what the servers count themselves."""

import math
import re
from collections.abc import Iterable, Mapping

_BUCKET = re.compile(r'^modelway_request_seconds_bucket\{[^}]*\ble="([^"]+)"[^}]*\} (\S+)$', re.MULTILINE)


def read_latency(text: str) -> dict[float, int]:
    """Return the requests by the upper bound of their seconds, not cumulative, out of a server's ``/metrics``."""
    found: dict[float, int] = {}
    below = 0
    for bound, count in _BUCKET.findall(text):
        found[math.inf if bound == "+Inf" else float(bound)] = int(float(count)) - below
        below = int(float(count))
    return found


def add_up(histograms: Iterable[Mapping[float, int]]) -> dict[float, int]:
    """Return the sum of several servers' requests by bound."""
    total: dict[float, int] = {}
    for histogram in histograms:
        for bound, count in histogram.items():
            total[bound] = total.get(bound, 0) + count
    return dict(sorted(total.items()))
