"""What a command left of its checkpoint's answers is found by the rows that the program receives."""

from pathlib import Path
from typing import Any

import numpy
import pytest
from modelway.job.freezing.left_export import UnknownInputs, exported_by_command

ROWS = numpy.arange(24).reshape(8, 3) / 7


def answers_of(folder: Path, **examples: Any) -> Any:
    """Return the answers that a command left: each row's place in the file."""
    (folder / "model.onnx").touch()
    numpy.savez(folder / "examples.npz", **examples)
    numpy.savez(folder / "answers.npz", y=numpy.arange(8))
    return exported_by_command(folder, format="onnx").answers


@pytest.mark.parametrize(
    ("left", "datatype"),
    [
        (ROWS, "float32"),
        (ROWS.astype("float32"), "float32"),
        (numpy.where(numpy.arange(24).reshape(8, 3) % 3 == 0, numpy.nan, ROWS), "float32"),
        (ROWS, "float16"),
        (numpy.arange(24).reshape(8, 3), "float32"),
        (numpy.array(list("abcdefgh")), "str"),
    ],
    ids=["float64", "float32", "nan", "float16", "int64", "text"],
)
def test_answers_are_found_in_the_types_of_the_program(tmp_path: Path, left: Any, datatype: str) -> None:
    answers = answers_of(tmp_path, x=left)
    assert answers({"x": left.astype(datatype)[[5, 0, 5]]})["y"].tolist() == [5, 0, 5]


def test_inputs_without_answers_are_none_of_the_examples(tmp_path: Path) -> None:
    answers = answers_of(tmp_path, x=ROWS, scale=numpy.ones(8))
    for unknown in ({"x": ROWS + 1, "scale": numpy.ones(8)}, {"x": ROWS}):
        with pytest.raises(UnknownInputs, match="answers.npz has no answer to these inputs"):
            answers(unknown)
