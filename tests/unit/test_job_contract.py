"""The job's folder: events whole or absent, checkpoints whole or absent, damaged ones skipped."""

import json
import multiprocessing
import os
from pathlib import Path

import pytest
from modelway.job import Job, Stopped
from modelway.job.contract import (
    append_event,
    damage,
    finite_metrics,
    json_number,
    read_events,
    record_unreported_checkpoints,
    recorded_checkpoints,
    recorded_datasets,
)

from tests.job_folders import write_job


@pytest.fixture
def job(tmp_path):
    return Job(write_job(tmp_path / "job", params={"lr": 0.1}, seed=7, inputs={"checkpoint": "inputs/checkpoint"}))


def save(job, step, text):
    with job.checkpoint(step=step) as path:
        path.write_text(text)


def checkpoint_files(job):
    return sorted(path.name for path in (job.output / "checkpoints").iterdir())


def test_a_job_knows_what_it_was_asked(job):
    assert (job.model, job.stage, job.seed, job.params) == ("tiny", "train", 7, {"lr": 0.1})
    assert job.start_from == job.folder / "inputs" / "checkpoint"
    assert job.input("archive") is None
    assert (job.code, job.output) == (job.folder / "code", job.folder / "output")


def test_a_job_knows_its_data(tmp_path):
    datasets = {
        "images": {"uri": "/data/images", "digest": "sha256:1", "version": "7"},
        "labels": {"uri": "file:///data/all%20labels", "digest": None, "version": None},
        "sales": {"uri": "s3://bucket/sales", "digest": "etag:1", "version": None},
    }
    interval = {"start": "2026-03-01T00:00:00+01:00", "end": "2026-03-02T00:00:00+01:00"}
    job = Job(write_job(tmp_path, datasets=datasets, interval=interval, partition="north"))
    assert list(job.datasets) == ["images", "labels", "sales"]
    images = job.datasets["images"]
    assert (images.name, images.uri, images.digest, images.version) == ("images", "/data/images", "sha256:1", "7")
    assert images.path == Path("/data/images")
    assert job.datasets["labels"].path == Path("/data/all labels")
    with pytest.raises(ValueError, match="data set 'sales' is not on this machine but at s3://bucket/sales"):
        _ = job.datasets["sales"].path
    start, end = job.interval
    assert (start.isoformat(), (end - start).days) == ("2026-03-01T00:00:00+01:00", 1)
    assert job.partition == "north"


@pytest.mark.parametrize("older", [False, True])
def test_a_job_without_data_of_its_own_has_none(job, older):
    if older:
        for name in ("datasets", "interval", "partition"):
            del job.spec[name]
    assert (job.datasets, job.interval, job.partition) == ({}, (None, None), None)


def test_data_sets_are_reported_once_however_often_they_were_recorded(job):
    for _ in range(2):
        job.dataset(name="train", uri="file:///data", digest="sha256:1", rows=3)
    job.event("dataset", name="train", uri="file:///data", version="7")
    job.note("no data set")
    known = {"name": "train", "uri": "file:///data"}
    assert recorded_datasets(read_events(job.folder)) == [
        {**known, "digest": "sha256:1", "version": None, "rows": 3},
        {**known, "digest": None, "version": "7", "rows": None},
    ]


def test_a_changed_parameter_does_not_change_the_job(job):
    job.params["lr"] = 9
    assert job.params == {"lr": 0.1}


@pytest.mark.parametrize("found", [2, "1", None])
def test_a_job_of_an_unknown_format_is_refused(job, found):
    (job.folder / "job.json").write_text(json.dumps({**job.spec, "format": found}))
    with pytest.raises(ValueError, match=f"has format {found}, this code knows 1"):
        Job(job.folder)


def test_a_command_finds_its_job_in_the_environment(job, monkeypatch):
    monkeypatch.setenv("MODELWAY_JOB_FOLDER", str(job.folder))
    assert Job.from_environment().folder == job.folder


def test_events_are_appended_in_order(job):
    job.log(step=1, loss=0.5, accuracy=0.75)
    before = (job.folder / "events.jsonl").read_bytes()
    job.dataset(name="train", uri="file:///data", rows=3)
    job.note("two\nlines \u2028 and \x85 more")
    assert (job.folder / "events.jsonl").read_bytes().startswith(before)
    events = read_events(job.folder)
    assert [event["kind"] for event in events] == ["metric", "metric", "dataset", "note"]
    assert [(event["name"], event["step"], event["value"]) for event in events[:2]] == [
        ("loss", 1, 0.5),
        ("accuracy", 1, 0.75),
    ]
    assert events[2]["rows"] == 3
    assert events[3]["text"] == "two\nlines \u2028 and \x85 more"
    assert all(event["at"] > 1e9 for event in events)


def test_a_line_of_another_program_may_hold_unicode_line_ends(job):
    line = json.dumps({"kind": "note", "text": "a\u2028b\x85c"}, ensure_ascii=False)
    (job.folder / "events.jsonl").write_text(line + "\n", encoding="utf-8")
    assert [event["text"] for event in read_events(job.folder)] == ["a\u2028b\x85c"]


@pytest.mark.parametrize("left", ['{"kind": "note", "te', "{", '{"kind": "note", "text": "\xff', "\x00\x00\x00"])
def test_a_half_written_line_is_passed_over_and_swallows_nothing(job, left):
    job.note("before")
    with (job.folder / "events.jsonl").open("ab") as file:
        file.write(left.encode("latin-1"))
    assert [event["text"] for event in read_events(job.folder)] == ["before"]
    job.note("after")
    job.note("later")
    assert [event["text"] for event in read_events(job.folder)] == ["before", "after", "later"]


@pytest.mark.parametrize("line", ["[]", "1", '"kind"', "null", "{}", '{"text": "no kind"}', ""])
def test_lines_that_are_no_events_are_passed_over(job, line):
    (job.folder / "events.jsonl").write_text(f"{line}\n")
    assert read_events(job.folder) == []


def test_a_job_that_reported_nothing_has_no_events(job):
    assert read_events(job.folder) == []
    assert recorded_checkpoints(job.folder) == []
    assert job.resume_from() is None


def _note_often(folder, who):
    for number in range(50):
        append_event(folder, "note", text=f"{who}-{number}-" + "x" * 5000)


def test_events_of_several_processes_do_not_mix(job):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_note_often, args=(job.folder, who)) for who in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(timeout=60)
        assert writer.exitcode == 0
    texts = [event["text"] for event in read_events(job.folder)]
    assert len(texts) == len(set(texts)) == 200
    for who in range(4):
        mine = [int(text.split("-")[1]) for text in texts if text.startswith(f"{who}-")]
        assert mine == list(range(50))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_metrics_that_are_not_finite_are_kept_and_distinguished(job, value):
    job.log(step=1, loss=value)
    (event,) = read_events(job.folder)
    assert event["value"] == str(value)
    assert repr(float(event["value"])) == repr(value)
    assert json_number(value) == str(value)
    assert finite_metrics({"loss": event["value"], "accuracy": 1}) == {"loss": None, "accuracy": 1.0}


def test_a_number_of_a_library_is_a_number(job):
    import numpy

    job.log(step=1, loss=numpy.float32(0.5))
    assert read_events(job.folder)[0]["value"] == 0.5


def test_a_checkpoint_appears_whole(job):
    with job.checkpoint(step=3) as path:
        path.write_text("state")
        assert path.parent == job.output / "checkpoints"
        assert recorded_checkpoints(job.folder) == []
    (found,) = recorded_checkpoints(job.folder)
    assert (found.id, found.step, found.size) == ("train-000003", 3, 5)
    assert found.path.read_text() == "state"
    assert damage(found) is None
    assert checkpoint_files(job) == ["train-000003"]


def test_a_checkpoint_that_was_cut_off_does_not_exist(job):
    save(job, 1, "one")

    def cut_off():
        with job.checkpoint(step=2) as path:
            path.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cut_off()
    assert [found.step for found in recorded_checkpoints(job.folder)] == [1]
    assert "train-000002" not in checkpoint_files(job)
    assert job.resume_from().step == 1
    save(job, 2, "two")
    assert checkpoint_files(job) == ["train-000001", "train-000002"]


def test_a_checkpoint_that_nothing_was_written_to_is_reported(job):
    with pytest.raises(FileNotFoundError, match=r"checkpoint\(step=1\): no file was written"), job.checkpoint(step=1):
        pass
    with pytest.raises(FileNotFoundError, match="no file was written"), job.checkpoint(step=1) as path:
        path.mkdir()
    assert recorded_checkpoints(job.folder) == []


def test_a_checkpoint_written_again_counts_once_as_last_written(job):
    save(job, 2, "two")
    save(job, 1, "one")
    save(job, 2, "two again")
    assert [found.step for found in recorded_checkpoints(job.folder)] == [1, 2]
    assert job.resume_from().path.read_text() == "two again"


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda path: os.truncate(path, 2), "the file has 2 bytes instead of 3"),
        (lambda path: path.write_text("ownt"[:3]), "the bytes are sha256:"),
        (lambda path: path.unlink(), "the file is gone"),
    ],
)
def test_a_damaged_checkpoint_is_skipped_with_a_warning(job, capsys, harm, said):
    save(job, 1, "one")
    save(job, 2, "two")
    harm(job.output / "checkpoints" / "train-000002")
    found = job.resume_from()
    assert (found.step, found.path.read_text()) == (1, "one")
    out, err = capsys.readouterr()
    assert f"WARNING: checkpoint train-000002 is skipped: {said}" in err
    assert "resuming from checkpoint train-000001 (step 1)" in out


def test_nothing_is_resumed_when_every_checkpoint_is_damaged(job, capsys):
    save(job, 1, "one")
    os.truncate(job.output / "checkpoints" / "train-000001", 0)
    assert job.resume_from() is None
    assert "train-000001 is skipped" in capsys.readouterr().err


def test_a_checkpoint_event_without_its_fields_is_no_checkpoint(job):
    job.event("checkpoint", id="mine", step=1)
    assert recorded_checkpoints(job.folder) == []


def test_checkpoints_of_a_command_are_recorded_when_it_reported_none(job):
    folder = job.output / "checkpoints"
    folder.mkdir(parents=True)
    for name in ("epoch-10.h5", "epoch-9.h5", "last.pt2", ".half.part"):
        (folder / name).write_text(name)
    (folder / "sharded").mkdir()
    record_unreported_checkpoints(job.folder, "train")
    record_unreported_checkpoints(job.folder, "train")
    found = recorded_checkpoints(job.folder)
    assert [(each.id, each.step) for each in found] == [
        ("train-last.pt2", 3),
        ("train-epoch-9.h5", 9),
        ("train-epoch-10.h5", 10),
    ]
    assert all(damage(each) is None for each in found)
    assert len(read_events(job.folder)) == 3


def test_checkpoints_that_a_command_reported_are_not_recorded_twice(job):
    save(job, 1, "one")
    record_unreported_checkpoints(job.folder, "train")
    assert [each.id for each in recorded_checkpoints(job.folder)] == ["train-000001"]


def test_a_command_without_checkpoints_has_none_to_record(job):
    record_unreported_checkpoints(job.folder, "train")
    assert read_events(job.folder) == []


def test_a_data_set_that_a_program_reported_in_part_is_kept_as_far_as_it_goes():
    events = [{"kind": "dataset", "name": "points", "rows": 3}, {"kind": "dataset", "uri": "s3://bucket/unnamed"}]
    assert recorded_datasets(events) == [
        {"name": "points", "uri": "", "digest": None, "version": None, "rows": 3},
    ]


def steps(job):
    return [each.step for each in recorded_checkpoints(job.folder)]


def test_all_checkpoints_stay_unless_the_job_says_otherwise(job):
    for step in range(1, 6):
        save(job, step, "x")
    assert steps(job) == [1, 2, 3, 4, 5]


def test_only_the_last_checkpoints_stay_and_the_others_are_no_longer_named(job):
    job.keep_checkpoints(last=2)
    for step in range(1, 6):
        save(job, step, "x")
        assert checkpoint_files(job) == [f"train-{each:06d}" for each in steps(job)]
    assert steps(job) == [4, 5]
    removed = [event["id"] for event in read_events(job.folder) if event["kind"] == "checkpoint_removed"]
    assert removed == ["train-000001", "train-000002", "train-000003"]


def test_of_older_checkpoints_one_of_each_stretch_of_time_stays(job, monkeypatch):
    job.keep_checkpoints(last=2, every="30m")
    for step in range(12):
        monkeypatch.setattr("time.time", lambda step=step: 1e9 + 600 * step)
        save(job, step, "x")
    assert steps(job) == [0, 3, 6, 9, 10, 11]


def test_the_checkpoint_just_written_stays_also_after_ones_of_later_steps(job):
    job.keep_checkpoints(last=1)
    save(job, 9, "damaged afterwards")
    os.truncate(job.output / "checkpoints" / "train-000009", 3)
    assert job.resume_from() is None
    save(job, 1, "good")
    assert steps(job) == [1]
    assert job.resume_from().step == 1


def test_a_checkpoint_removed_and_written_again_is_there(job):
    job.keep_checkpoints(last=1)
    for step in (1, 2, 1):
        save(job, step, "x")
    assert steps(job) == [1]
    assert job.resume_from().step == 1


def test_a_job_killed_while_it_removes_a_checkpoint_neither_names_it_nor_leaves_it(job):
    save(job, 1, "x")
    job.event("checkpoint_removed", id="train-000001", path="output/checkpoints/train-000001")
    assert steps(job) == []
    job.keep_checkpoints(last=1)
    save(job, 2, "x")
    assert checkpoint_files(job) == ["train-000002"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"last": 0}, "at least the last one must stay"),
        ({"last": 1, "every": "soon"}, "'soon' is not a length of time; write it like 90s, 30m, 2h or 1d"),
    ],
)
def test_keeping_what_cannot_be_kept_is_refused(job, asked, said):
    with pytest.raises(ValueError, match=said):
        job.keep_checkpoints(**asked)


@pytest.mark.parametrize(
    "harm",
    [{"step": "3"}, {"step": None}, {"path": 7}, {"size": "3"}, {"id": None}, {"step": True}],
)
def test_a_checkpoint_event_of_the_wrong_types_is_no_checkpoint(job, harm):
    save(job, 1, "one")
    reported = {"id": "mine", "step": 3, "path": "output/mine", "sha256": "sha256:0", "size": 3}
    job.event("checkpoint", **{**reported, **harm})
    assert steps(job) == [1]


def test_a_checkpoint_of_zeroes_is_skipped(job, capsys):
    save(job, 1, "one")
    save(job, 2, "two")
    (job.output / "checkpoints" / "train-000002").write_bytes(bytes(3))
    assert job.resume_from().step == 1
    assert "WARNING: checkpoint train-000002 is skipped: the bytes are sha256:" in capsys.readouterr().err


def test_a_checkpoint_whose_event_was_cut_off_does_not_exist(job):
    save(job, 1, "one")
    save(job, 2, "two")
    events = job.folder / "events.jsonl"
    os.truncate(events, events.stat().st_size - 20)
    assert steps(job) == [1]
    save(job, 2, "two again")
    assert steps(job) == [1, 2]


def test_a_job_that_is_requested_to_leave_stops_once_its_checkpoint_is_durable(job, monkeypatch, tmp_path):
    monkeypatch.setenv("MODELWAY_NOTICE", str(tmp_path / "notice"))
    save(job, 1, "one")
    assert not job.stopping
    (tmp_path / "notice").touch()
    assert job.stopping
    with pytest.raises(Stopped) as stopped:
        save(job, 2, "two")
    assert stopped.value.code == 143
    assert stopped.value.reason == "the job was requested to stop and stopped after checkpoint train-000002"
    assert job.resume_from().step == 2


def test_a_job_that_nothing_tells_to_leave_continues(job, monkeypatch):
    monkeypatch.delenv("MODELWAY_NOTICE", raising=False)
    assert not job.stopping
    assert (job.rank, job.local_rank, job.world_size, job.is_main) == (0, 0, 1, True)
