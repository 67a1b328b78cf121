"""Approval of a rollout by a person: Airflow's own human-in-the-loop, within the task that rolls out."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.sdk import Context

from modelway.errors import RolloutAborted, RolloutChanged
from modelway.lineage.records.rollout import evidence_text, results_of
from modelway.operators.context import actor
from modelway.runs.rollout_record import WAITS_SINCE, finished_step

if TYPE_CHECKING:
    from modelway.lineage.records.version import RolloutRecord
    from modelway.lineage.store import Lineage

APPROVE, REJECT = "Approve", "Reject"
#: of a rollout: the version takes over unless it does worse, or one of two is chosen that share the traffic
CANARY, AB = "canary", "ab"
#: under these keys of the rollout's record: what it waits for, the answer, and which version was chosen
WAITS_FOR, ANSWER, DECISION = "waits_for", "approval", "decision"


def wait_for_approval(
    context: Context, store: "Lineage", rollout: "RolloutRecord", *, mode: str, resume: str, is_judged: bool
) -> None:
    """Ask for an approval, unless there is one, and defer the task until it comes: the version is judged meanwhile.

    :param mode: with ``ab`` the question is which version serves from now on
    :param resume: the operator's method that gets the answer
    :param is_judged: whether the triggerer can see the endpoint; else no process waits
    :raises TaskDeferred: to wait
    :raises TaskAwaitingInput: to wait, without a look at the version
    """
    if ANSWER in rollout.detail:
        return
    from airflow.sdk.exceptions import TaskAwaitingInput, TaskDeferred
    from airflow.sdk.execution_time.hitl import upsert_hitl_detail

    from modelway.triggers.approval import ApprovalTrigger

    # Asked again, such as by a retry, it waits since the first time.
    waiting = replace(rollout, detail={WAITS_SINCE: time.time(), **rollout.detail, WAITS_FOR: ANSWER})
    store.save_rollout(waiting, actor=actor(context))
    endpoint, version, stable = rollout.endpoint, rollout.version, rollout.detail.get("stable")
    question = f"Give all traffic of {endpoint} to version {version}?"
    options = [APPROVE, REJECT]
    if mode == AB:
        question = f"Which version serves {endpoint} from now on?"
        options = [_choice(version), _choice(stable)]
    upsert_hitl_detail(
        ti_id=context["ti"].id,
        options=options,
        subject=question,
        body=_body(results_of(finished_step(rollout)), version=version, stable=stable),
        # Left out, it is None, which Airflow 3.3.2 refuses.
        params={},
    )
    if not is_judged:
        raise TaskAwaitingInput(method_name=resume)
    trigger = ApprovalTrigger(
        ti_id=str(context["ti"].id),
        closing=options[-1],
        endpoint=endpoint,
        target=str(rollout.detail["target"]),
        run=rollout.run_id,
        step=rollout.step,
    )
    raise TaskDeferred(trigger=trigger, method_name=resume)


def record_answer(store: "Lineage", *, endpoint: str, run: str, event: Mapping[str, Any]) -> None:
    """Record what a person answered, and who it was: ``refusal`` then says whether the version may serve.

    The time until then does not count as time of the step, which would have no patience left for the next look.

    :raises RolloutAborted: waiting failed
    """
    while (rollout := store.rollout(endpoint, run)) is not None and rollout.state == "running":
        if "error" in event:
            raise RolloutAborted(f"no approval was given: {event['error']}", where=f"endpoint {endpoint}")
        if "chosen_options" not in event:
            return
        answered = _answered(rollout, event)
        try:
            store.save_rollout(answered, actor=answered.detail[ANSWER]["by"])
        except RolloutChanged:
            # By a look of the trigger, which may not have ended yet.
            continue
        except RolloutAborted:
            return
        return


def _answered(rollout: "RolloutRecord", event: Mapping[str, Any]) -> "RolloutRecord":
    user, at = event.get("responded_by_user") or {}, event.get("responded_at")
    name = str(user.get("name") or user.get("id") or "unknown")
    chosen = list(event.get("chosen_options") or ())
    is_approved = chosen in ([APPROVE], [_choice(rollout.version)])
    answer = {"approved": is_approved, "by": name, "at": str(getattr(at, "isoformat", lambda: at)())}
    detail = {key: value for key, value in rollout.detail.items() if key not in (WAITS_FOR, WAITS_SINCE)}
    detail[ANSWER] = answer
    if (waits_since := rollout.detail.get(WAITS_SINCE)) is not None and "since" in detail:
        detail["since"] += time.time() - waits_since
    rollout = replace(rollout, detail=detail)
    if chosen in ([_choice(rollout.version)], [_choice(detail.get("stable"))]):
        rollout = decided(rollout, by=name, version=rollout.version if is_approved else int(detail["stable"]))
    return rollout


def decided(rollout: "RolloutRecord", *, by: str, version: int) -> "RolloutRecord":
    """Return the record with the version that was chosen, by whom, and the counts at that moment."""
    results = results_of(finished_step(rollout))
    decision = {"version": version, "by": by, "counts": results[-1]["counts"] if results else {}}
    return replace(rollout, detail={**rollout.detail, DECISION: decision})


def refusal(rollout: "RolloutRecord") -> str | None:
    """Return why a person does not let the version serve; None where nobody refused."""
    answer = rollout.detail.get(ANSWER) or {"approved": True}
    if answer["approved"]:
        return None
    if DECISION in rollout.detail:
        return f"{answer['by']} chose version {rollout.detail[DECISION]['version']}"
    return f"{answer['by']} rejected version {rollout.version}"


def _choice(version: Any) -> str:
    return f"Version {version}"


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
