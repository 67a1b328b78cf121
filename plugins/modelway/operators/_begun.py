"""A run that begins is told to those who are told what the lineage learns; the run goes on whatever becomes of it."""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import Context

from modelway.hooks.lineage import flush_exporters
from modelway.operators.context import actor

if TYPE_CHECKING:
    from modelway.lineage.store import Lineage


def tell_begun(context: Context, planned: Mapping[str, Any]) -> None:
    """Tell that a run begins to make a version.

    :param planned: what PlanRunOperator returns
    """

    def record(lineage: "Lineage") -> None:
        lineage.exports.record_run_started(model=planned["model"], run=_run(context, planned))

    flush_exporters(before=record)


def _run(context: Context, planned: Mapping[str, Any]) -> Any:
    from modelway.lineage.records.version import DatasetRecord, RunRecord

    dag_run, plan = context["dag_run"], planned["plan"]
    start, end = (_time(plan["interval"].get(side)) for side in ("start", "end"))
    return RunRecord(
        dag_id=dag_run.dag_id,
        run_id=dag_run.run_id,
        actor=actor(context),
        run_type=dag_run.run_type.value,
        started_at=dag_run.start_date,
        code_digest=planned["digest"],
        **planned["commit"],
        inputs_digest=plan["inputs"],
        interval_start=start,
        interval_end=end,
        partition=plan["partition"],
        run_after=dag_run.run_after,
        reason=plan["reason"],
        datasets=tuple(
            DatasetRecord(stage="", **{key: each.get(key) for key in ("name", "uri", "digest", "version")})
            for each in plan["datasets"]
        ),
    )


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
