"""What operators read of Airflow's context: which run and task it is, and who started it."""

from typing import Any

from airflow.sdk import Context


def run_key(context: Context) -> str:
    """Return what names this DAG run among all runs of all DAGs."""
    dag_run = context["dag_run"]
    return f"{dag_run.dag_id}/{dag_run.run_id}"


def job_key(context: Context, *, item: str | None = None) -> str:
    """Return what names a task's job within its run; mapped tasks give the ``item`` they work on, never their index."""
    task_id = context["ti"].task_id
    return f"{task_id}/{item}" if item else task_id


def actor(context: Context) -> str:
    """Return who triggered the run, or ``airflow`` when its schedule did."""
    return context["dag_run"].triggering_user_name or "airflow"


def clear_number(context: Context) -> int:
    """Return how often the DAG run was cleared."""
    return context["dag_run"].clear_number or 0


def map_index(operator: Any, context: Context) -> int | None:
    """Return which of a mapped operator's tasks runs, None where neither it nor a group around it is mapped."""
    index = getattr(context.get("ti"), "map_index", None)
    is_mapped = getattr(operator, "_BaseOperator__from_mapped", False) or operator.get_closest_mapped_task_group()
    return int(index) if is_mapped and index is not None and index >= 0 else None
