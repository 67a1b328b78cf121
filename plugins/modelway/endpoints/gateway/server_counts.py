"""What the servers of a predictor counted themselves, out of their pages ``/metrics``."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from modelway.endpoints.base import PredictorMetrics

#: the buckets of a histogram in Prometheus' text format
_BUCKETS = "modelway_request_seconds_bucket{"
_INVALID = "modelway_invalid_answers_total{"
_FAILED_CALL = re.compile(r'^modelway_grpc_requests_total\{[^}]*code="5\d\d"[^}]*\} (\S+)$', re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class ServerCounts:
    """The counts of all servers of a predictor together; nothing where one of them cannot be read."""

    #: requests by the upper bound of the seconds that they took; not cumulative, the last bound is infinite
    latency: Mapping[float, int] = field(default_factory=dict)
    #: answers with an output that was not valid
    invalid: int = 0
    #: calls of gRPC that failed, which a gateway sees as answers with status 200
    call_errors: int = 0

    def joined(self, own: Mapping[str, int], *, since: float) -> PredictorMetrics:
        """Return them with what a gateway counted of the predictor."""
        return PredictorMetrics(
            **own, latency=self.latency, invalid=self.invalid, call_errors=self.call_errors, since=since
        )


def read_server_counts(pages: Iterable[str]) -> ServerCounts:
    """Return the counts of several servers.

    :param pages: one page per server, "" for one that does not answer: a sum without its counts would look as if the
        others had counted them when it answers again; other servers' pages count nothing
    """
    found: dict[float, int] = {}
    invalid = failed = 0
    for page in pages:
        if not page:
            return ServerCounts()
        failed += sum(int(float(number)) for number in _FAILED_CALL.findall(page))
        before = 0
        for line in page.splitlines():
            if line.startswith(_INVALID):
                invalid += int(float(line.rpartition(" ")[2]))
            if not line.startswith(_BUCKETS):
                continue
            labels, _, number = line.rpartition(" ")
            bound, total = float(labels.partition('le="')[2].partition('"')[0]), int(float(number))
            found[bound] = found.get(bound, 0) + total - before
            before = total
    return ServerCounts(latency=dict(sorted(found.items())), invalid=invalid, call_errors=failed)
