"""The section ``search``: several candidates with parameters of their own, of which the best becomes the version."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from modelway.fields.refusal import Refusal, shown
from modelway.fields.section import Section
from modelway.spec.references import Metric

#: [core] max_map_length of Airflow is 1024 by default
MOST_CANDIDATES = 1000
ETA = 3
_KINDS = ("values", "uniform", "log_uniform", "int")


def _values(values: tuple[Any, ...]) -> tuple[Any, ...]:
    for index, value in enumerate(values):
        if any(value == each and type(value) is type(each) for each in values[:index]):
            raise Refusal(f"{shown(value)} is in the list already", at=(index,))
    return values


def _rising(bounds: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(bounds) != 2:
        raise Refusal(f"expected two bounds, got {shown(list(bounds))}", do="Write [least, greatest]")
    if not bounds[0] < bounds[1]:
        raise Refusal(f"{shown(bounds[0])} is not less than {shown(bounds[1])}", do="Write [least, greatest]")
    return bounds


def _positive(bounds: tuple[float, ...]) -> tuple[float, ...]:
    if bounds[0] <= 0:
        raise Refusal(f"{shown(bounds[0])} has no logarithm", do="Write bounds above 0, or use uniform", at=(0,))
    return bounds


Values = Annotated[tuple[Any, ...], Field(strict=False, min_length=1, max_length=1000), AfterValidator(_values)]
_Two = Field(strict=False)
Interval = Annotated[tuple[float, ...], _Two, AfterValidator(_rising)]
Logarithmic = Annotated[tuple[float, ...], _Two, AfterValidator(_rising), AfterValidator(_positive)]
Whole = Annotated[tuple[int, ...], _Two, AfterValidator(_rising)]


class SearchedSection(Section):
    """The values of one parameter: exactly one of values, uniform, log_uniform and int."""

    values: Values | None = Field(default=None, description="The values to try, each as likely as the others")
    uniform: Interval | None = Field(default=None, description="[least, greatest]: any number between them")
    log_uniform: Logarithmic | None = Field(
        default=None, description="[least, greatest], above 0: each order of magnitude as likely as the others"
    )
    int_: Whole | None = Field(
        default=None, alias="int", description="[least, greatest]: a whole number, both included"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = [name for name in _KINDS if self.kind(name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise Refusal(f"expected one of {', '.join(_KINDS)}, got {found}", do="Write such as lr: [0.1, 0.01]")
        return self

    def kind(self, name: str) -> tuple[Any, ...] | None:
        """Return what is written under a key."""
        found: tuple[Any, ...] | None = getattr(self, "int_" if name == "int" else name)
        return found

    @property
    def size(self) -> int | None:
        """How many values there are; None: too many to count."""
        if self.values is not None:
            return len(self.values)
        return None if self.int_ is None else self.int_[1] - self.int_[0] + 1


def _long(value: Any) -> Any:
    """Read ``lr: [0.1, 0.01]`` as ``lr: {values: [0.1, 0.01]}``."""
    return {"values": value} if isinstance(value, list | tuple) else value


def _some(params: Mapping[str, Any]) -> Mapping[str, Any]:
    if not params:
        raise Refusal("must not be empty", do="Write such as lr: [0.1, 0.01]")
    return params


class StopSection(Section):
    """When the training of a candidate ends early, by the metrics that it reports with job.log."""

    metric: Metric = Field(default="loss", description="A metric that training reports with job.log")
    above: float | None = Field(default=None, description="End where the metric is greater than this")
    below: float | None = Field(default=None, description="End where the metric is less than this")
    from_step: int = Field(default=0, ge=0, le=10**12, description="Checkpoints before this step end nothing")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.above is None) == (self.below is None):
            found = "neither" if self.above is None else "both"
            raise Refusal(f"expected above or below, got {found}", do="Write such as {metric: loss, above: 3.0}")
        return self


class SearchSection(Section):
    """Several candidates with parameters of their own, of which the best by select becomes the version."""

    method: Literal["grid", "random", "halving"] = Field(
        description="All combinations; draws; or draws of which only the best train the next stage"
    )
    params: Annotated[Mapping[str, Annotated[SearchedSection, BeforeValidator(_long)]], AfterValidator(_some)] = Field(
        description="The values to search, by the parameter's name in job.params; a list is short for values"
    )
    candidates: int | None = Field(
        default=None,
        ge=1,
        le=MOST_CANDIDATES,
        description="How many are drawn; random needs it, halving takes the whole grid without it",
    )
    parallel: int = Field(default=4, ge=1, le=1000, description="Candidates that train at the same time")
    eta: int | None = Field(
        default=None, ge=2, le=100, description="Halving: one of so many trains the next stage; default: 3"
    )
    allowed_failures: int | None = Field(
        default=None,
        ge=0,
        le=MOST_CANDIDATES,
        description="Candidates that may fail in one stage; default: all but one",
    )
    stop: StopSection | None = Field(default=None, description="When the training of a candidate ends early")

    @property
    def is_grid(self) -> bool:
        """Whether all combinations are candidates."""
        return self.candidates is None

    @property
    def size(self) -> int | None:
        """How many combinations there are; None: too many to count."""
        sizes = [each.size for each in self.params.values()]
        return math.prod(size for size in sizes if size is not None) if None not in sizes else None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.method == "grid" and self.candidates is not None:
            do = "Remove it, or write method: random"
            raise Refusal("a grid has all combinations as candidates", at=("candidates",), do=do)
        if self.method == "random" and self.candidates is None:
            raise Refusal("random needs a number of candidates", do="Add such as candidates: 20", at=("method",))
        if self.method != "halving" and self.eta is not None:
            raise Refusal("only halving has an eta", at=("eta",), do="Remove it, or write method: halving")
        if self.is_grid:
            self._check_grid()
        elif self.size is not None and self.candidates is not None and self.size < self.candidates:
            what = f"there are only {self.size:,} combinations"
            raise Refusal(what, at=("candidates",), do="Write method: grid, or fewer candidates")
        return self

    def _check_grid(self) -> None:
        for name, each in self.params.items():
            if each.values is None:
                what = "a grid needs the values themselves"
                raise Refusal(what, at=("params", name), do="Write a list, or draw a number of candidates")
        if (self.size or 0) > MOST_CANDIDATES:
            what = f"there are {self.size:,} combinations, at most {MOST_CANDIDATES:,} are trained"
            raise Refusal(what, at=("params",), do="Write method: random and candidates, or fewer values")
