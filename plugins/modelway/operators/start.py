"""The start of a run, recorded for the exporters; the run continues even if recording fails."""

from typing import TYPE_CHECKING

from airflow.sdk import Context

from modelway.hooks.lineage import flush_exporters
from modelway.operators.context import run_facts
from modelway.runs.messages.code import RunPlan

if TYPE_CHECKING:
    from modelway.lineage.store import Lineage


def record_start(context: Context, plan: RunPlan) -> None:
    """Record that a run starts to make a version, and send it to the exporters."""

    from modelway.runs.record import start_record

    def record(store: "Lineage") -> None:
        store.exports.record_run_started(model=plan.code.model, run=start_record(run_facts(context), plan))

    flush_exporters(before=record)
