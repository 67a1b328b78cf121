"""The state of the task that a trigger belongs to."""

from typing import Any

#: a task in one of these states resumes or still follows its job
CONTINUES = frozenset({None, "deferred", "queued", "restarting", "running", "scheduled", "up_for_retry"})


#: the state of a task that is gone, or whose state cannot be read
UNKNOWN = "unknown"


async def state_now(task_instance: Any) -> str | None:
    """Return the state of a trigger's task, to be compared with ``CONTINUES``.

    It still needs its job where it was cleared and starts again, or where another triggerer follows the job now. The
    job of a task that is gone, or whose state cannot be read, is not needed: an orphaned job would cost without end,
    and one that is stopped by mistake continues from its last checkpoint.
    """
    if task_instance is None:
        return UNKNOWN
    from asgiref.sync import sync_to_async

    try:
        return await sync_to_async(task_state)(task_instance)
    except Exception:
        return UNKNOWN


def task_state(ti: Any) -> str | None:
    """Read the task's state from Airflow, as a task or a trigger does.

    :raises KeyError: the task or its run is gone
    """
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    mapped = ti.map_index is not None and ti.map_index >= 0
    states = RuntimeTaskInstance.get_task_states(
        dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index
    )
    # A mapped task's key ends with its map index.
    state = states[ti.run_id][f"{ti.task_id}_{ti.map_index}" if mapped else ti.task_id]
    return None if state is None else str(getattr(state, "value", state))
