"""The start of a run, recorded for the exporters; the run continues whatever becomes of it."""

from typing import TYPE_CHECKING

from airflow.sdk import Context

from modelway.hooks.lineage import tell_exporters
from modelway.operators.context import run_facts
from modelway.runs.messages.code import RunPlan
from modelway.runs.record import start_record

if TYPE_CHECKING:
    from modelway.lineage.store import LineageStore


def record_start(context: Context, plan: RunPlan) -> None:
    """Record that a run starts to make a version, and send it to the exporters."""

    def record(store: "LineageStore") -> None:
        from modelway.lineage.export.outbox import put_started

        put_started(store.engine, model=plan.code.model, run=start_record(run_facts(context), plan))

    tell_exporters(keep=record)
