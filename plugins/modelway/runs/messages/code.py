"""The code package and the plan of a run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from modelway.artifacts.commits import Commit
from modelway.artifacts.dataset import Dataset
from modelway.artifacts.store import Artifact
from modelway.runs.interval import Interval
from modelway.runs.messages.checkpoints import Checkpoint
from modelway.runs.messages.message import FORMAT, Message, Xcom, checked_format, plain
from modelway.runs.messages.version import KnownVersion


@dataclass(frozen=True, kw_only=True)
class CodePackage(Message):
    """What PackageCodeOperator returns."""

    model: str
    module: str
    """the model's Python file inside the package"""
    uri: str
    digest: str
    size: int
    commit: Commit = Commit()

    @property
    def artifact(self) -> Artifact:
        """The package in the artifact store."""
        return Artifact(uri=self.uri, digest=self.digest, size=self.size)


@dataclass(frozen=True, kw_only=True)
class Base:
    """The version that training starts from."""

    version: int
    checkpoint: Checkpoint


@dataclass(frozen=True, kw_only=True)
class RunPlan(Message):
    """What PlanRunOperator returns: in XCom the keys of its code package, and the plan under ``plan``.

    A code package alone is read as the plan of a DAG without a PlanRunOperator.
    """

    former_names = {"reuse_reason": "taken", "blocked_reason": "held", "requested": "asked"}

    code: CodePackage
    inputs: str | None = None
    """digest of everything that a version depends on, None where that is not known"""
    interval: Interval | None = None
    """None where there is no PlanRunOperator"""
    partition: str | None = None
    reason: str | None = None
    """why the run was started"""
    params: Mapping[str, Any] = field(default_factory=dict)
    datasets: tuple[Dataset, ...] = ()
    base: Base | None = None
    skip: tuple[str, ...] = ()
    """stages of training that are skipped"""
    version: KnownVersion | None = None
    """the version that the run reuses in place of training"""
    reuse_reason: str | None = None
    """why it reuses that version"""
    blocked_reason: str | None = None
    """why the run moves neither alias nor traffic, None when it may"""
    requested: bool = False
    """whether somebody requested the version or its rollout, so that it may take over from a newer one"""

    def to_xcom(self) -> Xcom:
        """Return the code package with one more key, ``plan``."""
        found = self._keys()
        code = found.pop("code")
        return {"format": FORMAT, **code, "plan": found}

    @classmethod
    def from_xcom(cls, data: object) -> Self:
        """Read a plan, or a code package alone.

        :raises ModelwayError: it is neither, or was written by a later version of modelway
        """
        stored = checked_format(data, what=cls.__name__)
        code = plain(CodePackage.from_xcom(stored))
        return super().from_xcom({**(stored.get("plan") or {}), "code": code})
