"""Labels in Parquet files, which pyarrow writes here as it does elsewhere."""

import decimal
import os
import re
import sys
import uuid
from pathlib import Path
from typing import Any

import fsspec
import pytest
from modelway.artifacts.dataset_rows import Place, read_new_rows
from modelway.lineage.store import open_lineage
from modelway.runs.monitor_labels import LabelSource, add_new_labels

from tests.lineage_samples import make_record

if os.environ.get("CI") != "true":
    pytest.importorskip("pyarrow", reason="modelway[parquet] is not installed")


def write(path: Path, columns: dict[str, Any], *, rows_per_group: int = 4) -> None:
    """Write columns: lists, or arrays of pyarrow's."""
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=rows_per_group)


class Reading:
    """A data set of labels that is read again and again."""

    def __init__(self, uri: Path | str) -> None:
        self.uri = str(uri)
        self.places: dict[str, Place] = {}
        self.problem = ""

    def __call__(self, most: int = 100) -> list[tuple[object, ...]]:
        found = read_new_rows(self.uri, name="truth", columns=("id", "label"), places=self.places, most=most)
        self.places, self.problem = found.places, found.problem
        return found.rows


def test_rows_are_read_once_and_in_parts_over_the_row_groups(tmp_path: Path) -> None:
    read = Reading(tmp_path)
    write(tmp_path / "a.parquet", {"id": [f"a{n}" for n in range(10)], "more": ["x"] * 10, "label": list(range(10))})
    parts = [read(most=3) for _ in range(4)]
    assert [len(part) for part in parts] == [3, 3, 3, 1]
    assert sum(parts, []) == [(f"a{number}", number) for number in range(10)]
    assert (read(), read.problem) == ([], "")
    write(tmp_path / "b.pq", {"label": [0.5], "id": [7]})
    (tmp_path / "c.csv").write_text("id,label\nc,1\n")
    assert read() == [(7, 0.5), ("c", "1")]
    assert (read(), read.problem) == ([], "")


def test_a_file_with_more_rows_than_bytes_is_read_to_its_end(tmp_path: Path) -> None:
    file, read = tmp_path / "truth.parquet", Reading(tmp_path / "truth.parquet")
    write(file, {"id": ["a"] * 9_000, "label": [1] * 9_000}, rows_per_group=9_000)
    assert file.stat().st_size < 4_000
    assert [len(read(most=4_000)) for _ in range(4)] == [4_000, 4_000, 1_000, 0]


def test_a_file_that_is_replaced_is_read_from_its_beginning(tmp_path: Path) -> None:
    file, read = tmp_path / "truth.parquet", Reading(tmp_path / "truth.parquet")
    write(file, {"id": ["a", "b"], "label": [1, 2]})
    assert read(most=1) == [("a", 1)]
    write(file, {"id": ["a", "b", "c"], "label": [1, 5, 3]})
    assert read() == [("a", 1), ("b", 5), ("c", 3)]


def test_a_file_that_is_written_at_the_moment_waits_for_its_end(tmp_path: Path) -> None:
    file, read = tmp_path / "truth.parquet", Reading(tmp_path / "truth.parquet")
    write(file, {"id": ["a"], "label": [1]})
    whole = file.read_bytes()
    for part in (0, 3, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:part])
        assert (read(), read.problem) == ([], "")
    # Nobody has written since: it is no Parquet file.
    assert read() == []
    assert "truth.parquet cannot be read after row 0: ArrowInvalid: Parquet magic bytes not found" in read.problem
    file.write_bytes(whole)
    assert (read(), read.problem) == ([("a", 1)], "")


def test_columns_may_be_of_each_type_of_ids_and_numbers_and_have_gaps(tmp_path: Path) -> None:
    import pyarrow

    numbers = {
        "int8": pyarrow.array([1, None], pyarrow.int8()),
        "float": pyarrow.array([1.0, None], pyarrow.float32()),
        "bool": pyarrow.array([True, None]),
        "decimal": pyarrow.array([decimal.Decimal("1.00"), None]),
        "dictionary": pyarrow.array([1, None]).dictionary_encode(),
        "text": pyarrow.array(["1", None]),
    }
    ids = {
        "uint64": pyarrow.array([2**63, None], pyarrow.uint64()),
        "large": pyarrow.array(["9223372036854775808", None], pyarrow.large_string()),
        "dictionary": pyarrow.array(["9223372036854775808", None]).dictionary_encode(),
    }
    store = open_lineage(f"sqlite:///{tmp_path}/lineage.db")
    pairs = [(ids["uint64"], each) for each in numbers.values()] + [(each, numbers["int8"]) for each in ids.values()]
    for number, (key, label) in enumerate(pairs):
        folder = tmp_path / str(number)
        folder.mkdir()
        write(folder / "rows.parquet", {"id": key, "label": label})
        source = LabelSource(dataset="truth", uri=str(folder), key="id", column="label")
        store.register(make_record(model=f"model-{number}"))
        _, text = add_new_labels(source, {}, store, model=f"model-{number}")
        assert text == (
            "labels of data set truth: 1 new, 0 changed, 0 as before, 1 of requests that are not known, or not yet, "
            "1 row without an id or a number"
        )


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": [1.0, None], "label": [1, 2]}, "column 'id' has values of the type double, which are no ids"),
        ({"id": [b"a"], "label": [1]}, "column 'id' has values of the type binary, which are no ids"),
        ({"id": [["a"]], "label": [1]}, r"column 'id' has values of the type list<.*>, which are no ids"),
        ({"id": ["a"], "label": [b"1"]}, "column 'label' has values of the type binary, which are no numbers"),
        ({"id": ["a"], "labels": [1]}, "there is no column 'label'. Known: id, labels"),
    ],
)
def test_a_column_of_another_type_is_refused_and_other_files_are_read(
    tmp_path: Path, columns: dict[str, Any], message: str
) -> None:
    write(tmp_path / "a.parquet", columns)
    write(tmp_path / "b.parquet", {"id": ["b"], "label": [3]})
    read = Reading(tmp_path)
    assert read() == [("b", 3)]
    assert re.search(message, read.problem)
    assert "a.parquet cannot be read after row 0" in read.problem
    assert read() == []
    assert read.problem, "as long as it is there"


def test_ids_that_are_uuids_are_refused(tmp_path: Path) -> None:
    import pyarrow

    write(tmp_path / "a.parquet", {"id": pyarrow.array([uuid.uuid4().bytes], pyarrow.uuid()), "label": [1]})
    read = Reading(tmp_path)
    assert read() == []
    assert "which are no ids of requests. Write the ids of requests as text or whole numbers" in read.problem


def test_only_the_wanted_columns_are_fetched_from_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = fsspec.filesystem("memory")
    rows = 20_000
    write(
        tmp_path / "a.parquet",
        {"id": list(range(rows)), "label": [1] * rows, "image": [os.urandom(200) for _ in range(rows)]},
        rows_per_group=5_000,
    )
    there.pipe("/labels/a.parquet", (tmp_path / "a.parquet").read_bytes())
    fetched, kind = [0], type(there.open("/labels/a.parquet"))
    original = kind.read

    def counted(self: Any, *words: Any) -> Any:
        found = original(self, *words)
        fetched[0] += len(found)
        return found

    monkeypatch.setattr(kind, "read", counted)
    try:
        read = Reading("memory://labels")
        assert len(read(most=rows)) == rows
        assert fetched[0] < 600_000, "of 4 MB"
    finally:
        there.rm("/labels", recursive=True)


def test_without_pyarrow_the_extra_is_named_and_other_files_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.parquet", {"id": ["a"], "label": [1]})
    (tmp_path / "b.csv").write_text("id,label\nb,2\n")
    read = Reading(tmp_path)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pyarrow.parquet", None)
        assert read() == [("b", "2")]
        assert "pyarrow is not installed here, which reads Parquet. Install modelway[parquet]" in read.problem
    assert (read(), read.problem) == ([("a", 1)], "")
