"""`modelway run`: a model's DAG in one process, without any server."""

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from tests.airflow_template import with_database

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]
MODELWAY = Path(sys.executable).parent / "modelway"
MODELS = Path(__file__).parent / "models"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return with_database(tmp_path_factory.mktemp("run"), name="airflow-run")


def environment(home, models=MODELS):
    """Return the environment of a user who has an Airflow of their own."""
    own = {"AIRFLOW_CONFIG": "/of/another/airflow.cfg", "AIRFLOW__CORE__XCOM_BACKEND": "no.such.Backend"}
    return {**os.environ, **own, "MODELWAY_HOME": str(home), "MODELWAY_MODELS": str(models)}


def modelway(home, *words):
    return subprocess.run(
        [MODELWAY, *words], env=environment(home), capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


def test_training_code_that_raises_is_reported_with_its_last_lines(home):
    done = modelway(home, "run", "raises")
    assert done.returncode == 1
    summary = done.stdout[done.stdout.index("train.train failed") :]
    assert "ZeroDivisionError: division by zero (raises.py:3 in train)" in summary
    assert "about to divide" in summary
    assert done.stdout.count("Traceback") == summary.count("  | ZeroDivisionError") == 1
    assert "modelway/job/__main__.py" not in summary, "the traceback begins in the model's own code"
    assert len(done.stdout.splitlines()) < 40, "Airflow's log stays in its file"
    log = Path(re.search(r"^run log: (.+)$", summary, flags=re.MULTILINE)[1])
    assert "about to divide" in log.read_text()
    assert log.stat().st_mode & 0o077 == 0
    assert modelway(home, "versions", "raises").returncode == 1, "no version is registered"


def test_a_run_ends_with_a_registered_version_that_serves(home):
    done = modelway(home, "run", "resumes", "--seed", "5")
    try:
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
        assert "resumes version 1" in done.stdout
        assert "version 1 100 %" in done.stdout
        shown = modelway(home, "show", "resumes", "1")
        assert shown.returncode == 0
        assert re.search(r"^Seed +5$", shown.stdout, flags=re.MULTILINE)
    finally:
        from modelway.endpoints.base import load_endpoint

        load_endpoint("local", root=home / "endpoints").delete("resumes")


def test_a_broken_spec_is_refused_with_its_problems(home):
    done = modelway(home, "run", "broken")
    assert done.returncode == 1
    assert "Did you mean 'train'?" in done.stderr
    assert "Traceback" not in done.stderr


STUBBORN = """
import subprocess, time

def train(job):
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    for second in range(600):
        print("second", second, flush=True)
        time.sleep(1)

def evaluate(job, checkpoint): ...
def export(job, checkpoint): ...
"""


@pytest.fixture
def long(tmp_path):
    """A folder of models with one that trains for ten minutes."""
    (tmp_path / "long").mkdir()
    (tmp_path / "long" / "long.py").write_text(STUBBORN)
    (tmp_path / "long" / "model.yaml").write_text("model: long\n")
    return tmp_path


def job_processes(home):
    """Return the living processes of the jobs of a home folder."""
    place, found = str(home / "jobs"), []
    for process in psutil.process_iter(["cmdline", "cwd", "status"]):
        words = [*(process.info["cmdline"] or ()), process.info["cwd"] or ""]
        if process.info["status"] != psutil.STATUS_ZOMBIE and any(word.startswith(place) for word in words):
            found.append(process)
    return found


@pytest.mark.parametrize(
    ("number", "when"),
    [(signal.SIGTERM, "second 2"), (signal.SIGINT, "second 2"), (signal.SIGINT, "running trigger in line")],
)
def test_a_signal_ends_the_run_and_its_training(home, long, number, when):
    """Airflow runs the task: it takes the first two for a failure to try again, and waits through the last."""
    run = subprocess.Popen(
        [MODELWAY, "run", "long", "--verbose"],
        env=environment(home, long),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines = []
    for line in run.stdout:
        lines.append(line)
        if when in line:
            break
    try:
        assert run.poll() is None, "".join(lines[-50:])
        assert "sleep" in {process.name() for process in job_processes(home)}
        run.send_signal(number)
        began = time.monotonic()
        output, _ = run.communicate(timeout=60)
        assert run.returncode == 130
        assert "modelway: the run of long was stopped with its jobs on this machine; its log is" in output
        assert job_processes(home) == []
        assert time.monotonic() - began < 30
    finally:
        for process in [run, *job_processes(home)]:
            process.kill()


def test_a_crash_of_the_process_that_runs_the_dag_is_shown_with_its_signal_and_stack(home, long):
    """As a library of C would end it; its jobs end with it."""
    run = subprocess.Popen(
        [MODELWAY, "run", "long"],
        env=environment(home, long),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        end = time.monotonic() + 120
        while "sleep" not in {process.name() for process in job_processes(home)}:
            assert time.monotonic() < end
            assert run.poll() is None, run.stderr.read()
            time.sleep(0.2)
        (runs_dag,) = [
            each for each in psutil.Process(run.pid).children() if "modelway.cli._dag_test" in each.cmdline()
        ]
        runs_dag.send_signal(signal.SIGABRT)
        _, errors = run.communicate(timeout=60)
    finally:
        for process in [run, *job_processes(home)]:
            process.kill()
    assert run.returncode == 1
    assert "the process that ran the DAG was ended by signal 6 (Aborted) before it had an outcome" in errors
    assert "Fatal Python error: Aborted" in Path(re.search(r"modelway: (\S+\.log): ", errors)[1]).read_text()
    assert job_processes(home) == []


def test_a_run_that_was_stopped_counts_as_failed_for_the_next_one(home):
    """Otherwise the next one would wait for ever for the rollout of a run that is over."""
    with closing(sqlite3.connect(f"file:{home}/airflow-run/airflow.db?mode=ro", uri=True)) as database:
        states = [state for (state,) in database.execute("SELECT state FROM dag_run WHERE dag_id = 'long' ORDER BY id")]
    assert states == ["failed"] * 4
