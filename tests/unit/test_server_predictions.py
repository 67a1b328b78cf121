"""The predictions of requests with an id: classes and numbers, of a bounded number."""

import numpy as np
import pytest
from modelway.server.core.predictions import MOST, Predictions
from modelway.server.core.signature import Signature, TensorSpec


def predictions(*outputs: TensorSpec) -> Predictions:
    return Predictions(Signature("m", "onnxruntime_onnx", (), outputs))


def found(each: Predictions) -> list[tuple[str, float]]:
    return [(identity, value) for _, _, identity, value in each.documents()]


def test_of_scores_the_class_is_the_prediction() -> None:
    scored = predictions(TensorSpec("embedding", "FP32", (-1, 500)), TensorSpec("scores", "FP32", (-1, 3)))
    scored.offer("one", {}, {"scores": np.array([[0.1, 0.7, 0.2]])})
    scored.offer("two", {}, {"scores": np.array([[9.0, 1, 1], [np.nan, 1, 1], [0, 1, 2]])})
    scored.offer(None, {}, {"scores": np.array([[1.0, 0, 0]])})
    assert found(scored) == [("one", 1), ("two/0", 0), ("two/2", 2)]
    assert [number for number, *_ in scored.documents()] == [1, 2, 4]


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_of_a_number_a_row_the_number_is(shape: tuple[int, ...]) -> None:
    priced = predictions(TensorSpec("price", "FP32", shape))
    priced.offer("a", {}, {"price": np.array([2.5]).reshape([1] * len(shape))})
    priced.offer("b", {}, {"price": np.array([np.inf]).reshape([1] * len(shape))})
    assert found(priced) == [("a", 2.5)]


def test_other_outputs_have_none() -> None:
    text = predictions(TensorSpec("text", "BYTES", (-1,)))
    text.offer("a", {}, {"text": np.array([b"x"], dtype=object)})
    assert not text.waits
    assert found(text) == []
    off = Predictions(Signature("m", "onnxruntime_onnx", (), (TensorSpec("y", "FP32", (-1,)),)), retains=False)
    off.offer("a", {}, {"y": np.ones(1)})
    assert found(off) == []


def test_what_is_retained_is_bounded() -> None:
    priced = predictions(TensorSpec("price", "FP32", (-1,)))
    for number in range(MOST):
        priced.offer(str(number), {}, {"price": np.arange(3.0)})
        if number % 40 == 0:
            priced.fold()
    priced.offer("x" * 1000, {}, {"price": np.arange(3.0)})
    priced.offer("last", {}, {"price": np.arange(1.0)})
    assert len(priced.documents()) == MOST
    assert found(priced)[-1] == ("last", 0.0)
    for number in range(1000):
        priced.offer(str(number), {}, {"price": np.arange(1000.0)})
    assert sum(array.nbytes for _, array in priced._pending) < 100_000
