"""What a data set holds, as one digest, and what is refused."""

import os
from pathlib import Path

import fsspec
import pytest
from modelway.artifacts.dataset import Dataset, content_digest, fingerprint, local_path, read_dataset
from modelway.errors import DatasetUnavailable, DigestMismatch, InvalidDataset


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data" / "sub").mkdir(parents=True)
    (tmp_path / "data" / "a.csv").write_text("rows")
    (tmp_path / "data" / "sub" / "b.csv").write_text("more")
    return tmp_path / "data"


def test_a_file_has_the_digest_of_its_bytes(folder: Path) -> None:
    import hashlib

    expected = "sha256:" + hashlib.sha256(b"rows").hexdigest()
    assert fingerprint(str(folder / "a.csv"), name="d") == expected
    assert fingerprint((folder / "a.csv").as_uri(), name="d") == expected
    assert read_dataset(name="d", uri=str(folder / "a.csv"), digest=expected, version="v7") == Dataset(
        name="d", uri=str(folder / "a.csv"), digest=expected, version="v7"
    )


def test_a_folder_changes_with_any_name_or_byte_below_it_and_with_nothing_else(folder: Path, tmp_path: Path) -> None:
    first = fingerprint(str(folder), name="d")
    os.utime(folder / "a.csv", (0, 0))
    assert fingerprint(f"{folder}/", name="d") == first
    seen = {first}
    (folder / "sub" / "b.csv").write_text("less")
    seen.add(fingerprint(str(folder), name="d"))
    (folder / "sub" / "b.csv").rename(folder / "sub" / "c.csv")
    seen.add(fingerprint(str(folder), name="d"))
    (folder / "empty").write_text("")
    seen.add(fingerprint(str(folder), name="d"))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x").write_text("1")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    seen.add(fingerprint(str(folder), name="d"))
    (tmp_path / "elsewhere" / "x").write_text("2")
    seen.add(fingerprint(str(folder), name="d"))
    assert len(seen) == 6


def test_a_link_that_leads_back_is_refused(folder: Path) -> None:
    (folder / "sub" / "up").symlink_to(folder)
    with pytest.raises(InvalidDataset, match="holds a folder twice, by a link"):
        fingerprint(str(folder), name="d")


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("{}/gone.csv", "data set 'd' is not there. Put it there, or change its uri"),
        ("{}/void", "is a folder without files"),
        ("{}/pipe", "is no file or folder"),
        ("{}/holds-pipe", "holds what is no file"),
        ("data/a.csv", "has a relative path. Write an absolute path, or a URI such as s3"),
        ("memory://nowhere/x", "is not there"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(tmp_path: Path, uri: str, message: str) -> None:
    (tmp_path / "void").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "holds-pipe").mkdir()
    os.mkfifo(tmp_path / "holds-pipe" / "p")
    with pytest.raises(InvalidDataset, match=message):
        fingerprint(uri.format(tmp_path), name="d")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become a user who may not read")
def test_what_may_not_be_read_is_refused(folder: Path) -> None:
    (folder / "a.csv").chmod(0)
    pid = os.fork()
    if pid == 0:
        os.setuid(65534)
        try:
            fingerprint(str(folder / "a.csv"), name="d")
        except InvalidDataset:
            os._exit(7)
        os._exit(0)
    # The folders above belong to root alone, so either way it is no silent success.
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_a_pinned_digest_that_differs_names_both(folder: Path) -> None:
    with pytest.raises(DigestMismatch, match=r"is sha256:[0-9a-f]{64}, not sha256:0{64} as the model spec says"):
        read_dataset(name="d", uri=str(folder / "a.csv"), digest="sha256:" + "0" * 64)


def test_a_pinned_digest_is_the_same_wherever_the_data_is(folder: Path) -> None:
    there = fsspec.filesystem("memory")
    there.pipe({"/pinned/a.csv": b"rows", "/pinned/sub/b.csv": b"more"})
    try:
        assert content_digest("memory://pinned/a.csv", name="d") == content_digest(str(folder / "a.csv"), name="d")
        assert content_digest("memory://pinned", name="d") == content_digest(str(folder), name="d")
    finally:
        there.rm("/pinned", recursive=True)


def test_elsewhere_what_the_store_says_tells_a_change_and_is_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    there = fsspec.filesystem("memory")
    there.pipe({"/told/a": b"1", "/told/b": b"2"})
    info = type(there).info
    monkeypatch.setattr(type(there), "info", lambda self, path, **rest: {**info(self, path), "ETag": '"abc"'})
    assert fingerprint("memory://told/a", name="d") == "etag:abc"
    monkeypatch.undo()
    one, both = fingerprint("memory://told/a", name="d"), fingerprint("memory://told", name="d")
    assert one.startswith("state:")
    assert both.startswith("states:")
    there.pipe("/told/b", b"22")
    assert fingerprint("memory://told/a", name="d") == one
    assert fingerprint("memory://told", name="d") != both
    there.rm("/told", recursive=True)


@pytest.mark.parametrize("known", [{}, {"size": 1}, {"size": 1, "mtime": None}])
def test_a_store_that_tells_no_more_than_a_size_tells_no_content(
    monkeypatch: pytest.MonkeyPatch, known: dict[str, object]
) -> None:
    there = fsspec.filesystem("memory")
    there.pipe({"/bare/a": b"1", "/bare/b": b"2"})
    one = {"name": "/bare/a", "type": "file", **known}
    monkeypatch.setattr(type(there), "info", lambda self, path, **rest: one)
    assert fingerprint("memory://bare/a", name="d") is None
    monkeypatch.undo()
    full = there.info("/bare/b")
    monkeypatch.setattr(type(there), "find", lambda self, path, **rest: {"/bare/a": one, "/bare/b": full})
    assert fingerprint("memory://bare", name="d") is None
    monkeypatch.undo()
    there.rm("/bare", recursive=True)


def test_what_nothing_here_can_ask_has_no_digest_and_cannot_be_pinned() -> None:
    assert fingerprint("s3://[bucket/sales", name="d") is None
    assert read_dataset(name="d", uri="warehouse://sales/2026", version="7") == Dataset(
        name="d", uri="warehouse://sales/2026", version="7"
    )
    with pytest.raises(InvalidDataset, match="nothing here reads warehouse://"):
        read_dataset(name="d", uri="warehouse://sales/2026", digest="sha256:" + "0" * 64)


def test_a_store_that_does_not_answer_may_answer_later(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object, path: str, **rest: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "info", refuse)
    with pytest.raises(DatasetUnavailable, match=r"cannot be inspected \(ConnectionError: no route\)") as refusal:
        fingerprint("memory://a/b", name="d")
    assert refusal.value.retryable


def test_which_uris_are_on_this_machine() -> None:
    assert local_path("/data/x") == local_path("file:///data/x") == local_path("file://localhost/data/x")
    assert local_path("file:///with%20space") == Path("/with space")
    assert local_path("file://other/data/x") is None
    assert local_path("s3://bucket/x") is None
