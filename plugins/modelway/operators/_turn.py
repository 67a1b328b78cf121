"""One rollout per endpoint at a time: what a run does that finds another one at work."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from airflow.sdk import Context

from modelway.errors import RolloutAborted
from modelway.lineage.records.rollout import is_finishing
from modelway.operators.base import ModelwayOperator
from modelway.operators.context import actor

if TYPE_CHECKING:
    from modelway.lineage.records.version import RolloutRecord
    from modelway.lineage.store import Lineage

#: how long a rollout of a run that this Airflow does not know may stay silent before it counts as over
SILENCE = timedelta(hours=1)
#: how often the state of the other one's run is read while waiting
CHECK_SECONDS = 60.0


def take_turn(
    operator: ModelwayOperator, context: Context, store: "Lineage", rollout: "RolloutRecord", *, when_busy: str
) -> None:
    """Begin a rollout: now, or deferred until the other one at the endpoint is over.

    A rollout whose run is over, such as after its worker and triggerer died, is closed, whatever ``when_busy`` says.
    One whose version is taking over is never closed: it is waited for, and completed here where its run is over.

    :param when_busy: ``wait``, ``replace`` (abort the other one) or ``refuse``
    :raises RolloutAborted: another rollout is running, and ``when_busy`` is ``refuse``
    """
    from modelway.following.rollouts import complete_rollout

    over: dict[str, str] = {}
    while running := store.begin_rollout(rollout, over=over, actor=actor(context)):
        for other in running:
            reason = _over(context, other)
            if reason is not None and is_finishing(other):
                complete_rollout(store, operator.settings, other, actor=actor(context))
                continue
            if reason is None and not is_finishing(other) and when_busy == "replace":
                reason = f"replaced by the rollout of version {rollout.version} (run {rollout.run_id})"
            if reason is None:
                _yield(operator, rollout, other, when_busy=when_busy)
            else:
                operator.log.warning(
                    "the rollout of version %d (%s) is closed: %s", other.version, other.run_id, reason
                )
                over[other.run_id] = reason


def _over(context: Context, other: "RolloutRecord") -> str | None:
    """Return why a rollout that is recorded as running is over, None while it may continue."""
    dag_id, _, run_id = other.run_id.partition("/")
    try:
        state = str(context["ti"].get_dagrun_state(dag_id=dag_id, run_id=run_id))
    # Another Airflow's run, or Airflow does not answer.
    except Exception:
        silent = datetime.now(UTC) - (other.updated_at or datetime.now(UTC))
        if silent < SILENCE or other.detail.get("waits_for") == "approval":
            return None
        return (
            f"nothing was recorded of it for {silent.total_seconds() / 3600:.1f} hours, and its run is not known here"
        )
    return f"its run has ended ({state})" if state in ("success", "failed") else None


def _yield(operator: ModelwayOperator, rollout: "RolloutRecord", other: "RolloutRecord", *, when_busy: str) -> None:
    """Give way to a running rollout.

    :raises RolloutAborted: to refuse
    :raises TaskDeferred: to wait
    """
    busy = f"version {other.version} is being rolled out (run {other.run_id})"
    if when_busy == "refuse":
        raise RolloutAborted(
            f"{busy}, and one rollout at a time is allowed",
            where=f"endpoint {rollout.endpoint}",
            do="Clear this run when that one is over, or set rollout.when_busy to wait or replace",
        )
    from modelway.triggers.turn import TurnTrigger

    operator.log.info("%s: this run waits until that is over", busy)
    trigger = TurnTrigger(endpoint=rollout.endpoint, run=rollout.run_id, seconds=CHECK_SECONDS)
    operator.defer(trigger=trigger, method_name="resume")
