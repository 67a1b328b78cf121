"""Sketches of inputs and outputs: right within their width, of a bounded size, and they add up."""

import json
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from modelway.server.core.signature import Signature, TensorSpec
from modelway.server.core.sketches import Sketches
from modelway.sketches import _BUCKETS, _REACH, _ZERO, MAX_FEATURES, PER_DOUBLING, _buckets


def sketches(*inputs: TensorSpec, rows_per_second: int = 100_000) -> Sketches:
    return Sketches(Signature("m", "onnxruntime_onnx", inputs, ()), rows_per_second=rows_per_second)


def add(found: Sketches, array: np.ndarray, name: str = "x") -> None:
    for at in range(0, len(array), 10):
        part = array[at : at + 10]
        found.add({name: part}, {}, len(part))


def test_quantiles_are_right_within_the_width_of_a_bucket() -> None:
    random = np.random.default_rng(0)
    values = np.stack([random.normal(0, 1, 5000), random.lognormal(3, 2, 5000), np.zeros(5000)], axis=1)
    found = sketches(TensorSpec("x", "FP64", (-1, 3)))
    add(found, values)
    document = found.document()
    assert (document["rows"], document["rows_seen"]) == (5000, 5000)
    for at, feature in enumerate(document["inputs"]):
        assert (feature["position"], feature["count"], feature["missing"]) == ([at], 5000, 0)
        assert feature["mean"] == pytest.approx(values[:, at].mean())
        assert (feature["min"], feature["max"]) == (values[:, at].min(), values[:, at].max())
        for q, value in feature["quantiles"].items():
            exact = np.quantile(values[:, at], float(q), method="inverted_cdf")
            assert value == pytest.approx(exact, rel=2 ** (1 / PER_DOUBLING) - 1)
    json.dumps(document)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_bucket_is_that_of_the_logarithm_of_eight_binary_digits(dtype: str) -> None:
    random = np.random.default_rng(2)
    sizes = np.concatenate([2 ** random.uniform(-31, 31, 3000), np.arange(1.0, 257)]).astype(dtype)
    fractions, exponents = np.frexp(sizes.astype(np.float64))
    cut = np.ldexp(np.floor(fractions * 256) / 256, exponents)
    expected = np.floor(PER_DOUBLING * np.log2(cut)).astype(int) + _REACH
    assert (_buckets(sizes) == _ZERO + 1 + expected).all()
    assert (_buckets(-sizes) == _ZERO - 1 - expected).all()
    # Whole numbers up to 256 are exact.
    assert (cut[-256:] == sizes[-256:]).all()
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e38, -1e38, 1e-38], dtype=dtype)
    last, missing = 2 * _ZERO, _BUCKETS
    assert _buckets(special).tolist() == [_ZERO, _ZERO, missing, missing, missing, last, 0, _ZERO + 1]


def test_few_rows_wait_until_they_are_many_or_are_read() -> None:
    found = sketches(TensorSpec("x", "FP32", (-1, 2)), rows_per_second=1000)
    for number in range(520):
        assert found.waits is (number >= 512)
        found.add({"x": np.ones((1, 2), dtype=np.float32)}, {}, 1)
    found.fold()
    assert found.waits is False
    found.add({"x": np.ones((1, 2), dtype=np.float32)}, {}, 1)
    assert found.document()["rows"] == 521


@pytest.mark.parametrize(
    ("spec", "rows"),
    [
        (TensorSpec("x", "FP32", (-1, 2)), 512),
        (TensorSpec("x", "FP64", (-1, 3, 224, 224)), 512),
        (TensorSpec("x", "BYTES", (-1, 3, 224)), 97),
        (TensorSpec("x", "BYTES", (-1, -1)), 64),
    ],
)
def test_rows_of_many_bytes_wait_for_fewer(spec: TensorSpec, rows: int) -> None:
    found = sketches(spec)
    array = np.zeros((1, *(max(1, length) for length in spec.shape[1:])), dtype=spec.dtype)
    for number in range(rows):
        assert found.waits is False, number
        found.add({"x": array}, {}, 1)
    assert found.waits


def test_counts_are_those_of_each_row_by_itself() -> None:
    """Rows that wait as bytes, arrays of another type, and rows that come while others are counted: none is lost."""
    specs = (TensorSpec("x", "FP32", (-1, 3)), TensorSpec("kind", "BYTES", (-1,)))
    output = TensorSpec("scores", "FP64", (-1, 4))
    random = np.random.default_rng(3)
    together, alone = (
        Sketches(Signature("m", "onnxruntime_onnx", specs, (output,)), rows_per_second=100_000) for _ in range(2)
    )
    with ThreadPoolExecutor(1) as pool:
        folding = []
        for number in range(900):
            rows = number % 3 + 1
            dtype = np.float64 if number % 50 == 0 else np.float32
            inputs = {
                "x": random.normal(0, 10.0 ** (number % 5), (rows, 3)).astype(np.float32).astype(dtype),
                "kind": random.choice(np.array(["a", "b", "c"], dtype=object), rows),
            }
            outputs = {"scores": random.normal(0, 1, (rows, 4))}
            for found in (together, alone):
                found.add(inputs, outputs, rows)
            alone.fold()
            if number % 7 == 0:
                folding.append(pool.submit(together.fold))
        for each in folding:
            each.result()
    first, second = (found.document() for found in (together, alone))
    assert first["rows"] == second["rows"] == first["rows_seen"] == 1800
    assert first["classes"] == second["classes"]
    for side in ("inputs", "outputs"):
        for left, right in zip(first[side], second[side], strict=True):
            # Sums of floats depend on their order.
            assert left.pop("mean", 0) == pytest.approx(right.pop("mean", 0))
            assert left == right


def test_a_second_has_its_number_of_rows_also_where_they_wait() -> None:
    found = sketches(TensorSpec("x", "FP32", (-1, 2)), rows_per_second=32)
    for _ in range(3):
        for _ in range(10):
            found.add({"x": np.ones((8, 2), dtype=np.float32)}, {}, 8)
        found.fold()
        found.begin_second()
    assert (found.document()["rows"], found.document()["rows_seen"]) == (3 * 32, 240)


def test_a_burst_has_the_rows_of_twelve_seconds_and_then_each_minute_a_tenth_of_one() -> None:
    found = sketches(TensorSpec("x", "FP32", (-1, 2)), rows_per_second=160)

    def serve(minutes: int, *, calls: int) -> int:
        before = found.document()["rows"]
        for _ in range(60 * minutes):
            for _ in range(calls):
                found.add({"x": np.ones((1, 2), dtype=np.float32)}, {}, 1)
            found.begin_second()
        return int(found.document()["rows"] - before)

    assert serve(1, calls=200) == 12 * 160 + 15
    # Even rows of a steady load, and all of few rows.
    assert serve(10, calls=1) == pytest.approx(160, abs=1)
    assert serve(10, calls=3) == pytest.approx(160, abs=1)
    serve(60 * 2, calls=0)
    assert serve(1, calls=3) == 180


def test_calls_of_one_row_and_of_many_are_counted_together() -> None:
    spec = (TensorSpec("image", "FP32", (-1, 1, 8, 8)), TensorSpec("scores", "FP32", (-1, 10)))
    signature = Signature("m", "onnxruntime_onnx", spec[:1], spec[1:])
    found = Sketches(signature, rows_per_second=1000)
    for rows in (1, 16, 40, 2):
        scores = np.tile(np.eye(10, dtype=np.float32)[3], (rows, 1))
        found.add({"image": np.full((rows, 1, 8, 8), rows, dtype=np.float32)}, {"scores": scores}, rows)
    document = found.document()
    assert (document["rows"], document["rows_seen"]) == (1 + 16 + 16 + 2, 59)
    assert {each["count"] for each in document["inputs"]} == {35}
    assert document["classes"][0]["strings"]["3"] == 35


def test_sketches_add_up() -> None:
    values = np.random.default_rng(1).normal(0, 1e3, (1000, 1)).astype(np.float32)
    parts = [sketches(TensorSpec("x", "FP32", (-1, 1))) for _ in range(3)]
    for found, array in zip(parts, (values, values[:400], values[400:]), strict=True):
        add(found, array)
    whole, first, second = (Counter(found.document()["inputs"][0]["buckets"]) for found in parts)
    assert first + second == whole


def test_what_is_no_number_is_counted_apart() -> None:
    found = sketches(TensorSpec("x", "FP32", (-1, 2)))
    add(found, np.array([[np.nan, 1], [np.inf, 2], [-1e300, 3e-300]]))
    first, second = found.document()["inputs"]
    assert (first["count"], first["missing"], first["min"]) == (1, 2, -1e300)
    assert (second["count"], second["missing"]) == (3, 0)


@pytest.mark.parametrize(("datatype", "dtype"), [("BOOL", bool), ("UINT8", np.uint8), ("INT64", np.int64)])
def test_other_numbers(datatype: str, dtype: type) -> None:
    found = sketches(TensorSpec("x", datatype, (-1,)))
    add(found, np.array([0, 1, 1, 1], dtype=dtype))
    feature = found.document()["inputs"][0]
    assert (feature["count"], feature["mean"], feature["buckets"]["0"]) == (4, 0.75, 1)


def test_size_is_bounded_whatever_comes() -> None:
    wide = TensorSpec("wide", "FP32", (-1, MAX_FEATURES + 1))
    free = TensorSpec("free", "FP32", (-1, -1))
    texts = TensorSpec("texts", "BYTES", (-1,))
    found = sketches(wide, free, texts, rows_per_second=50)
    for number in range(200):
        strings = np.array([f"{number} {at} " + "x" * 1000 for at in range(20)], dtype=object)
        arrays = {"wide": np.ones((20, MAX_FEATURES + 1)), "free": np.ones((20, 5000)), "texts": strings}
        found.add(arrays, {}, 20)
        if number % 50 == 49:
            found.fold()
            found.begin_second()
    document = found.document()
    assert document["rows_seen"] == 4000
    assert 4 * 50 <= document["rows"] < 4 * 70
    assert len(document["inputs"]) == 3
    assert len(document["inputs"][2]["strings"]) <= 65
    assert sys.getsizeof(json.dumps(document)) < 16_000


def test_no_rows_and_nothing_to_count() -> None:
    found = sketches(TensorSpec("x", "FP32", (-1, 2)), rows_per_second=0)
    add(found, np.ones((3, 2)))
    assert (found.document()["rows"], found.document()["rows_seen"]) == (0, 3)
    found = sketches(TensorSpec("x", "FP32", (-1, 2)), TensorSpec("scalar", "FP32", ()))
    found.add({"x": np.ones((0, 2)), "scalar": np.array(2.0)}, {}, 1)
    assert [each["count"] for each in found.document()["inputs"]] == [0, 0, 1]


def test_what_waits_to_be_counted_does_not_grow_with_the_size_of_a_row() -> None:
    found = sketches(TensorSpec("x", "FP32", (-1, 1_000_000)))
    large = np.ones((1, 1_000_000), dtype=np.float32)
    for _ in range(20):
        found.add({"x": large}, {}, 1)
    waiting = sum(array.nbytes for array in found._inputs["x"]._arrays)
    assert waiting < 1 << 20
    assert found.document()["rows"] == 20


@pytest.mark.parametrize("is_bytes", [False, True])
@pytest.mark.parametrize("text", ["\N{GRINNING FACE}", "\udcf0"])
def test_what_waits_to_be_counted_does_not_grow_with_the_length_of_a_text(text: str, is_bytes: bool) -> None:
    found = sketches(TensorSpec("x", "BYTES", (-1, 1)))
    whole = (text * 100_000).encode(errors="surrogateescape")
    shown = whole.decode(errors="replace") if is_bytes else text * 100_000
    for _ in range(20):
        found.add({"x": np.array([[whole if is_bytes else shown]], dtype=object)}, {}, 1)
    assert sum(sys.getsizeof(each) for array in found._inputs["x"]._arrays for each in array) < 20 * 1024
    assert found.document()["inputs"][0]["strings"] == {shown[:64]: 20}
