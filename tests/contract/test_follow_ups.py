"""What follows the end of a run in a local Airflow: a fork for each, which ends with the scheduler's process."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.job_folders import runs

REPOSITORY = Path(__file__).parents[2]

#: one line of its input is the end of a run: it prints what follows it and where, and at "kill" ends what forks
SCHEDULER = """
import json, os, signal, sys
from modelway.following import orphaned_jobs
from modelway.localairflow.follow_ups import fork_follow_ups
from modelway.plugin import EndOfRuns

def main():
    context = os.environ["_AIRFLOW_PROCESS_CONTEXT"]
    print(json.dumps([sys.argv[1:], os.getpid(), os.getppid(), os.getsid(0), context]), flush=True)
    if sys.argv[2] == "failed":
        raise ValueError("of the work")

EndOfRuns.follow_up = staticmethod(lambda *words: print(json.dumps(["by a process", words]), flush=True))
orphaned_jobs.main = main
fork_follow_ups()
if os.fork() == 0:
    # A worker, which lives longer than the scheduler.
    os.close(1)
    os.close(2)
    signal.pause()
for line in sys.stdin:
    EndOfRuns.follow_up(*json.loads(line))
os._exit(0)
"""


@pytest.fixture
def scheduler(tmp_path):
    """A process that has what forks, and a worker."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "plugins"), "AIRFLOW_HOME": str(tmp_path)}
    with (tmp_path / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", SCHEDULER],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    yield process
    for each in (*psutil.Process(process.pid).children(recursive=True), process) if process.poll() is None else ():
        each.kill()
    process.communicate()


def end_run(process, *words):
    process.stdin.write(json.dumps(words) + "\n")
    process.stdin.flush()
    # Airflow may have printed before that it makes its configuration.
    return json.loads(next(line for line in process.stdout if line.startswith("[")))


def test_each_run_has_a_process_of_its_own_until_the_scheduler_ends(scheduler, tmp_path):
    first, second = (
        end_run(scheduler, f"digits/r{n}", state, ["local"]) for n, state in enumerate(("failed", "success"))
    )
    assert [first[0], second[0]] == [["digits/r0", "failed", "local"], ["digits/r1", "success", "local"]]
    forks, worker = first[2], next(iter({each.pid for each in psutil.Process(scheduler.pid).children()} - {first[2]}))
    # A failure is no concern of the next one; each has a session of its own, and reads connections as the scheduler.
    assert second[2] == forks
    assert first[1] == first[3] != second[1] == second[3]
    assert first[4] == second[4] == "server"
    scheduler.stdin.close()
    scheduler.wait(timeout=60)
    try:
        deadline = time.monotonic() + 60
        while runs(forks):
            assert time.monotonic() < deadline, "what forks has not ended with the scheduler"
            time.sleep(0.05)
        assert runs(worker)
    finally:
        psutil.Process(worker).kill()
    assert "ValueError: of the work" in (tmp_path / "log.txt").read_text()


def test_where_the_process_that_forks_was_killed_another_is_started(scheduler):
    forks = end_run(scheduler, "digits/r1", "success", ["local"])[2]
    psutil.Process(forks).kill()
    deadline = time.monotonic() + 60
    while runs(forks):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert end_run(scheduler, "digits/r2", "success", ["local"]) == [
        "by a process",
        ["digits/r2", "success", ["local"]],
    ]
