"""What a command that was killed left in its home is found by the next one, and stopped; nothing else is."""

import json
import os
import subprocess
import sys
import textwrap

import psutil
import pytest
from modelway.backends.base import Job, JobState, Options, load_backend
from modelway.localairflow.leftovers import recorded_start
from modelway.platforms.processes.marked import MARK

from tests.job_folders import WAITS, pid_of, runs, store_code, wait_for

#: a command that starts a process, and a process of that in a session of its own, and is then killed
KILLED = """
    import os, signal, subprocess, sys
    from pathlib import Path
    from modelway.localairflow.leftovers import recorded_start

    home = Path(sys.argv[1])
    wait = [sys.executable, "-c", "import time; time.sleep(300)"]
    nested = "import subprocess, sys; subprocess.Popen(sys.argv[1:], start_new_session=True).wait()"
    with recorded_start(home, command="modelway demo", serving=home / "endpoints") as (mark, left):
        assert left is None
        own = {**os.environ, **mark}
        started = [
            subprocess.Popen([sys.executable, "-c", nested, *wait], env=own, stdout=subprocess.DEVNULL),
            subprocess.Popen([*wait, f"{home}/endpoints/digits/run.json"], env=own, stdout=subprocess.DEVNULL),
            subprocess.Popen(wait, stdout=subprocess.DEVNULL),
        ]
        print(*(each.pid for each in started), *mark.values(), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def home(tmp_path):
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def killed(home):
    """Kill a command that had started three processes and return their ids and its mark."""
    words = [sys.executable, "-c", textwrap.dedent(KILLED), str(home)]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True)
    assert done.returncode == -9
    *pids, mark = done.stdout.split()
    yield [*map(int, pids)], mark
    for pid in map(int, pids):
        if psutil.pid_exists(pid):
            psutil.Process(pid).kill()


def start(home):
    return recorded_start(home, command="modelway run digits", serving=home / "endpoints")


def test_what_a_killed_command_left_is_stopped_but_what_serves_and_what_is_another_ones(home, killed):
    (left, serves, other), mark = killed
    wait_for(lambda: psutil.Process(left).children(), seconds=60, what="the process below")
    nested = [process.pid for process in psutil.Process(left).children()]
    with start(home) as (_, reported):
        assert "`modelway demo`" in reported
        assert "was killed and left" in reported
    assert not runs(left)
    assert nested
    assert not any(map(runs, nested))
    assert runs(serves)
    assert runs(other), "without the mark it is not touched"


def test_a_command_that_ends_by_itself_leaves_nothing_to_stop(home):
    with start(home) as (mark, reported):
        record = json.loads((home / "started.json").read_text())
        assert (reported, record["mark"]) == (None, mark[MARK])
    assert not (home / "started.json").exists()
    with start(home) as (_, reported):
        assert reported is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"mark": 1}'])
def test_a_record_that_cannot_be_read_stops_nothing(home, text):
    (home / "started.json").write_text(text)
    with start(home) as (_, reported):
        assert reported is None


def test_a_job_that_a_killed_command_left_is_cancelled(home, tmp_path, monkeypatch):
    backend = load_backend("local", home=home)
    code = store_code(tmp_path / "source", WAITS)
    asked = {"model": "tiny", "key": "train", "stage": "train", "action": "train", "module": "tiny.py", "code": code}
    handles = []
    for mark in ("of-the-killed-one", "of-another"):
        monkeypatch.setenv(MARK, mark)
        handles.append(backend.submit(backend.build_request(Job(run=f"tiny/{mark}", **asked), Options())))
        pid_of(backend, handles[-1])
    monkeypatch.delenv(MARK)
    record = {"mark": "of-the-killed-one", "command": "modelway run tiny", "pid": os.getpid()}
    (home / "started.json").write_text(json.dumps(record))
    left, other = handles
    try:
        with start(home) as (_, reported):
            assert reported.endswith("was killed and left 1 of its jobs running: stopped")
        wait_for(lambda: backend.describe(left).state is JobState.CANCELLED, seconds=60, what="the end of the job")
        assert backend.describe(other).state is JobState.RUNNING
    finally:
        for handle in handles:
            backend.cancel(handle)
