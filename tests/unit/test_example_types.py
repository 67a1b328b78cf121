"""Rows in the types of the example inputs, and answers in those of the program."""

import numpy
import pytest
from modelway.job.freezing.rows import cast_to_examples
from modelway.job.freezing.served_form import conformed


def test_rows_of_narrow_whole_numbers_fit_an_example_that_was_widened() -> None:
    rows, example = {"x": numpy.array([[0, 255]], dtype="uint8")}, {"x": numpy.zeros((3, 2), dtype="int64")}
    (found,) = cast_to_examples(rows, example, what="rows").values()
    assert (found.dtype, found.tolist()) == (numpy.dtype("int64"), [[0, 255]])


@pytest.mark.parametrize(("kind", "example"), [("uint64", "int64"), ("uint8", "float32"), ("bool", "int64")])
def test_rows_of_another_kind_do_not(kind: str, example: str) -> None:
    with pytest.raises(ValueError, match=f"'x' is {kind} of shape"):
        cast_to_examples({"x": numpy.ones((1, 2), dtype=kind)}, {"x": numpy.ones((1, 2), dtype=example)}, what="rows")


def test_classes_with_a_point_are_whole_numbers_and_no_others_are() -> None:
    labels = numpy.array([0, 1])
    assert conformed(numpy.array([0.0, 1.0]), labels).dtype == labels.dtype
    assert conformed(numpy.array([0.5, 1.0]), labels).dtype == numpy.dtype("float64")
    assert conformed(numpy.array([numpy.nan, 1.0]), labels).dtype == numpy.dtype("float64")
