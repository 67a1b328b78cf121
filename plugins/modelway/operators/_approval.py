"""Approval of a rollout by a person: Airflow's own human-in-the-loop, within the task that rolls out."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.sdk import Context

from modelway.errors import RolloutAborted
from modelway.lineage.records.rollout import evidence_text
from modelway.operators.context import actor
from modelway.runs.rollout_record import finished_step, results_of

if TYPE_CHECKING:
    from modelway.lineage.records.version import RolloutRecord
    from modelway.lineage.store import Lineage

APPROVE, REJECT = "Approve", "Reject"
#: under these keys of the rollout's record: what it waits for, and what was answered
WAITS_FOR, ANSWER = "waits_for", "approval"


def wait_for_approval(context: Context, store: "Lineage", rollout: "RolloutRecord", *, resume: str) -> None:
    """Ask for an approval, unless there is one, and park the task until it comes: no process waits meanwhile.

    :param resume: the operator's method that gets the answer
    :raises TaskAwaitingInput: to wait
    """
    if ANSWER in rollout.detail:
        return
    from airflow.sdk.exceptions import TaskAwaitingInput
    from airflow.sdk.execution_time.hitl import upsert_hitl_detail

    waiting = replace(rollout, detail={**rollout.detail, WAITS_FOR: ANSWER})
    store.save_rollout(waiting, actor=actor(context))
    stable = rollout.detail.get("stable")
    upsert_hitl_detail(
        ti_id=context["ti"].id,
        options=[APPROVE, REJECT],
        subject=f"Give all traffic of {rollout.endpoint} to version {rollout.version}?",
        body=_body(results_of(finished_step(rollout)), version=rollout.version, stable=stable),
    )
    raise TaskAwaitingInput(method_name=resume)


def record_answer(context: Context, store: "Lineage", *, endpoint: str, run: str, event: Mapping[str, Any]) -> None:
    """Record what a person answered, and who it was.

    :raises RolloutAborted: the answer is no, or waiting failed
    """
    if (rollout := store.rollout(endpoint, run)) is None or rollout.state != "running":
        return
    if "error" in event:
        raise RolloutAborted(f"no approval was given: {event['error']}", where=f"endpoint {endpoint}")
    user = event.get("responded_by_user") or {}
    name = str(user.get("name") or user.get("id") or "unknown")
    is_approved = list(event.get("chosen_options") or ()) == [APPROVE]
    at = event.get("responded_at")
    answer = {"approved": is_approved, "by": name, "at": str(getattr(at, "isoformat", lambda: at)())}
    detail = {key: value for key, value in rollout.detail.items() if key != WAITS_FOR}
    store.save_rollout(replace(rollout, detail={**detail, ANSWER: answer}), actor=name)
    if not is_approved:
        raise RolloutAborted(f"{name} rejected version {rollout.version}", where=f"endpoint {endpoint}")


def _body(results: Any, *, version: int, stable: Any) -> str:
    """Return what the steps have shown so far, in Markdown."""
    lines = [
        f"Version {version} beside version {stable}, which serves. Reject returns all traffic to version {stable}."
    ]
    for each in results:
        counts = (
            f"version {number}: {one.get('errors', 0)} of {one.get('requests', 0)} requests failed"
            for number, one in each.get("counts", {}).items()
        )
        evidence = evidence_text(each.get("tests", {}))
        lines.append(f"- at {each.get('weight')} %: {', '.join(counts)}; evidence against it: {evidence}")
    return "\n".join(lines)
