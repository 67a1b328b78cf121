"""A rollout that a run begins at a share of its own, and holds there: the run's parameter ``hold_at``."""

from collections.abc import Mapping
from typing import Any

from airflow.sdk import Context

from modelway.endpoints.base import EndpointStatus
from modelway.errors import ModelwayError, RolloutAborted
from modelway.operators.context import actor
from modelway.runs.steered import Held
from modelway.runs.traffic import stable_of


def check_share(form: Mapping[str, Any]) -> None:
    """Refuse a share that is none, and one of a rollback, which returns all traffic.

    :raises ModelwayError: it cannot be right
    """
    if (share := form.get("hold_at")) is None:
        return
    if isinstance(share, bool) or not isinstance(share, int) or not 1 <= share <= 99:
        raise ModelwayError(f"hold_at is {share!r}, and no per cent from 1 to 99")
    if form.get("rollout") in ("no", "rollback"):
        raise ModelwayError(f"hold_at belongs to a rollout, and the run's parameter rollout is {form['rollout']}")


def held_by_run(context: Context) -> Held | None:
    """Return the share at which this run holds its rollout, who wants that, and why; None: it is not held."""
    form = context.get("params") or {}
    if (share := form.get("hold_at")) is None:
        return None
    return Held(weight=int(share), by=actor(context), reason=str(form.get("reason") or "the run's hold_at"))


def check_others_serve(context: Context, current: EndpointStatus | None, *, endpoint: str, version: int) -> None:
    """Refuse to hold a version at a share where no other version gets the rest.

    :raises RolloutAborted: there is none
    """
    held = held_by_run(context)
    if held is None or stable_of(current) not in (None, version):
        return
    raise RolloutAborted(
        f"version {version} cannot be held at {held.weight} %: no other version serves that gets the rest",
        where=f"endpoint {endpoint}",
        do="Release it without hold_at, or name a version that does not serve yet",
    )
