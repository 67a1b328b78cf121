"""The scheduler of a local Airflow: its sleep ends as soon as a worker reports, and else takes its time."""

import subprocess
from pathlib import Path

import pytest

from tests.quick_python import COMMAND

REPOSITORY = Path(__file__).parents[2]

#: the executor that Airflow has, one worker of which reports that it began a task and then that it ended
SCHEDULER = """
import sys, threading
from modelway.localairflow.wake_up import wake_scheduler_when_tasks_end

wake_scheduler_when_tasks_end()
from airflow.executors.local_executor import LocalExecutor
from airflow.jobs import scheduler_job_runner

slept = scheduler_job_runner.time.sleep
slept(0.1)
print("slept before there is an executor")
executor = LocalExecutor(parallelism=1)
executor.start()
slept(0)
slept(0.1)
print("slept while no task ends")
threading.Timer(0.5, executor.result_queue.put, ["a report"]).start()
slept(3600)
print("slept until there was", executor.result_queue.get())
began = scheduler_job_runner.time.monotonic()
slept(0.2)
print("slept its time:", scheduler_job_runner.time.monotonic() - began >= 0.2)
executor.end()
"""


@pytest.mark.timeout(240)
def test_the_scheduler_sleeps_until_a_task_ends_but_no_longer_than_it_would(tmp_path):
    environment = {"PYTHONPATH": str(REPOSITORY / "plugins"), "AIRFLOW_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [*COMMAND, SCHEDULER], env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr[-3000:]
    # Airflow prints, too.
    assert [line for line in done.stdout.splitlines() if line.startswith("slept ")] == [
        "slept before there is an executor",
        "slept while no task ends",
        "slept until there was a report",
        "slept its time: True",
    ]
