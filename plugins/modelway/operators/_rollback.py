"""A rollback: all traffic goes to an earlier version at once, without approval, steps or a check of its signature."""

from typing import TYPE_CHECKING

from airflow.sdk import Context

from modelway.errors import RolloutAborted

if TYPE_CHECKING:
    from modelway.lineage.store import Lineage


def rollback_detail(context: Context, stable: int | None) -> dict[str, object]:
    """Return what a rollout's record says where the run returns the traffic to an earlier version; else nothing."""
    if not _is_rollback(context):
        return {}
    return {"rollback": {"from": stable, "why": (context.get("params") or {}).get("reason")}}


def check_rollback(context: Context, store: "Lineage", *, endpoint: str, version: int) -> None:
    """Refuse a rollback to a version that never had all the traffic: nobody has approved it there.

    :raises RolloutAborted: the run is a rollback to such a version
    """
    if not _is_rollback(context):
        return
    served = {each.version for each in store.rollouts(endpoint) if each.state == "done"}
    if version not in served:
        raise RolloutAborted(
            f"version {version} never served all requests here, so that there is no rollback to it",
            where=f"endpoint {endpoint}",
            known=[str(number) for number in sorted(served)],
            do="Release it, with its steps, tests and approval: modelway release",
        )


def _is_rollback(context: Context) -> bool:
    return (context.get("params") or {}).get("rollout") == "rollback"
