"""Progress of a job: seldom, one readable line, an event, and a file that is always whole."""

import json
import os

import pytest
from modelway.job import Job, progress
from modelway.job.contract import read_events

from tests.job_clock import Clock
from tests.job_folders import write_job


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(progress, "time", Clock())
    monkeypatch.setattr(progress.shutil, "which", lambda name: None)
    return progress.time


@pytest.fixture
def job(tmp_path, clock):
    return Job(write_job(tmp_path / "job"))


def lines(capsys):
    return capsys.readouterr().out.splitlines()


def reported(job):
    return [event for event in read_events(job.folder) if event["kind"] == "progress"]


def test_progress_is_one_readable_line(job, clock, capsys):
    for step in range(0, 121):
        job.progress(step=step, total=1000, examples=64, loss=0.3141592)
        clock.now += 0.125
    assert lines(capsys) == [
        "progress: step 40/1000 (4 %), loss 0.3142, 512 examples/s, 2 m left",
        "progress: step 80/1000 (8 %), loss 0.3142, 512 examples/s, 1 m 55 s left",
        "progress: step 120/1000 (12 %), loss 0.3142, 512 examples/s, 1 m 50 s left",
    ]
    found = json.loads((job.folder / "progress.json").read_text())
    assert found == {
        "at": 1e9 + 115.0,
        "step": 120,
        "total": 1000,
        "fraction": 0.12,
        "loss": 0.3141592,
        "examples_per_second": 512.0,
        "seconds_left": 110.0,
    }


def test_events_of_progress_are_seldom(job, clock):
    for step in range(1000):
        job.progress(step=step, total=1000)
        clock.now += 0.125
    assert [event["step"] for event in reported(job)] == [40, 280, 520, 760]


def test_the_last_step_is_always_reported(job, clock, capsys):
    job.progress(step=1, total=3)
    job.progress(step=2, total=3)
    clock.now += 1
    job.progress(step=3, total=3)
    assert lines(capsys) == ["progress: step 3/3 (100 %)"]
    assert [event["step"] for event in reported(job)] == [3]


def test_a_job_that_does_not_know_its_end_tells_its_step(job, clock, capsys):
    job.progress(step=10)
    clock.now += 6
    job.progress(step=20, loss=float("nan"))
    assert lines(capsys) == ["progress: step 20, loss nan"]
    assert json.loads((job.folder / "progress.json").read_text())["loss"] == "nan"


def test_a_resumed_job_reckons_its_end_from_where_it_continued(job, clock, capsys):
    job.progress(step=900, total=1000)
    clock.now += 10
    job.progress(step=950, total=1000)
    assert lines(capsys) == ["progress: step 950/1000 (95 %), 10 s left"]


def test_a_loss_is_only_asked_for_its_number_when_it_is_reported(job, clock):
    class OnTheGpu:
        asked = 0

        def __float__(self):
            self.asked += 1
            return 0.5

    loss = OnTheGpu()
    for step in range(100):
        job.progress(step=step, total=1000, loss=loss)
        clock.now += 0.125
    assert loss.asked == 2


def test_a_full_disk_does_not_end_a_job_that_only_tells_its_progress(job, clock, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(progress, "_replace", full)
    job.progress(step=1)
    clock.now += 6
    job.progress(step=2)
    assert lines(capsys) == ["progress: step 2"]


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.2, "0 s"), (59.6, "1 m"), (190, "3 m 10 s"), (7260, "2 h 1 m"), (90061, "25 h 1 m")]
)
def test_a_length_of_time_is_two_words_at_most(seconds, said):
    assert progress._length(seconds) == said


def test_telling_progress_at_every_step_costs_next_to_nothing(tmp_path):
    import time

    job = Job(write_job(tmp_path / "job"))
    begun = time.process_time()
    for step in range(100_000):
        job.progress(step=step, examples=64)
    each = (time.process_time() - begun) / 100_000
    assert each < 50e-6, f"{each * 1e6:.1f} µs"
    assert os.listdir(job.folder).count("progress.json") <= 1
