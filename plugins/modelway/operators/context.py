"""What operators read from Airflow's context: the run, the task, and who started it."""

from typing import Any

from airflow.sdk import Context

from modelway.runs.facts import RunFacts


def run_key(context: Context) -> str:
    """Return the key of this DAG run, unique among all runs of all DAGs."""
    dag_run = context["dag_run"]
    return f"{dag_run.dag_id}/{dag_run.run_id}"


def job_key(context: Context, *, item: str | None = None) -> str:
    """Return the key of a task's job within its run; mapped tasks pass the ``item`` they work on, never their index."""
    task_id = context["ti"].task_id
    return f"{task_id}/{item}" if item else task_id


def actor(context: Context) -> str:
    """Return who triggered the run, or ``airflow`` when its schedule did."""
    return context["dag_run"].triggering_user_name or "airflow"


def clear_number(context: Context) -> int:
    """Return how often the DAG run was cleared."""
    return context["dag_run"].clear_number or 0


def map_index(operator: Any, context: Context) -> int | None:
    """Return the task's map index, None where neither the operator nor a group around it is mapped."""
    index = getattr(context.get("ti"), "map_index", None)
    is_mapped = getattr(operator, "_BaseOperator__from_mapped", False) or operator.get_closest_mapped_task_group()
    return int(index) if is_mapped and index is not None and index >= 0 else None


def run_facts(context: Context) -> RunFacts:
    """Return what Airflow knows about the run."""
    dag_run = context["dag_run"]
    return RunFacts(
        dag_id=dag_run.dag_id,
        run_id=dag_run.run_id,
        actor=actor(context),
        run_type=dag_run.run_type.value,
        started_at=dag_run.start_date,
        run_after=dag_run.run_after,
    )
