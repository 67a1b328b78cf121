"""The one DAG that watches what serves, of all models."""

from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG, get_parsing_context

from modelway.dag.queues import on_serving_host
from modelway.operators.monitor import MonitorModelsOperator
from modelway.runs.watched import specs_with_rules

DAG_ID = "modelway-monitor"
MINUTES = 15


def monitor_dags(folder: Path) -> dict[str, DAG]:
    """Return the monitor's DAG by its id; none where no model of a folder has rules below ``monitor``."""
    wanted = get_parsing_context().dag_id
    if wanted not in (None, DAG_ID):
        return {}
    # Which queue is only of interest to the scheduler, which has the DAG as the DAG processor read it.
    specs = specs_with_rules(folder) if wanted is None else []
    if wanted is None and not specs:
        return {}
    with DAG(
        dag_id=DAG_ID,
        description="Compares what serves with the rows it was evaluated on, and requests retrainings",
        schedule=timedelta(minutes=MINUTES),
        catchup=False,
        max_active_runs=1,
        # Whoever gives a model rules wants them checked.
        is_paused_upon_creation=False,
        tags={"modelway"},
        default_args={"retries": 0},
    ) as dag:
        MonitorModelsOperator(
            task_id="check",
            folder=str(folder),
            doc_md="Checks all models whose spec has rules below `monitor`; see docs/monitor.md",
            **on_serving_host(*specs),
        )
    return {DAG_ID: dag}
