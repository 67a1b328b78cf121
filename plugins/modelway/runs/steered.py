"""What becomes of the verdict on a step that a person holds, or has ended: ``modelway.lineage.records.steering``."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from modelway.endpoints.judge import Verdict
from modelway.errors import RolloutChanged
from modelway.lineage.records.steering import HELD, LEAVES

if TYPE_CHECKING:
    from modelway.lineage.records.version import RolloutRecord


@dataclass(frozen=True, kw_only=True)
class Held:
    """The share at which a rollout begins and is held, in per cent, until somebody continues it."""

    weight: int
    by: str
    reason: str

    def detail(self) -> dict[str, Any]:
        """Return what the rollout's record says of it before its first step, which whoever holds it begins."""
        said = {"by": self.by, "reason": self.reason}
        return {HELD: {**said, "since": 0.0}, LEAVES: said, "begun_by": {**said, "weight": self.weight}}


def as_a_person_wants(verdict: Verdict, detail: Mapping[str, Any], *, is_ready: bool) -> Verdict:
    """Return the verdict on a step as the person wants it; a version that does worse is rolled back all the same.

    :param detail: the detail of the rollout's record
    :param is_ready: whether the version is ready: one that is not gets no more traffic
    """
    if verdict.action == "rollback":
        return verdict
    if (left := detail.get(LEAVES)) is not None and is_ready:
        return replace(verdict, action="promote", reason=f"{left['by']} ended the step: {left['reason']}")
    if (held := detail.get(HELD)) is not None:
        return replace(verdict, action="hold", reason=f"held by {held['by']}: {held['reason']}")
    return verdict


def refuse_changed(record: "RolloutRecord", *, is_last: bool = False) -> None:
    """Refuse to end a step that a person held, or gave other steps after it, since the verdict on it.

    :param is_last: whether the step was the last one
    :raises RolloutChanged: the step is to be judged again
    """
    held, where = record.detail.get(HELD), f"endpoint {record.endpoint}"
    if held is not None and LEAVES not in record.detail:
        raise RolloutChanged(f"{held['by']} holds the step: {held['reason']}", where=where)
    if is_last and record.step + 1 < len(record.detail["plan"]):
        raise RolloutChanged("a person has changed the steps of the rollout", where=where)
