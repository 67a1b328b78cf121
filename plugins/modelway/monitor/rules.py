"""The rules by which a model is retrained, as its spec has them; None where a rule is not set."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

DAY = 86_400.0


@dataclass(frozen=True, kw_only=True)
class DriftRule:
    """Inputs or predictions are distributed otherwise than on the rows of the evaluation."""

    #: the window reaches back so far, and further until it has so many rows
    window_seconds: float = DAY
    minimum_rows: int = 500
    #: effect sizes from which a difference counts
    psi: float = 0.2
    ks: float = 0.15
    w: float = 0.3
    #: chance of a false alarm in one check, of all features together
    alpha: float = 1e-4
    #: whether new categories, other ranges, types or missing values count
    schema: bool = True


@dataclass(frozen=True, kw_only=True)
class QualityRule:
    """Fewer predictions are right than on the rows of the evaluation, or of numbers the error is larger."""

    window_seconds: float = 7 * DAY
    minimum_labels: int = 200
    #: of the share of right classes
    drop: float = 0.05
    #: of the mean error of numbers, in parts of that at freezing
    rise: float = 0.2
    alpha: float = 1e-4


@dataclass(frozen=True, kw_only=True)
class Rules:
    """All rules of a model, and what limits them."""

    drift: DriftRule | None = None
    quality: QualityRule | None = None
    #: requests that a version has answered
    volume: int | None = None
    #: age of a version
    staleness_seconds: float | None = None
    cool_down_seconds: float = 3 * DAY
    budget_per_week: int = 1

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` returned."""
        drift, quality = data.get("drift"), data.get("quality")
        parts = {"drift": DriftRule(**drift) if drift else None, "quality": QualityRule(**quality) if quality else None}
        return cls(**{**data, **parts})
