"""What a rollout is judged by."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

#: the share of the tolerated false rollbacks that each test may cause; together they are 1 (weighted Bonferroni)
BUDGET: Mapping[str, float] = {
    "errors": 0.3,
    "latency": 0.2,
    "failing": 0.2,
    "invalid": 0.1,
    "labels": 0.1,
    "different": 0.05,
    "split": 0.05,
}


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """What a new version may do worse than the stable one, and how sure a rollback must be."""

    #: False: only ``maximum_error_rate`` is judged
    enabled: bool = True
    #: of the versions that are as good as the stable one, at most this share is rolled back
    false_rollbacks: float = 0.05
    #: how many times the stable version's odds of a failed request, an invalid or a wrong answer are accepted
    error_tolerance: float = 1.1
    #: how many times its odds of a slow answer are accepted; None: times are not compared
    latency_tolerance: float | None = 1.5
    #: share of failed requests that is never accepted, above the stable version's own
    maximum_error_rate: float = 0.05
    #: share of mirrored requests that may be answered differently; None: they are not judged
    maximum_difference: float | None = None
    #: by how many times the odds of a request's version may differ from the weights
    split_tolerance: float = 1.5
    #: how long a step may take beyond its own time before the rollout ends for lack of requests or of a result
    patience_seconds: float = 3600.0

    def limit(self, test: str) -> float:
        """Return the e-value at which a test ends the rollout."""
        return 1 / (self.false_rollbacks * BUDGET[test])

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` returned; settings of a later modelway are ignored."""
        known = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in data.items() if name in known})


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of a rollout."""

    #: percent of the requests
    weight: int
    #: the least time that the step takes
    hold_seconds: float = 0.0
    #: the least requests to the new version before the step is over
    requests: int = 0
