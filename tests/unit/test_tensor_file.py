"""Safetensors files hold the tensors' own bytes and nothing else."""

import json
import re
from pathlib import Path

import ml_dtypes
import numpy
import pytest
from modelway.job.freezing.tensor_file import Later, read_tensors, write_tensors
from safetensors.numpy import load_file, save

PLUGINS = Path(__file__).parents[2] / "plugins"
KINDS = [
    *("bool", "uint8", "int8", "int16", "uint16", "float16", ml_dtypes.bfloat16, "int32", "uint32", "float32"),
    *("float64", "int64", "uint64"),
]


def test_the_file_is_what_the_library_writes_for_contiguous_arrays(tmp_path):
    rng = numpy.random.default_rng(0)
    tensors = {
        f"{numpy.dtype(kind).name}é/{rows}": (5 * rng.random((3, rows))).astype(kind)
        for kind in KINDS
        for rows in (0, 1, 4)
    }
    tensors["number"] = numpy.array(3.5, dtype="float32")
    places = write_tensors(tmp_path / "file", tensors)
    data = (tmp_path / "file").read_bytes()
    assert data == save(tensors)
    assert {name: data[begin : begin + length] for name, (begin, length) in places.items()} == {
        name: array.tobytes() for name, array in tensors.items()
    }


#: what lies beside a view in memory
BESIDE = 987654321
VIEWS = {
    "columns": lambda memory: memory[:, ::2],
    "one column": lambda memory: memory[:, 1],
    "rows": lambda memory: memory[1:3],
    "every other row": lambda memory: memory[::2],
    "backwards": lambda memory: memory[::-1, ::-1],
    "transposed": lambda memory: memory.T,
    "fortran": numpy.asfortranarray,
    "broadcast": lambda memory: numpy.broadcast_to(memory[0, :1], (3, 4)),
    "diagonal": lambda memory: memory.diagonal(),
    "big-endian": lambda memory: memory.astype(">i8"),
    "a number": lambda memory: memory[1, 1],
    "no rows": lambda memory: memory[:0],
}


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_is_written_as_it_reads_and_no_other_byte_reaches_the_file(tmp_path, view):
    wanted = numpy.asarray(VIEWS[view](numpy.arange(1, 25).reshape(4, 6))).copy()
    memory = numpy.arange(1, 25).reshape(4, 6)
    seen = numpy.isin(memory, wanted)
    memory[~seen] = BESIDE
    array = numpy.asarray(VIEWS[view](memory))
    places = write_tensors(tmp_path / "file", {"x": array})
    numpy.testing.assert_array_equal(load_file(tmp_path / "file")["x"], wanted)
    data = (tmp_path / "file").read_bytes()
    begin, length = places["x"]
    assert len(data) == begin + length == begin + array.nbytes
    # The rest of the file is the header's text and spaces.
    assert set(json.loads(data[8:begin])) == {"x"}
    assert BESIDE.to_bytes(8, "little") not in data


def test_what_the_format_has_no_type_for_is_refused_by_name_and_leaves_no_file(tmp_path):
    for array in (numpy.array([None]), numpy.array([1j])):
        with pytest.raises(ValueError, match=r"the tensor 'x' is .*, of which the format has no type"):
            write_tensors(tmp_path / "file", {"x": array})
    with pytest.raises(ValueError, match="'__metadata__'"):
        write_tensors(tmp_path / "file", {"__metadata__": numpy.zeros(1)})
    other = Later(dtype="float32", shape=(2,), read=lambda: numpy.zeros(3, dtype="float32"))
    with pytest.raises(ValueError, match=r"the tensor 'x' is float32 \[3\], not as declared"):
        write_tensors(tmp_path / "file", {"x": other})
    assert not (tmp_path / "file").exists()


def test_tensors_are_written_in_this_one_place():
    """``safetensors.numpy.save`` and ``save_file`` write the memory behind a view."""
    saving = re.compile(r"safetensors[\w.]* import .*\bsave|serialize_file|save_file")
    assert [path.name for path in PLUGINS.rglob("*.py") if saving.search(path.read_text())] == []


def test_text_comes_back_as_text(tmp_path):
    tensors = {
        "names": numpy.array([["low", "größer"], ["", "日本"]]),
        "objects": numpy.array(["a", "bc"], dtype=object),
        "none": numpy.array([], dtype="<U3"),
        "numbers": numpy.arange(3),
    }
    write_tensors(tmp_path / "file", tensors)
    found = read_tensors(tmp_path / "file")
    assert found["names"].tolist() == tensors["names"].tolist()
    assert found["objects"].tolist() == ["a", "bc"]
    assert found["none"].shape == (0,)
    assert found["numbers"].tolist() == [0, 1, 2]
    # Any other reader sees the bytes of UTF-8.
    assert bytes(load_file(tmp_path / "file")["names"][0, 1]) == "größer".encode()
