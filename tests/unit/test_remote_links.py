"""What a job leaves where its container copies to an object store: no link is followed out of the job's folder."""

import json
import os
from pathlib import Path

import pytest
from modelway.job.agent import lease, remote
from modelway.job.contract import Job, recorded_checkpoints
from modelway.job.events import append_event, read_events

from tests.job_folders import write_job

MARKER = "what only the container may read"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_text(MARKER)
    return folder


@pytest.fixture
def job(tmp_path: Path) -> Path:
    folder = write_job(tmp_path / "job")
    (folder / "try-1").mkdir()
    (folder / "output" / "deep").mkdir(parents=True)
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def copied(job: Path, store: Path) -> dict[str, str]:
    remote.Remote(uri=f"file://{store}", folder=job, attempt=1, node=0).finish()
    return {path.relative_to(store).as_posix(): path.read_text() for path in store.rglob("*") if path.is_file()}


def test_what_leads_out_of_the_folder_is_not_copied_and_a_note_says_so(job: Path, outside: Path, store: Path) -> None:
    with Job(job).checkpoint(step=1) as path:
        path.write_text("state 1")
    append_event(job, "checkpoint", id="linked", step=2, path="output/linked", sha256="sha256:0", size=len(MARKER))
    for name in ("output/linked", "output/deep/up", "try-1/log-0.txt", "try-1/usage-0-a.json", "progress.json"):
        (job / name).symlink_to(outside / "secret")
    (job / "output" / "tree").symlink_to(outside)
    (job / "output" / "deep" / "same").symlink_to("../made.txt")
    (job / "output" / "made.txt").write_text("made")
    os.mkfifo(job / "output" / "fifo")
    found = copied(job, store)
    assert MARKER not in "".join(found.values())
    assert (found["output/made.txt"], found["output/deep/same"]) == ("made", "made")
    assert [each.id for each in recorded_checkpoints(store)] == ["train-000001", "linked"]
    notes = sorted(event["text"] for event in read_events(store) if event["kind"] == "note")
    out, none = "a link leads out of its folder", "it is not a plain file"
    assert notes == [
        f"output/deep/up is not copied to the object store: {out}",
        f"output/fifo is not copied to the object store: {none}",
        f"output/linked is not copied to the object store: {out}",
        f"output/tree is not copied to the object store: {out}",
        f"progress.json is not copied to the object store: {out}",
        f"try-1/log-0.txt is not copied to the object store: {out}",
        f"try-1/usage-0-a.json is not copied to the object store: {out}",
    ]


@pytest.mark.parametrize("name", ["output", "events.jsonl", "try-1"])
def test_a_whole_part_of_the_folder_that_is_a_link_is_not_copied(
    name: str, job: Path, outside: Path, store: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (outside / "log-0.txt").write_text(MARKER)
    (outside / "events.jsonl").write_text(json.dumps({"kind": "note", "text": MARKER}) + "\n")
    place = job / name
    if place.is_dir():
        place.rename(job / "before")
    place.symlink_to(outside / "events.jsonl" if name == "events.jsonl" else outside)
    assert MARKER not in "".join(copied(job, store).values())
    assert "is not copied to the object store: a link leads out of its folder" in capfd.readouterr().err


def test_only_so_many_names_are_noted(job: Path, outside: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MOST_NOTES", 3)
    for number in range(10):
        (job / "output" / str(number)).symlink_to(outside / "secret")
    copied(job, store)
    assert len(read_events(store)) == 3


def test_a_heartbeat_that_is_none_is_not_waited_for(job: Path, tmp_path: Path) -> None:
    (job / "try-1" / "pods").mkdir()
    os.mkfifo(job / "try-1" / "pods" / "0.json")
    (job / "try-1" / "pods" / "1.json").symlink_to("/proc/self/status")
    said: list[str] = []
    mine = lease.Lease(attempt=job / "try-2", node=0, nodes=2)
    assert not mine.enter(leave=lambda: bool(said), say=said.append)
    assert said == ["waiting for another container, which still works on this job"]
