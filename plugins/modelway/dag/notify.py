"""The one-line result of a run: in the failed task's log, and for the notifiers in the spec.

Airflow calls these outside of a task's work: for a failed task in its worker, for a run that ended in the DAG
processor, for a deadline in the executor. A notifier that cannot be imported or raises is logged and stops no other.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from modelway.fields.allowed import is_usable
from modelway.fields.refusal import Refusal, shown
from modelway.fields.units import format_duration
from modelway.following.notifiers import call_notifiers, load_notifier
from modelway.spec.model import ModelSpec
from modelway.spec.rules import Finding
from modelway.spec.sections import NotificationsSection, NotifierSection

_log = logging.getLogger(__name__)
_LONGEST = 500
#: messages for Airflow's reasons that are not the failure of a task
_REASONS = {
    "all_tasks_deadlocked": "no task can start and none is running; check the tasks that are waiting",
    "timed_out": "the run took longer than it may",
}


def report_task_failure(context: Mapping[str, Any]) -> None:
    """Log the failure as the last line of the task's log, and record its cause for the run's notifiers."""
    ti = context["ti"]
    cause = _recorded_cause(ti)
    if cause is None and (error := context.get("exception")) is not None:
        cause = f"{type(error).__name__}: {error}"
        try:
            ti.xcom_push(key="failure", value=cause)
        except Exception as refused:
            _log.debug("the cause cannot be recorded for the notifiers: %s", refused)
    _log.error("%s", _failure_line(ti, cause))


class RunEnded:
    """A callback of a DAG that calls the notifiers with the result of the run."""

    def __init__(self, notifiers: Sequence[NotifierSection]) -> None:
        """Set the notifiers; they are imported when they are called."""
        self.notifiers = notifiers

    def __call__(self, context: Mapping[str, Any]) -> None:
        """Notify that the run failed or succeeded."""
        call_notifiers(((each.notifier, each.args) for each in self.notifiers), context, run_line(context))


def run_line(context: Mapping[str, Any]) -> str:
    """Return the result of a run in one line."""
    dag_id, reason = context["dag"].dag_id, str(context.get("reason"))
    if reason == "success":
        return f"{dag_id} succeeded: run {context['run_id']}"
    ti = context.get("ti")
    if ti is None or reason in _REASONS:
        return f"{dag_id} failed: {_REASONS.get(reason, reason)} (run {context['run_id']})"
    return _failure_line(ti, _recorded_cause(ti))


def deadline_alert(spec: ModelSpec) -> Any:
    """Return Airflow's alert for a run that is not done in time, None without a deadline."""
    if spec.deadline_seconds is None:
        return None
    # Airflow's stub file lacks them.
    from airflow.sdk import DeadlineAlert, DeadlineReference, SyncCallback  # type: ignore[attr-defined]

    notifiers = [{"notifier": each.notifier, "args": dict(each.args)} for each in spec.notifications.on_deadline]
    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(seconds=spec.deadline_seconds),
        callback=SyncCallback(
            f"{__name__}.deadline_missed",
            kwargs={"model": spec.model, "deadline": format_duration(spec.deadline_seconds), "notifiers": notifiers},
        ),
    )


def deadline_missed(
    *, model: str, deadline: str, notifiers: Sequence[Mapping[str, Any]], context: Mapping[str, Any]
) -> None:
    """Notify that a run is not done in time; Airflow calls this in an executor."""
    run = context["dag_run"]
    line = f"{model} is not done within {deadline}: run {run['dag_run_id']} is {run['state']}"
    call_notifiers(((each["notifier"], each["args"]) for each in notifiers), context, line)


def notifier_findings(data: Mapping[str, Any]) -> Iterator[Finding]:
    """Find allowed names in a spec's values that are no notifiers, by importing them.

    A package that is not installed here is no finding: it may be installed where the runs are.
    """
    for event in NotificationsSection.model_fields:
        for index, one in enumerate(_list(data, "notifications", event)):
            name = one.get("notifier") if isinstance(one, Mapping) else None
            if isinstance(name, str) and is_usable(name) and (refusal := _refusal(name)):
                yield Finding(("notifications", event, index, "notifier"), refusal)


def _list(data: Mapping[str, Any], *path: str) -> Sequence[Any]:
    for part in path:
        found = data.get(part)
        data = found if isinstance(found, Mapping) else {}
    return found if isinstance(found, list) else ()


def _refusal(name: str) -> Refusal | None:
    try:
        load_notifier(name)
    except Refusal as refusal:
        return refusal
    except ModuleNotFoundError as error:
        missing = error.name or ""
        # The package is installed, but lacks a module of that name.
        parts = missing.count(".") - (2 if missing.startswith("airflow.providers.") else 0)
        if parts > 0 and name.startswith(f"{missing}."):
            return Refusal(f"{shown(name)} is not there: there is no module {missing}")
    except Exception as error:
        return Refusal(f"{shown(name)} cannot be imported: {type(error).__name__}: {error}")
    return None


def callbacks(spec: ModelSpec) -> dict[str, Any]:
    """Return the callbacks of the spec's DAG; those without notifiers are left out."""
    notifications = spec.notifications
    return {
        "on_failure_callback": RunEnded(notifications.on_failure) if notifications.on_failure else None,
        "on_success_callback": RunEnded(notifications.on_success) if notifications.on_success else None,
        "deadline": deadline_alert(spec),
    }


def _failure_line(ti: Any, cause: str | None) -> str:
    item = f"[{ti.map_index}]" if ti.map_index is not None and ti.map_index >= 0 else ""
    what = one_line(cause) if cause else "it recorded no cause; see its log"
    return f"{ti.dag_id} failed in {ti.task_id}{item} (try {ti.try_number}): {what}"


def _recorded_cause(ti: Any) -> str | None:
    """Return the cause that the task recorded, None if it recorded none."""
    try:
        found = ti.xcom_pull(task_ids=ti.task_id, key="failure", map_indexes=ti.map_index)
    except Exception as error:
        _log.warning("the cause recorded by %s cannot be read: %s", ti.task_id, error)
        return None
    return str(found) if found else None


def one_line(cause: str) -> str:
    """Return an error in one line: its sentences and, where it quotes a job's log, the last line of the log."""
    first, *lines = [line.strip() for line in cause.splitlines() if line.strip()] or [""]
    quoted = [line.removeprefix("|").strip().rstrip(".") for line in lines if line.startswith("|")]
    last = next((line for line in reversed(quoted) if line), None)
    text = f"{first} {last}" if last else first
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
