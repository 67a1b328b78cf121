"""What a job reports of its GPUs: by the program that comes with them, where there is one."""

import json

import pytest
from modelway.job import Job, progress

from tests.job_clock import Clock
from tests.job_folders import write_job


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(progress, "time", Clock())
    return progress.time


@pytest.fixture
def job(tmp_path, clock):
    return Job(write_job(tmp_path / "job"))


def lines(capsys):
    return capsys.readouterr().out.splitlines()


def test_the_gpus_are_reported_where_there_are_some(job, clock, capsys, monkeypatch, tmp_path):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 80, 1024, 81920\necho 60, 2048, 81920\n")
    program.chmod(0o755)
    monkeypatch.setattr(progress.shutil, "which", lambda name: str(program))
    job.progress(step=1, total=100)
    job._progress._gpu._thread.join(timeout=60)
    clock.now += 6
    job.progress(step=2, total=100)
    assert lines(capsys) == ["progress: step 2/100 (2 %), 9 m 48 s left, GPU 70 % 3.0/160 GiB"]
    assert json.loads((job.folder / "progress.json").read_text())["gpu_memory_bytes"] == 3 * 2**30


@pytest.mark.parametrize("script", ["exit 9", "echo '[N/A], 1, 2'", "echo", "echo 'No devices were found'"])
def test_gpus_that_cannot_be_asked_are_left_out(job, clock, capsys, monkeypatch, tmp_path, script):
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(progress.shutil, "which", lambda name: str(program))
    job.progress(step=1)
    job._progress._gpu._thread.join(timeout=60)
    clock.now += 6
    job.progress(step=2)
    assert lines(capsys) == ["progress: step 2"]
