"""`modelway reproduce`: a version that was really made is run again from its record."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]
MODELWAY = Path(sys.executable).parent / "modelway"

CODE = """
import os

import torch


def start(job):
    torch.manual_seed(job.seed)
    net = torch.nn.Linear(4, 2)
    if os.path.basename(__file__) == "wild.py":
        with torch.no_grad():
            net.bias += torch.tensor(list(os.urandom(2))) / 256
    return net


def train(job):
    net = start(job)
    for step in (1, 2):
        job.log(step=step, train_loss=job.params["scale"] / step)
        with torch.no_grad():
            net.weight += torch.rand(2, 4) * job.params["scale"]
        with job.checkpoint(step=step) as path:
            torch.save(net.state_dict(), path)


def evaluate(job, checkpoint):
    return {"loss": float(torch.load(checkpoint, weights_only=True)["weight"].square().mean())}


def export(job, checkpoint):
    net = torch.nn.Linear(4, 2)
    net.load_state_dict(torch.load(checkpoint, weights_only=True))
    return net, torch.ones(2, 4)
"""
SPEC = """
model: {name}
params: {{scale: {{default: 1.0}}}}
datasets: {{rows: {{uri: "{data}"}}}}
train: {{seed: 3}}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A home, models and a data set."""
    place = tmp_path_factory.mktemp("reproduce")
    (place / "rows.csv").write_text("a,b\n1,2\n")
    for name in ("steady", "wild"):
        folder = place / "models" / name
        folder.mkdir(parents=True)
        (folder / f"{name}.py").write_text(CODE)
        (folder / "model.yaml").write_text(SPEC.format(name=name, data=(place / "rows.csv").as_uri()))
    return place


def modelway(place, *words):
    places = {"MODELWAY_HOME": str(place / "home"), "MODELWAY_MODELS": str(place / "models")}
    return subprocess.run(
        [MODELWAY, *words], env={**os.environ, **places}, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


def run(place, name, *words):
    done = modelway(place, "run", name, "--set", "rollout=no", *words)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


@pytest.fixture(scope="module")
def steady(place):
    run(place, "steady", "--seed", "5", "--set", "scale=0.5")
    # What is in the folder now does not matter any more.
    (place / "models" / "steady" / "steady.py").write_text("raise SystemExit('other code')")
    return "steady"


def test_a_version_comes_out_the_same_byte_for_byte(place, steady, tmp_path):
    done = modelway(place, "reproduce", steady, "latest", "--keep", str(tmp_path / "kept"))
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert done.stdout.startswith("steady v1: reproduced, byte for byte\n")
    shown = json.loads(modelway(place, "show", "steady", "1", "--json").stdout)
    assert shown["summary"]["model_digest"] in done.stdout
    assert (tmp_path / "kept" / "lineage.db").exists()
    assert len(json.loads(modelway(place, "versions", "steady", "--json").stdout)) == 1, "in a lineage of its own"
    assert not (tmp_path / "kept" / "endpoints" / "steady").exists(), "nothing serves"
    again = modelway(place, "reproduce", steady, "latest", "--keep", str(tmp_path / "kept"))
    assert (again.returncode, "not empty" in again.stderr) == (1, True)


def test_what_draws_from_nowhere_is_told_with_the_files_that_differ(place):
    run(place, "wild")
    done = modelway(place, "reproduce", "wild", "1")
    assert done.returncode == 1, done.stdout[-4000:] + done.stderr[-4000:]
    assert done.stdout.startswith("wild v1: not reproduced")
    # So small a tensor stays inside the program.
    for differs in ("checkpoint digest  sha256:", "model digest       sha256:", "~ model/model.onnx"):
        assert differs in done.stdout
    for same in ("Parameters: no difference", "Code: no difference", "Data: no difference"):
        assert same in done.stdout
    assert "Traceback" not in done.stdout


def test_a_data_set_that_changed_or_went_is_told_before_anything_runs(place, steady, tmp_path):
    data = place / "rows.csv"
    before = data.read_text()
    try:
        data.write_text(before + "3,4\n")
        done = modelway(place, "reproduce", steady, "1", "--keep", str(tmp_path / "kept"))
        assert done.returncode == 1
        assert "data set 'rows' has changed" in done.stderr
        assert "airflow" not in done.stderr.lower()
        assert not (tmp_path / "kept" / "airflow-run").exists(), "nothing was run"
        data.unlink()
        done = modelway(place, "reproduce", steady, "1")
        assert (done.returncode, "'rows'" in done.stderr) == (1, True)
    finally:
        data.write_text(before)


def test_what_was_never_registered_is_refused(place, steady):
    done = modelway(place, "reproduce", "stead", "1")
    assert (done.returncode, "Did you mean 'steady'" in done.stderr) == (1, True)
    done = modelway(place, "reproduce", steady, "7")
    assert (done.returncode, "has no version '7'" in done.stderr) == (1, True)
