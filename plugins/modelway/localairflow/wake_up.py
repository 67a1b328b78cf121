"""The scheduler of a local Airflow continues as soon as a task ends, in place of up to a second later.

Airflow's scheduler sleeps after each round in which nothing happened. A run of a model has a dozen tasks in a row, and
each would wait for that.
"""

import time
from multiprocessing.connection import Connection, wait
from typing import Any


class WakingTime:
    """The module ``time`` for the scheduler, whose sleep ends when a worker of the executor reports."""

    def __init__(self) -> None:
        self.reports: list[Connection] = []
        """where workers report that a task begins or ends"""

    def __getattr__(self, name: str) -> Any:
        """Return what the module has by this name."""
        return getattr(time, name)

    def sleep(self, seconds: float) -> None:
        """Wait for so long, or until there is a report that the scheduler has not read."""
        if not self.reports:
            time.sleep(seconds)
        elif seconds > 0:
            wait(self.reports, timeout=seconds)


def wake_scheduler_when_tasks_end() -> None:
    """Let the scheduler of this process continue when its LocalExecutor has news."""
    from airflow.executors.local_executor import LocalExecutor
    from airflow.jobs import scheduler_job_runner

    waking, start = WakingTime(), LocalExecutor.start

    def start_and_listen(executor: LocalExecutor) -> None:
        start(executor)
        # An Airflow whose executor reports otherwise sleeps as it always does.
        reader = getattr(getattr(executor, "result_queue", None), "_reader", None)
        waking.reports[:] = [reader] if reader is not None else []

    LocalExecutor.start = start_and_listen  # type: ignore[assignment,method-assign]
    scheduler_job_runner.time = waking  # type: ignore[attr-defined,assignment]
