"""The counts of one version, as they are read, and what was added between two readings."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

#: answers with a time in an interval, per request that the gateway counted in it, and those that began before it
_MOST_TIMES, _LATE = 2, 50
#: of the gateways: all of them restart together
_OF_THE_GATEWAY = ("requests", "errors", "named")
#: of what reads the answers
_OF_ANSWERS = ("invalid", "labelled", "wrong", "compared", "different")


@dataclass(frozen=True, kw_only=True)
class Observation:
    """The counts of one version since its counters began; what is not counted is 0."""

    requests: int = 0
    #: requests that it did not answer well: 5xx, answers that broke off, requests that another version answered
    errors: int = 0
    #: of the requests, those whose URL names the version: no weight sent them
    named: int = 0
    #: answers by their time: the upper bound of a bucket in seconds (the last is infinity) to the answers in it
    latency: Mapping[float, int] = field(default_factory=dict)
    #: answers that were no valid output of the model
    invalid: int = 0
    #: answers whose true label is known by now, and those of them that were wrong
    labelled: int = 0
    wrong: int = 0
    #: mirrored requests that both versions answered, and those of them that they answered differently
    compared: int = 0
    different: int = 0
    #: calls of gRPC that servers failed, by their own counts; of an interval they are among the errors
    call_errors: int = 0
    #: when counting began; another value than before means that they restarted
    since: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON: the buckets as a list of pairs, ``null`` in place of infinity."""
        pairs = [[None if math.isinf(bound) else bound, count] for bound, count in sorted(self.latency.items())]
        return {**asdict(self), "latency": pairs}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` returned."""
        latency = {math.inf if bound is None else bound: count for bound, count in data.get("latency", ())}
        return cls(**{**data, "latency": latency})

    def restarted_after(self, before: "Observation") -> bool:
        """Return whether counting of requests began anew after ``before``."""
        return self.since != before.since or any(_of(self, each) < _of(before, each) for each in _OF_THE_GATEWAY)

    def since_then(self, before: "Observation") -> "Observation":
        """Return what was counted after ``before``.

        Nothing is, where the counters restarted: they are sums over gateways or servers, of which the others' counts
        are not new. Where a server's did, nobody knows how much of its answers' times is new, and none of them counts.
        """
        if self.restarted_after(before):
            return Observation(since=self.since)
        counts = {each: _of(self, each) - _of(before, each) for each in _OF_THE_GATEWAY}
        for each in _OF_ANSWERS:
            counts[each] = max(0, _of(self, each) - _of(before, each))
        if bool(self.latency) != bool(before.latency):
            # The servers that count these could not be read, then or now.
            counts["invalid"] = 0
        else:
            counts["errors"] += max(0, self.call_errors - before.call_errors)
        # An error is counted when the answer ends, maybe an interval after its request.
        counts["requests"] = max(counts["requests"], counts["errors"], counts["invalid"])
        times = _new_answers(self.latency, before.latency)
        if sum(times.values()) > _MOST_TIMES * counts["requests"] + _LATE:
            # A server that could not be read before counts all of its answers at once.
            times = {}
        return Observation(**counts, latency=times, since=self.since)

    def __add__(self, more: "Observation") -> "Observation":
        """Return the sum of two intervals, without the times of the answers."""
        names = (*_OF_THE_GATEWAY, *_OF_ANSWERS)
        sums = {each: _of(self, each) + _of(more, each) for each in names}
        return Observation(**sums, latency={}, since=more.since)

    def slower_than(self, bound: float) -> int:
        """Return how many answers took longer than a bucket's bound."""
        return sum(count for upper, count in self.latency.items() if upper > bound)

    @property
    def timed(self) -> int:
        """Return how many answers have a time."""
        return sum(self.latency.values())


def _of(observation: Observation, name: str) -> int:
    return int(getattr(observation, name))


def _new_answers(now: Mapping[float, int], before: Mapping[float, int]) -> dict[float, int]:
    if any(now.get(bound, 0) < count for bound, count in before.items()):
        return {}
    return {bound: count - before.get(bound, 0) for bound, count in now.items()}
