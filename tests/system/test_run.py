"""`modelway run`: a model's DAG in one process, without any server."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]
MODELWAY = Path(sys.executable).parent / "modelway"
MODELS = Path(__file__).parent / "models"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("run")


def modelway(home, *words):
    environment = {**os.environ, "MODELWAY_HOME": str(home), "MODELWAY_MODELS": str(MODELS)}
    return subprocess.run([MODELWAY, *words], env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def test_training_code_that_raises_is_told_with_its_last_lines(home):
    done = modelway(home, "run", "raises")
    assert done.returncode == 1
    summary = done.stdout[done.stdout.index("train.train failed") :]
    assert "ZeroDivisionError: division by zero (raises.py:3 in train)" in summary
    assert "about to divide" in summary
    assert modelway(home, "versions", "raises").returncode == 1, "no version is registered"


def test_a_run_ends_with_a_registered_version_that_serves(home):
    done = modelway(home, "run", "resumes", "--seed", "5")
    try:
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
        assert "resumes version 1" in done.stdout
        assert "version 1 100 %" in done.stdout
        shown = modelway(home, "show", "resumes", "1")
        assert shown.returncode == 0
        assert "Seed" in shown.stdout
    finally:
        from modelway.endpoints.base import load_endpoint

        load_endpoint("local", root=home / "endpoints").delete("resumes")


def test_a_broken_spec_is_refused_with_its_problems(home):
    done = modelway(home, "run", "broken")
    assert done.returncode == 1
    assert "Did you mean 'train'?" in done.stderr
    assert "Traceback" not in done.stderr
