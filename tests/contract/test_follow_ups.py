"""What follows the end of a run in a local Airflow: a fork for each, which ends with the scheduler's process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.job_folders import runs, wait_for

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
    if sys.argv[2] == "slow":
        signal.pause()

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
def log(tmp_path):
    return tmp_path / "log.txt"


@pytest.fixture
def scheduler(tmp_path, log):
    """A process that has what forks, and a worker."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "plugins"), "AIRFLOW_HOME": str(tmp_path)}
    words = [sys.executable, "-c", SCHEDULER]
    with log.open("wb") as output:
        process = subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=output, stderr=output)
    yield process
    for each in (*psutil.Process(process.pid).children(recursive=True), process) if process.poll() is None else ():
        each.kill()
    process.stdin.close()
    process.wait()


def end_run(process, log, *words):
    """End a run and return what was printed of it."""
    before = printed(log)
    process.stdin.write(json.dumps(words).encode() + b"\n")
    process.stdin.flush()
    wait_for(lambda: len(printed(log)) > len(before), seconds=180.0, what="what follows the run")
    return printed(log)[-1]


def printed(log):
    """Return the whole lines of the script's own."""
    lines = log.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.startswith("[") and line.endswith("\n")]


def test_each_run_has_a_process_of_its_own_until_the_scheduler_ends(scheduler, log):
    first, second = (end_run(scheduler, log, f"digits/{state}", state, ["local"]) for state in ("failed", "success"))
    assert [first[0], second[0]] == [["digits/failed", "failed", "local"], ["digits/success", "success", "local"]]
    # A failure is no concern of the next one; each has a session of its own, and reads connections as the scheduler.
    forks = second[2]
    assert first[2] == forks
    assert first[1] == first[3] != second[1] == second[3]
    assert first[4] == second[4] == "server"
    (worker,) = (each for each in psutil.Process(scheduler.pid).children() if each.pid != forks)
    scheduler.stdin.close()
    scheduler.wait(timeout=60)
    try:
        wait_for(lambda: not runs(forks), what="the end of what forks")
        assert runs(worker.pid)
    finally:
        worker.kill()
    wait_for(lambda: "ValueError: of the work" in log.read_text(), what="the failure")


def test_where_the_process_that_forks_was_killed_another_is_started(scheduler, log):
    _, works, forks, *_ = end_run(scheduler, log, "digits/r1", "slow", ["local"])
    try:
        psutil.Process(forks).kill()
        wait_for(lambda: not runs(forks), what="its end")
        words = ["digits/r2", "success", ["local"]]
        assert end_run(scheduler, log, *words) == ["by a process", words]
    finally:
        psutil.Process(works).kill()
