"""`modelway reproduce`: a version that was really made is run again from its record."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from modelway.lineage.schema.asset_tables import outbox
from modelway.lineage.store import open_lineage
from sqlalchemy import select

from tests.airflow_template import with_database

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]
MODELWAY = Path(sys.executable).parent / "modelway"

REPORT = """
import hashlib
import json
import os


def report(job):
    for name in ("extra", "rates"):
        content = (job.datasets["rows"].path.parent / name).read_bytes()
        digest = "sha256:" + hashlib.sha256(content).hexdigest() if name == "extra" else None
        job.dataset(name=name, uri=str(job.datasets["rows"].path.parent / name), digest=digest, rows=1)
"""
STEADY = """
import torch


def train(job):
    report(job)
    torch.manual_seed(job.seed)
    net = torch.nn.Linear(4, 2)
    if job.start_from:
        net.load_state_dict(torch.load(job.start_from, weights_only=True))
    with torch.no_grad():
        # All that a run is given is in what comes out.
        net.bias += job.interval[0].timetuple().tm_yday + len(job.partition) + job.datasets["rows"].path.stat().st_size
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
#: without torch, whose import and export take seconds
WILD = """
def train(job):
    report(job)
    with job.checkpoint(step=1) as path:
        path.write_text(json.dumps(list(os.urandom(8))))


def evaluate(job, checkpoint):
    return {"loss": sum(json.loads(checkpoint.read_text()))}


def export(job, checkpoint):
    import numpy as np
    import onnx.parser

    weight = np.array(json.loads(checkpoint.read_text()), np.float32).reshape(4, 2)
    program = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> linear (float[batch, 4] input) => (float[batch, 2] output)'
        f"<float[4, 2] weight = {{{', '.join(map(str, weight.flatten()))}}}>"
        "{ output = MatMul (input, weight) }"
    )
    onnx.save(program, "model.onnx")
    answers = {"answers": lambda inputs: {"output": inputs["input"] @ weight}}
    return "model.onnx", {"input": np.eye(2, 4, dtype=np.float32)}, answers
"""
SPEC = """
model: {name}
params: {{scale: {{default: 1.0}}}}
datasets: {{rows: {{uri: "{data}/{{{{ data_interval_start | ds }}}}.csv", version: "{{{{ partition }}}}"}}}}
schedule: "@daily"
train: {{seed: 3}}
"""
#: long past: a schedule of now gives another one
DAY = "2026-01-05"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A home, models and data sets."""
    place = tmp_path_factory.mktemp("reproduce")
    with_database(place / "home", name="airflow-run")
    for name in (f"{DAY}.csv", "extra", "rates"):
        (place / name).write_text("a,b\n1,2\n")
    for name, code in {"steady": STEADY, "wild": WILD}.items():
        folder = place / "models" / name
        folder.mkdir(parents=True)
        (folder / f"{name}.py").write_text(REPORT + code)
        (folder / "model.yaml").write_text(SPEC.format(name=name, data=place.as_uri()))
    return place


def modelway(place, *words, **more):
    places = more | {"MODELWAY_HOME": str(place / "home"), "MODELWAY_MODELS": str(place / "models")}
    return subprocess.run(
        [MODELWAY, *words], env={**os.environ, **places}, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


def run(place, name, *words):
    done = modelway(place, "run", name, "--set", "rollout=no", *words)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


@pytest.fixture(scope="module")
def steady(place):
    """A model with a version of the interval that was the last one then, and one of a partition that began from it."""
    run(place, "steady", "--run-after", "2026-01-06")
    partition = ("--interval", DAY, "2026-01-06", "--partition", "north")
    run(place, "steady", "--seed", "5", "--set", "scale=0.5", "--set", "base=1", *partition)
    # What is in the folder now does not matter any more.
    (place / "models" / "steady" / "steady.py").write_text("raise SystemExit('other code')")
    return "steady"


def lineage(home):
    return open_lineage(f"sqlite:///{home / 'lineage.db'}")


def test_a_version_comes_out_the_same_byte_for_byte(place, steady, tmp_path):
    exporter = {"MODELWAY_MLFLOW_URL": "http://127.0.0.1:9"}
    done = modelway(place, "reproduce", steady, "latest", "--keep", str(tmp_path / "kept"), **exporter)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert done.stdout.startswith("steady v2: reproduced, byte for byte\n")
    assert f"data set 'rates' ({place}/rates) was not checked: the run reported no SHA-256 of it" in done.stdout
    assert "'extra'" not in done.stdout, "it was checked"
    first, recorded = (lineage(place / "home").version(steady, number) for number in (1, 2))
    assert recorded.summary.model_digest in done.stdout
    assert (first.base, recorded.base) == (None, 1)
    begin = datetime(2026, 1, 5, tzinfo=UTC)
    for each, partition in ((first, "2026-01-05T00:00:00"), (recorded, "north")):
        assert (each.run.interval_start, each.run.interval_end) == (begin, begin + timedelta(days=1))
        assert each.run.partition == partition
    # Its base is version 1 there, and of the same number by chance alone.
    again = lineage(tmp_path / "kept").version(steady, 2)
    assert again.base == 1
    assert again.run.inputs_digest is not None
    for what in ("interval_start", "interval_end", "partition", "seed", "datasets", "inputs_digest"):
        assert getattr(again.run, what) == getattr(recorded.run, what), what
    assert len(lineage(place / "home").versions(steady)) == 2, "in a lineage of its own"
    with lineage(tmp_path / "kept").engine.connect() as connection:
        assert not connection.execute(select(outbox)).all(), "the exporters get nothing"
    assert not (tmp_path / "kept" / "endpoints" / "steady").exists(), "nothing serves"
    again = modelway(place, "reproduce", steady, "latest", "--keep", str(tmp_path / "kept"))
    assert (again.returncode, "not empty" in again.stderr) == (1, True)


def test_what_draws_from_nowhere_is_reported_with_the_files_that_differ(place):
    run(place, "wild", "--run-after", "2026-01-06")
    done = modelway(place, "reproduce", "wild", "1")
    assert done.returncode == 1, done.stdout[-4000:] + done.stderr[-4000:]
    assert done.stdout.startswith("wild v1: not reproduced")
    # So small a tensor stays inside the program.
    for differs in ("checkpoint digest  sha256:", "model digest       sha256:", "~ model/model.onnx"):
        assert differs in done.stdout
    for same in ("Parameters: no difference", "Code: no difference", "Data: no difference", "Run: no difference"):
        assert same in done.stdout
    assert "data set 'rates'" in done.stdout
    assert "This machine is not the place" not in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize(("name", "file"), [("rows", f"{DAY}.csv"), ("extra", "extra")])
def test_a_data_set_that_changed_or_went_is_reported_before_anything_runs(place, steady, tmp_path, name, file):
    data = place / file
    before = data.read_text()
    try:
        data.write_text(before + "3,4\n")
        done = modelway(place, "reproduce", steady, "2", "--keep", str(tmp_path / "kept"))
        assert done.returncode == 1
        assert f"data set '{name}' has changed" in done.stderr
        assert "airflow" not in done.stderr.lower()
        assert not (tmp_path / "kept" / "airflow-run").exists(), "nothing was run"
        data.unlink()
        done = modelway(place, "reproduce", steady, "2")
        assert (done.returncode, f"data set '{name}' is not there" in done.stderr) == (1, True)
    finally:
        data.write_text(before)


def test_what_was_never_registered_is_refused(place, steady):
    done = modelway(place, "reproduce", "stead", "1")
    assert (done.returncode, "Did you mean 'steady'" in done.stderr) == (1, True)
    done = modelway(place, "reproduce", steady, "7")
    assert (done.returncode, "has no version '7'" in done.stderr) == (1, True)
