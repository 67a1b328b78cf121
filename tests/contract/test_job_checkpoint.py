"""One kind of checkpoint in every function of a model: it can be given wherever a path can."""

import copy
import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
from modelway.job.checkpoints import Checkpoint
from modelway.job.contract import Job

from tests.job_folders import write_job

KNOWN = {"checkpoint": {"id": "warmup-000002", "stage": "warmup", "step": 2}}


@pytest.fixture
def job(tmp_path):
    folder = write_job(tmp_path / "job", inputs={"checkpoint": "inputs/checkpoint"}, checkpoints=KNOWN)
    (folder / "inputs").mkdir()
    (folder / "inputs" / "checkpoint").write_text("weights")
    return Job(folder)


def test_where_to_start_from_and_where_to_continue_are_one_kind(job):
    with job.checkpoint(step=3) as path:
        path.write_text("more")
    start, resumed = job.start_from, job.resume_from()
    assert type(start) is type(resumed) is Checkpoint
    assert (start.id, start.stage, start.step, start.size) == ("warmup-000002", "warmup", 2, 7)
    assert (resumed.id, resumed.stage, resumed.step, resumed.size) == ("train-000003", "train", 3, 4)
    assert start.path == job.folder / "inputs" / "checkpoint"
    assert Job(write_job(job.folder / "first")).start_from is None


def test_it_goes_where_a_path_goes(job, tmp_path):
    checkpoint = job.start_from
    assert isinstance(checkpoint, os.PathLike)
    assert os.fspath(checkpoint) == str(checkpoint) == f"{checkpoint}" == str(checkpoint.path)
    with open(checkpoint) as file:
        assert file.read() == checkpoint.read_text() == "weights"
    assert (checkpoint.read_bytes(), checkpoint.name, checkpoint.exists()) == (b"weights", "checkpoint", True)
    assert (checkpoint.parent, checkpoint / "x") == (job.folder / "inputs", checkpoint.path / "x")
    assert checkpoint == checkpoint.path
    assert checkpoint.path == checkpoint
    assert checkpoint in {checkpoint.path}
    assert Path(shutil.copy(checkpoint, tmp_path / "copy")).read_text() == "weights"
    assert os.path.getsize(checkpoint) == 7
    for again in (copy.deepcopy(checkpoint), pickle.loads(pickle.dumps(checkpoint))):
        assert (again, again.id) == (checkpoint, "warmup-000002")
    with pytest.raises(AttributeError):
        _ = checkpoint.weights


def test_what_nobody_said_of_a_checkpoint_is_not_made_up(tmp_path):
    name = "checkpoint.0002.from-elsewhere"
    folder = write_job(tmp_path, inputs={name: f"inputs/{name}"})
    contract = json.loads((folder / "job.json").read_text())
    # As a version before this one wrote it.
    del contract["checkpoints"]
    (folder / "job.json").write_text(json.dumps(contract))
    found = Job(folder).input_checkpoint(name)
    assert (found.id, found.stage, found.step) == ("from-elsewhere", None, None)


def torch_files(path):
    import torch

    torch.save({"net": torch.ones(2)}, path)
    return lambda given: torch.load(given, weights_only=True)["net"].sum().item()


def torch_mapped(path):
    import torch

    torch.save({"net": torch.ones(2)}, path)
    return lambda given: torch.load(given, weights_only=True, mmap=True)["net"].sum().item()


def numpy_files(path):
    import numpy

    with path.open("wb") as file:
        numpy.savez(file, net=numpy.ones(2))
    return lambda given: numpy.load(given)["net"].sum()


def safetensors_files(path):
    import numpy
    from safetensors.numpy import load_file, save_file

    save_file({"net": numpy.ones(2)}, path)
    return lambda given: load_file(given)["net"].sum()


def joblib_files(path):
    joblib = pytest.importorskip("joblib")
    joblib.dump([1.0, 1.0], path)
    return lambda given: sum(joblib.load(given))


@pytest.mark.parametrize("kind", [torch_files, torch_mapped, numpy_files, safetensors_files, joblib_files])
def test_libraries_load_from_it(job, kind):
    load = kind(job.start_from.path)
    assert load(job.start_from) == 2
