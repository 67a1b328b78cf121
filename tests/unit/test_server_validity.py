"""Which answers are no valid output of a model."""

import numpy
import pytest
from modelway.server.core.signature import TensorSpec
from modelway.server.core.validity import Validity, is_valid


@pytest.mark.parametrize(
    ("datatype", "shape", "array", "valid"),
    [
        ("FP32", (-1, 2), numpy.ones((3, 2), "<f4"), True),
        ("FP32", (-1, 2), numpy.ones((0, 2), "<f4"), True),
        ("FP32", (-1, 2), numpy.array([[1.0, numpy.nan]], "<f4"), False),
        ("FP32", (-1, 2), numpy.array([[1.0, -numpy.inf]], "<f4"), False),
        # finite, though their sum is not
        ("FP16", (2,), numpy.array([6e4, 6e4], "<f2"), True),
        ("FP32", (-1, 2), numpy.ones((3, 3), "<f4"), False),
        ("FP32", (-1, 2), numpy.ones(2, "<f4"), False),
        ("FP32", (-1, 2), numpy.ones((3, 2), "<f8"), False),
        ("BF16", (2,), numpy.array([1.0, numpy.inf], "<f4"), False),
        ("INT64", (-1,), numpy.ones(2, "<i8"), True),
        ("BOOL", (), numpy.array(True), True),
        ("BYTES", (-1,), numpy.array(["a"], object), True),
        ("BYTES", (-1,), numpy.array(["a"]), True),
        ("BYTES", (-1,), numpy.ones(1, "<f4"), False),
    ],
)
def test_numbers_are_finite_and_of_the_type_and_shape_that_the_model_names(datatype, shape, array, valid):
    assert is_valid(TensorSpec("y", datatype, shape), array) is valid


def test_an_answer_with_two_invalid_outputs_counts_once():
    counted = []
    wrong = (TensorSpec("y", "FP32", (1,)), numpy.array([numpy.nan], "<f4"))
    right = (TensorSpec("z", "FP32", (1,)), numpy.array([0.0], "<f4"))
    validity = Validity(lambda: counted.append(1))
    validity.check([right])
    assert counted == []
    validity.check([right, wrong, wrong])
    assert counted == [1]
