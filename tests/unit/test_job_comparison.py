"""The one rule by which an answer is the expected one."""

import math

import numpy
import pytest
from modelway.job.freezing.comparison import compare

NAN, INF = math.nan, math.inf
TOLERANCE = {"absolute": 1e-4, "relative": 1e-3}


def found(answer, expected, dtype="float32"):
    return compare(numpy.array(answer, dtype=dtype), numpy.array(expected, dtype=dtype), **TOLERANCE)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64"])
def test_what_is_not_finite_equals_itself_and_a_difference_beside_it_is_seen(dtype):
    rows = [[NAN, 1.0], [INF, 2.0], [-INF, 3.0]]
    assert found(rows, rows, dtype).reason is None
    assert found(rows, rows, dtype).largest == 0.0
    beside = found([[NAN, 1.0], [INF, 2.5], [-INF, 3.0]], rows, dtype)
    assert (beside.largest, beside.worst_row, beside.mismatched) == (0.5, 1, 1)
    small = found([[NAN, 1.0], [INF, 2.0], [-INF, 3.0009766]], rows, dtype)
    assert small.reason is None
    assert 0 < small.largest < 0.003


@pytest.mark.parametrize(
    ("answer", "expected"), [(NAN, 1.0), (1.0, NAN), (INF, 1.0), (1.0, INF), (INF, -INF), (-INF, INF), (NAN, INF)]
)
def test_what_is_not_finite_in_one_alone_differs(answer, expected):
    one = found([[0.0], [answer]], [[0.0], [expected]])
    assert (one.largest, one.worst_row, one.mismatched) == (INF, 1, 1)
    assert one.reason.startswith("differs by inf at most, on 1 of 2 rows, most on row 1 (")


def test_the_reason_names_rows_values_and_what_is_allowed():
    one = found([[1.0, 2.0], [1.0, 2.0], [1.5, 2.0]], [[1.0, 2.0], [1.2, 2.0], [1.0, 2.0]])
    assert (one.worst_row, one.mismatched) == (2, 2)
    assert one.reason == (
        "differs by 0.5 at most, on 2 of 3 rows, most on row 2 (1.5 in place of 1); allowed are 0.0001 + 0.001 x value"
    )


def test_an_allowed_difference_of_a_large_number_hides_no_other():
    one = found([[100000.0], [1.5]], [[100010.0], [1.0]])
    assert one.largest == 10.0
    assert (one.worst_row, one.mismatched) == (1, 1)
    assert one.reason.startswith("differs by 0.5 at most")


@pytest.mark.parametrize(
    ("answer", "expected", "dtype", "largest"),
    [
        ([2**62, 5], [2**62 + 1, 5], "int64", 1.0),
        ([0, 5], [0, 255], "uint8", 250.0),
        ([True, True], [False, True], "bool", 1.0),
        (["a", "b"], ["a", "c"], "O", 1.0),
        (["a", "b"], ["a", "c"], "U", 1.0),
    ],
)
def test_integers_truth_values_and_strings_are_equal_or_not(answer, expected, dtype, largest):
    assert found(expected, expected, dtype).reason is None
    one = found(answer, expected, dtype)
    assert (one.largest, one.mismatched) == (largest, 1)
    assert "allowed" not in one.reason


def test_strings_are_the_same_as_bytes_and_in_any_array():
    assert compare(["ä"], numpy.array(["ä".encode()], dtype=object), **TOLERANCE).reason is None


def test_shapes_and_types_must_be_the_same():
    one = compare(numpy.zeros((2, 3)), numpy.zeros((3, 2)), **TOLERANCE)
    assert one.reason == "has the shape [2, 3] in place of [3, 2]"
    assert one.mismatched == 3
    other = compare(numpy.zeros(2, "float64"), numpy.zeros(2, "float32"), **TOLERANCE)
    assert other.reason == "has the type float64 in place of float32"
    assert compare(numpy.array(["1"]), numpy.array([1]), **TOLERANCE).reason.startswith("has the type <U1 in place of")


def test_scalars_and_no_rows_are_compared_too():
    assert found(1.0, 1.0) == compare(1.0, 1.0, **TOLERANCE)
    assert found(2.0, 1.0).worst_row == 0
    assert found(numpy.zeros((0, 3)), numpy.zeros((0, 3))).reason is None
    assert found(numpy.zeros((2, 0)), numpy.zeros((2, 0))).reason is None


def test_half_precision_of_the_brain_kind_is_a_number():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    values = numpy.array([1.0, NAN], dtype=ml_dtypes.bfloat16)
    assert compare(values, values, **TOLERANCE).reason is None
    assert compare(values + 1, values, **TOLERANCE).largest == 1.0
