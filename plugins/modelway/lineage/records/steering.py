"""What a person does to a rollout that runs: hold it, let it continue, set the version's share, promote the version.

Whoever judges the rollout reads its record at each inspection and does it there. ``held`` of the record's detail says
who holds the step since when, ``leaves`` who ended it; both have ``by`` and ``reason``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from modelway.errors import RolloutChanged
from modelway.lineage.records.rollout import is_finishing

if TYPE_CHECKING:
    from modelway.lineage.records.version import RolloutRecord

#: what can be done, and what the record's event is called after ``rollout-``
HOLD, CONTINUE, PROMOTE, WEIGHT = "hold", "continue", "promote", "weight"
#: keys of a rollout's detail, see above
HELD, LEAVES = "held", "leaves"
_AGAIN = "Load the page again"


@dataclass(frozen=True, kw_only=True)
class Steering:
    """One act of a person on a rollout."""

    act: str
    by: str
    reason: str
    step: int
    """The step that the person saw: another one by now is not acted on."""
    weight: int | None = None
    """The per cent that the version gets, for ``weight``."""


def steered(record: "RolloutRecord", wish: Steering, *, now: float) -> "RolloutRecord":
    """Return a rollout with what a person does to it.

    :raises RolloutChanged: it is over, between two steps, in another step, or somebody else was faster
    """
    _refuse(record, wish)
    said = {"by": wish.by, "reason": wish.reason}
    detail = dict(record.detail)
    if (held := detail.pop(HELD, None)) is not None:
        # The time of the hold is none of the step, which would be over its time for lack of a result.
        detail["since"] = float(detail["since"]) + now - float(held["since"])
    if wish.act == HOLD:
        detail[HELD] = {**said, "since": now}
    elif wish.act == PROMOTE:
        detail |= {LEAVES: said, **_planned(record, [detail["plan"][-1]])}
    elif wish.act == WEIGHT:
        share = {"weight": wish.weight, "hold_seconds": 0.0, "requests": 0}
        later = [each for each in detail["plan"][record.step + 1 :] if each["weight"] > share["weight"]]
        last = detail["plan"][-1]
        detail |= {HELD: {**said, "since": now}, LEAVES: said, **_planned(record, [share, *(later or [last])])}
    return replace(record, detail=detail)


def held_since(detail: Mapping[str, Any]) -> float | None:
    """Return since when a person holds a rollout, in seconds since the epoch; None where nobody does."""
    return float(detail[HELD]["since"]) if HELD in detail else None


def _planned(record: "RolloutRecord", rest: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the plan with other steps after the present one; at the last step none is left."""
    plan = list(record.detail["plan"])
    is_last = record.step + 1 >= len(plan) and rest == [plan[-1]]
    plan = plan if is_last else [*plan[: record.step + 1], *rest]
    return {"plan": plan, "steps": [each["weight"] for each in plan]}


def _refuse(record: "RolloutRecord", wish: Steering) -> None:
    detail, where = record.detail, f"endpoint {record.endpoint}"
    about = f"the rollout of version {record.version}"
    if record.state != "running":
        raise RolloutChanged(f"{about} is over: {detail.get('reason') or record.state}", where=where, do=_AGAIN)
    if is_finishing(record):
        raise RolloutChanged(f"version {record.version} is taking over", where=where, do=_AGAIN)
    if record.step < 0 or "plan" not in detail or detail.get("moving"):
        do = "Wait a moment, then load the page again"
        raise RolloutChanged(f"{about} is about to begin a step", where=where, do=do)
    if detail.get("waits_for"):
        do = "Approve or reject it at the task in Airflow"
        raise RolloutChanged(f"{about} waits for a person's answer", where=where, do=do)
    if (left := detail.get(LEAVES)) is not None:
        what = f"{left['by']} ended this step a moment ago: {left['reason']}"
        raise RolloutChanged(what, where=where, do=_AGAIN)
    if record.step != wish.step:
        weight = detail["plan"][record.step]["weight"]
        raise RolloutChanged(f"{about} is at {weight} % by now", where=where, do=_AGAIN)
    held = detail.get(HELD)
    if wish.act == HOLD and held is not None:
        raise RolloutChanged(f"{held['by']} holds it already: {held['reason']}", where=where, do=_AGAIN)
    if wish.act == CONTINUE and held is None:
        raise RolloutChanged("nobody holds it any more", where=where, do=_AGAIN)
