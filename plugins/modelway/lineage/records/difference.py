"""How two versions differ: frozen dataclasses, standard library only."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Change:
    """One thing that is not the same in both; ``kind`` is ``added``, ``removed`` or ``changed``."""

    name: str
    kind: str
    a: Any = None
    b: Any = None


@dataclass(frozen=True, kw_only=True)
class ParamChange(Change):
    """A parameter of a stage."""

    stage: str


@dataclass(frozen=True, kw_only=True)
class CodeDifference:
    """The code that was run; both sides of what is the same, too."""

    is_same: bool | None
    """None: a digest is not known."""
    a: str | None
    b: str | None
    commits: tuple[str | None, str | None]
    dirty: tuple[bool | None, bool | None]
    """Whether there were uncommitted changes."""
    commit_range: str | None
    """``abc..def`` where both commits are known and differ."""
    command: str | None
    """Shows the commits of the range, and what they changed."""
    repository: str | None
    count: int | None = None
    """How many commits the range has; None where no repository at hand knows them."""


@dataclass(frozen=True, kw_only=True)
class DatasetDifference:
    """A data set of one name and stage; ``changes`` are of its digest, version, rows and URI."""

    name: str
    stage: str
    kind: str
    changes: tuple[Change, ...] = ()
    schema: tuple[Change, ...] = ()
    """Columns: their types."""
    statistics: tuple[Change, ...] = ()
    """``column.statistic``, such as ``pixel.mean``."""


@dataclass(frozen=True, kw_only=True)
class EnvironmentDifference:
    """What a stage ran in; a package's sides are its versions."""

    stage: str
    changes: tuple[Change, ...]
    packages: tuple[Change, ...]


@dataclass(frozen=True, kw_only=True)
class MetricDifference:
    """A metric of the two chosen checkpoints."""

    name: str
    a: float | None
    b: float | None
    difference: float | None
    p_value: float | None
    """How probable a difference as great as this is by chance alone; None: not known."""
    is_significant: bool | None
    why: str
    """What the test was and of how many rows, or why there is none."""


@dataclass(frozen=True, kw_only=True)
class FileDifference:
    """A file; one that only ``moved`` has the same digest under another path."""

    kind: str
    path: str
    new_path: str | None = None
    a: str | None = None
    b: str | None = None


@dataclass(frozen=True, kw_only=True)
class ArchitectureDifference:
    """What was learned: parameters counted, layers by type, tensors by shape."""

    is_known: bool
    """False: one side's architecture was not recorded."""
    parameters: tuple[int | None, int | None]
    layers: tuple[Change, ...] = ()
    tensors: tuple[Change, ...] = ()


@dataclass(frozen=True, kw_only=True)
class VersionName:
    """A version of a model."""

    model: str
    number: int


@dataclass(frozen=True, kw_only=True)
class DiffRecord:
    """How version ``b`` differs from version ``a``; what is the same is left out, except of metrics."""

    a: VersionName
    b: VersionName
    is_same_model: bool
    """The frozen models are the same, byte for byte."""
    params: tuple[ParamChange, ...]
    code: CodeDifference
    data: tuple[DatasetDifference, ...]
    environment: tuple[EnvironmentDifference, ...]
    metrics: tuple[MetricDifference, ...]
    files: tuple[FileDifference, ...]
    architecture: ArchitectureDifference
    run: Mapping[str, tuple[Any, Any]]
    """Of the runs: seed, data interval, seconds, GPU-seconds, where they differ."""
