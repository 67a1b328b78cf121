"""A job leaves links, FIFOs and wrong documents where its folder is read and written: none leads elsewhere."""

import io
import json
import os
import tarfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from modelway.artifacts.store import ArtifactStore
from modelway.backends.base import JobState, JobStatus
from modelway.backends.docker import files as docker_files
from modelway.backends.folders import generations
from modelway.backends.folders.exit_status import exits_of
from modelway.backends.folders.merged_log import BLOCK, read_merged
from modelway.backends.kubernetes.attempts import AttemptRecord
from modelway.backends.kubernetes.folders import Folders
from modelway.errors import JobFailed
from modelway.job.agent.usage import usage_in
from modelway.job.checkpoints import damage, open_recorded, record_unreported_checkpoints, recorded_checkpoints
from modelway.job.events import append_event
from modelway.job.left_files import NotBelow
from modelway.operators.freeze import archive_frozen

MARKER = "what only the reader may read"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_text(MARKER)
    for name in ("exit-0.json", "result.json", "0.json", "usage-0-a.json", "log-0.txt"):
        (folder / name).write_text(json.dumps({"kind": "bad_exit", "reason": MARKER, "seconds": 1, "cpu_seconds": 1}))
    return folder


@pytest.fixture
def attempt(tmp_path: Path) -> Path:
    folder = tmp_path / "jobs" / "m" / "r" / "k" / "g0" / "try-1"
    folder.mkdir(parents=True)
    return folder


def untouched(outside: Path) -> bool:
    texts = {path.name: path.read_text() for path in outside.iterdir()}
    return len(texts) == 6 and all(MARKER in text for text in texts.values())


def test_a_checkpoint_that_links_elsewhere_is_not_stored(attempt: Path, outside: Path, tmp_path: Path) -> None:
    folder = attempt.parent
    (folder / "output" / "checkpoints").mkdir(parents=True)
    (folder / "output" / "checkpoints" / "linked").symlink_to(outside / "secret")
    os.mkfifo(folder / "output" / "checkpoints" / "fifo")
    record_unreported_checkpoints(folder, "train")
    assert recorded_checkpoints(folder) == []
    for number, name in enumerate(("linked", "fifo", "none")):
        place = f"output/checkpoints/{name}"
        append_event(folder, "checkpoint", id=name, step=number, path=place, sha256="sha256:0", size=len(MARKER))
    store = ArtifactStore(f"file://{tmp_path}/store")
    linked, fifo, none = recorded_checkpoints(folder)
    assert damage(linked) == "a link leads out of its folder"
    assert damage(fifo) == "it is not a plain file"
    assert damage(none) == "the file is gone"
    with pytest.raises(NotBelow):
        store.put(linked.path, model="m", opened=partial(open_recorded, linked))
    assert not (tmp_path / "store").exists()


def test_a_checkpoint_that_links_to_another_is_stored(attempt: Path, tmp_path: Path) -> None:
    folder = attempt.parent
    (folder / "output" / "checkpoints").mkdir(parents=True)
    (folder / "output" / "checkpoints" / "step-1").write_text("weights")
    (folder / "output" / "checkpoints" / "step-2").symlink_to("step-1")
    record_unreported_checkpoints(folder, "train")
    first, second = recorded_checkpoints(folder)
    assert damage(second) is None
    stored = ArtifactStore(f"file://{tmp_path}/store").put(
        second.path, model="m", opened=partial(open_recorded, second)
    )
    assert stored.digest == first.digest == second.digest


def test_what_freezing_left_is_not_taken_where_a_link_leads_elsewhere(
    attempt: Path, outside: Path, tmp_path: Path
) -> None:
    archive = attempt.parent / "output" / "archive"
    (archive / "weights").mkdir(parents=True)
    (archive / "weights" / "stolen").symlink_to(outside / "secret")
    with pytest.raises(JobFailed, match="what freezing left cannot be copied: a link leads out of its folder"):
        archive_frozen(attempt.parent, documents={}, to=tmp_path / "frozen.zip")
    assert not (tmp_path / "frozen.zip").exists() or MARKER.encode() not in (tmp_path / "frozen.zip").read_bytes()
    (archive / "weights" / "stolen").unlink()
    archive.rename(archive.with_name("elsewhere"))
    archive.symlink_to(outside)
    with pytest.raises(JobFailed):
        archive_frozen(attempt.parent, documents={}, to=tmp_path / "again.zip")


@pytest.mark.parametrize("how", ["link", "fifo", "folder"])
def test_a_log_that_is_none_is_neither_followed_nor_waited_for(attempt: Path, outside: Path, how: str) -> None:
    for name in ("log-0.txt", ".merging", "merged.txt", "merged.json"):
        if how == "link":
            (attempt / name).symlink_to(outside / "secret")
        elif how == "fifo":
            os.mkfifo(attempt / name)
    if how == "folder":
        attempt.rmdir()
        attempt.symlink_to(outside)
    for nodes in (1, 2):
        for over in (False, True):
            assert read_merged(attempt, nodes=nodes, offset=0, over=over) == ("", 0)
    assert untouched(outside)


def test_a_character_that_two_blocks_share_is_read_whole(attempt: Path) -> None:
    for shift, character in ((0, "é"), (1, "é"), (1, "→"), (2, "→"), (1, "🙂"), (2, "🙂"), (3, "🙂")):
        text = "x" * (BLOCK - shift) + character + "end"
        (attempt / "log-0.txt").write_text(text)
        read, offset, after = "", -1, 0
        while offset != after:
            offset = after
            piece, after = read_merged(attempt, nodes=1, offset=offset, over=True)
            read += piece
        assert read == text


@pytest.mark.parametrize("how", ["link", "try"])
def test_records_are_neither_read_nor_written_through_links(attempt: Path, outside: Path, how: str) -> None:
    if how == "try":
        attempt.rmdir()
        attempt.symlink_to(outside)
    else:
        for name in ("exit-0.json", "result.json", "usage-0-a.json"):
            (attempt / name).symlink_to(outside / "exit-0.json")
        (attempt / "pods").symlink_to(outside)
        (attempt / "cancelled").symlink_to(outside / "made")
    assert exits_of(attempt, nodes=1) == []
    assert generations.recorded(attempt) is None
    assert AttemptRecord.read(attempt) is None
    assert usage_in(attempt.parent) == (None, 0)
    Folders(home=attempt).forget_heartbeats(attempt)
    for write in (
        lambda: generations.write(attempt / "seen.json", {}),
        lambda: generations.mark(attempt / "cancelled"),
        lambda: generations.record(attempt, JobStatus(state=JobState.SUCCEEDED)),
    ):
        try:
            write()
        except OSError:
            continue
    assert untouched(outside)


def test_an_ending_of_wrong_types_is_no_obstacle(attempt: Path) -> None:
    wrong: dict[str, Any] = {"kind": "no kind", "reason": ["x"], "seconds": "1", "peak_memory_bytes": 2**70}
    (attempt / "exit-0.json").write_text(json.dumps(wrong | {"retryable": 3, "stopped": 1}))
    (ending,) = exits_of(attempt, nodes=1)
    assert ending == {
        **{"kind": "bad_exit", "reason": "['x']", "stopped": False, "out_of_memory": False},
        **{"seconds": None, "peak_memory_bytes": None},
    }
    (attempt / "exit-0.json").write_text('{"seconds": 1e999, "kind": null}')
    assert exits_of(attempt, nodes=1)[0]["seconds"] is None
    (attempt / "usage-0-a.json").write_text('{"seconds": -1, "cpu_seconds": NaN}')
    assert usage_in(attempt.parent) == (None, 0)
    for path in (attempt / "result.json", attempt.parents[1] / "try-1.json"):
        path.write_text('{"a": 1}')
    assert generations.recorded(attempt) is None
    assert AttemptRecord.read(attempt) is None


def test_other_names_among_generations_and_tries_are_passed_over(attempt: Path) -> None:
    for name in ("try-", "try-x", "try-1234567890"):
        (attempt.parent / name).mkdir()
    (attempt.parents[1] / "gone").mkdir()
    assert generations.attempts(attempt.parents[1]) == [attempt]
    assert usage_in(attempt.parent) == (None, 0)


def packed(*members: tuple[str, str, str]) -> Any:
    """Return what gives an archive of (name, kind, content or where a link leads)."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, kind, given in members:
            reported = tarfile.TarInfo(f"g0/{name}")
            reported.type = {"file": tarfile.REGTYPE, "link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE}.get(
                kind, tarfile.DIRTYPE
            )
            if kind == "file":
                reported.size = len(given)
                archive.addfile(reported, io.BytesIO(given.encode()))
            else:
                reported.linkname = given
                archive.addfile(reported)
    return lambda: iter([data.getvalue()])


@pytest.mark.parametrize(
    "members",
    [
        [("output", "dir", ""), ("output/a", "link", "../../outside"), ("output/a/secret", "file", "x")],
        [("output", "link", "../outside"), ("output/secret", "file", "x")],
        [("output", "dir", ""), ("output/a", "link", "/"), ("output/a/secret", "file", "x")],
        # A chain: each link stays below by its words alone, all together do not.
        [
            *(("output", "dir", ""), ("output/b", "dir", ""), ("output/b/c", "dir", "")),
            *(("output/b/c/up", "link", "../.."), ("output/out", "link", "b/c/up/../../outside")),
            ("output/out/secret", "file", "x"),
        ],
        [
            *(("output", "dir", ""), ("output/b", "dir", ""), ("output/out", "link", "b/up/../outside")),
            *(("output/b/up", "link", "../.."), ("output/out/secret", "file", "x")),
        ],
        [("output", "dir", ""), ("output/h", "hard", "g0/../outside/secret"), ("output/h", "file", "x")],
        [("output", "dir", ""), ("output/h", "hard", "outside/../../outside/secret")],
        [("../outside/secret", "file", "x")],
    ],
)
def test_an_archive_of_a_container_writes_and_leads_nowhere_else(
    members: list[tuple[str, str, str]], tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text(MARKER)
    copy = tmp_path / "g0"
    copy.mkdir()
    docker_files.copy_folder(packed(*members), to=copy)
    docker_files.copy_folder(packed(("output", "dir", "")), to=copy)
    docker_files.copy_folder(packed(*members), to=copy)
    assert (tmp_path / "outside" / "secret").read_text() == MARKER
    assert os.listdir(tmp_path / "outside") == ["secret"]
    for path in copy.rglob("*"):
        assert path.resolve().is_relative_to(copy.resolve()), path
        assert not path.is_file() or MARKER not in path.read_text()


def test_links_that_stay_inside_and_files_of_two_names_are_copied(tmp_path: Path) -> None:
    members = [("output", "dir", ""), ("output/a", "file", "text"), ("output/b", "link", "a")]
    docker_files.copy_folder(packed(*members, ("output/c", "hard", "g0/output/a")), to=tmp_path)
    assert [(tmp_path / "output" / name).read_text() for name in "abc"] == ["text"] * 3


def test_what_this_side_notes_in_a_copy_is_not_taken_from_the_container(tmp_path: Path) -> None:
    (tmp_path / "try-1").mkdir()
    own = ("copied.json", "try-1/result.json", "try-2/result.json", "try-1/cancelled", "try-1/merged.json", ".lock")
    (tmp_path / "try-1" / "result.json").write_text("what this side noted")
    members = [("try-1", "dir", ""), ("try-2", "dir", ""), ("output", "dir", "")]
    members += [(name, "file", MARKER) for name in (*own, "output/result.json", "try-1/exit-0.json")]
    docker_files.copy_folder(packed(*members), to=tmp_path)
    assert (tmp_path / "try-1" / "result.json").read_text() == "what this side noted"
    copied = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert copied == {"try-1/result.json", "output/result.json", "try-1/exit-0.json"}


@pytest.mark.parametrize(("files", "size"), [(3, 1 << 40), (100, 20)])
def test_a_copy_of_a_containers_folder_has_a_limit(
    files: int, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_files, "MOST_FILES", files)
    monkeypatch.setattr(docker_files, "MOST_BYTES", size)
    few = [("output", "dir", ""), ("output/a", "file", "0123456789"), ("inputs/large", "file", "x" * 100)]
    docker_files.copy_folder(packed(*few), to=tmp_path)
    with pytest.raises(JobFailed, match="no more are copied from a Docker engine"):
        docker_files.copy_folder(packed(*few, ("output/b", "file", "0123456789a")), to=tmp_path)
    assert not (tmp_path / "output" / "b").exists()


def test_a_containers_ending_that_is_a_link_is_none() -> None:
    assert docker_files.read_json(packed(("exit-0.json", "link", "/etc/passwd"))()) is None
    assert docker_files.read_json(packed(("exit-0.json", "file", '{"kind": null}'))()) == {"kind": None}
    assert docker_files.read_json(packed(("exit-0.json", "file", "[" * 100_000))()) is None
    assert b"".join(docker_files.content(packed(("log-0.txt", "link", "/etc/passwd"))())) == b""


def test_inputs_are_not_written_through_a_link_that_a_try_left(attempt: Path, outside: Path, tmp_path: Path) -> None:
    folder = attempt.parent
    for name in ("inputs", "output", "code", "runner"):
        (folder / name).symlink_to(outside)
    (tmp_path / "runner").mkdir()
    (tmp_path / "secret").write_text("an input")
    given = ArtifactStore(f"file://{tmp_path}/store").put(tmp_path / "secret", model="m")
    job: Any = SimpleNamespace(clear_number=0, code=None, inputs={"secret": given})
    generations.prepare(folder, job=job, contract={}, runner=tmp_path / "runner", owner=None)
    assert (folder / "inputs" / "secret").read_text() == "an input"
    assert untouched(outside)
