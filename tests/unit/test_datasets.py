"""What a data set holds, as one digest, and what is refused."""

import json
import os
import re
from pathlib import Path

import fsspec
import pytest
from modelway.artifacts.dataset import Dataset, content_digest, fingerprint, local_path, read_dataset
from modelway.artifacts.dataset_rows import Place, read_new_rows
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


class Reading:
    """A data set of labels that is read again and again."""

    def __init__(self, uri: str, *columns: str) -> None:
        self.uri = uri
        self.columns = columns or ("id", "label")
        self.places: dict[str, Place] = {}
        self.problem = ""

    def __call__(self, most: int = 100) -> list[tuple[object, ...]]:
        places = {file: Place.from_list(json.loads(json.dumps(place.to_list()))) for file, place in self.places.items()}
        found = read_new_rows(self.uri, name="truth", columns=self.columns, places=places, most=most)
        self.places, self.problem = found.places, found.problem
        return found.rows


def append(file: Path, text: str) -> None:
    with file.open("a") as opened:
        opened.write(text)


def test_rows_that_are_appended_are_read_once_and_a_half_written_one_when_it_is_whole(tmp_path: Path) -> None:
    file, read = tmp_path / "truth.csv", Reading(str(tmp_path / "truth.csv"))
    file.write_text("")
    assert (read(), read.problem) == ([], "")
    append(file, "\ufeffwhen, id ,label\n1,a,3\n\n2,")
    assert read() == [("a", "3")]
    append(file, 'b,4\n3,"c\n')
    assert read() == [("b", "4")]
    append(file, '",5\nonly one\n4,d,6')
    assert read() == [("c\n", "5"), ()]
    # Nobody has written since: it is the last line, without an end.
    assert read() == [("d", "6")]
    assert (read(), read.problem) == ([], "")


def test_rows_are_read_in_parts_and_files_by_name(tmp_path: Path) -> None:
    read = Reading(tmp_path.as_uri())
    for name in ("b.jsonl", "a.csv", "note.txt"):
        (tmp_path / name).write_text("")
    (tmp_path / "a.csv").write_text("id,label\n" + "".join(f"a{number},1\n" for number in range(5)))
    lines = ({"id": 7, "label": None}, {"id": "x"}, [1], {"label": 2.5, "id": "y", "more": {}})
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + "{\n\n")
    rows = [read(most=4) for _ in range(4)]
    assert [len(part) for part in rows] == [4, 4, 2, 0]
    assert sum(rows, [])[5:] == [(7, None), (), (), ("y", 2.5), ()]
    (tmp_path / "a.csv").unlink()
    assert read() == []
    assert list(read.places) == [str(tmp_path / "b.jsonl")]


def test_a_file_that_is_replaced_is_read_from_its_beginning(tmp_path: Path) -> None:
    file, read = tmp_path / "truth.csv", Reading(str(tmp_path / "truth.csv"))
    file.write_text("id,label\na,3\nb,4\n")
    assert len(read()) == 2
    for text in ("id,label\na,3\n", "id,label\nz,3\nb,9\nc,1\n"):
        file.write_text(text)
        assert read() == [tuple(line.split(",")) for line in text.splitlines()[1:]]


def test_what_cannot_be_read_stays_and_is_read_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there, read = fsspec.filesystem("memory"), Reading("memory://labels")
    assert read() == []
    assert "data set 'truth' is not there" in read.problem
    there.pipe({"/labels/a.csv": b"id,label\na,1\n", "/labels/b.csv": b"key,label\nb,1\n"})
    try:
        assert read() == [("a", "1")]
        assert read.problem.startswith("/labels/b.csv cannot be read after byte 0: there is no column 'id'. Known: key")
        before = read.places
        with monkeypatch.context() as patch:
            patch.setattr(type(there), "info", lambda *_, **__: (_ for _ in ()).throw(ConnectionError("no route")))
            assert read() == []
        assert "cannot be inspected (ConnectionError: no route)" in read.problem
        assert read.places == before
        there.pipe({"/labels/a.csv": b"id,label\na,1\nc,2\n", "/labels/b.csv": b"id,label\nb,1\n"})
        assert (read(), read.problem) == ([("c", "2"), ("b", "1")], "")
    finally:
        there.rm("/labels", recursive=True)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.orc": "ORC"}, r"has no file of rows. Write CSV with a header \(.csv\), JSON lines .* or Parquet"),
        ({f"{number}.csv": "" for number in range(1001)}, "has 1,001 files of rows, more than 1,000"),
        ({"a.jsonl": "x" * 2_200_000}, "a line is longer than 1 MiB"),
    ],
)
def test_what_is_no_lines_or_too_much_is_refused(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    read = Reading(str(tmp_path))
    assert read() == []
    assert re.search(message, read.problem)
