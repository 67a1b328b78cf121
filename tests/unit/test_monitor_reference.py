"""What freezing has of the quality: the share of right classes, the mean error of numbers, or nothing."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from modelway.job.freezing.reference import Described, _quality
from modelway.monitor.reference import Reference

PRICE, SCORES = Described("price", "FP32", (-1, 1)), Described("scores", "FP32", (-1, 3))
ANSWERS = {"price": np.array([[1.0], [2.0], [4.0]], np.float32), "scores": np.eye(3, dtype=np.float32)}


def quality(output: Described, labels: Any) -> Any:
    answered = SimpleNamespace(answers=ANSWERS, rows=SimpleNamespace(labels=labels))
    return _quality([output], answered)


def test_classes() -> None:
    assert quality(SCORES, np.array([0, 1, 1])) == {"labelled": 3, "right": 2}
    assert quality(SCORES, np.array([0.5, 1.0, 1.0])) is None


def test_numbers() -> None:
    for labels in (np.array([1.5, 2.5, 3.0]), np.array([[1.5], [2.5], [3.0]], np.float32)):
        found = quality(PRICE, labels)
        assert (found["labelled"], found["error"]) == (3, pytest.approx(2 / 3))
    found = quality(PRICE, np.array([1, 3, 7]))
    assert (found["error"], found["deviation"]) == (pytest.approx(4 / 3), pytest.approx(np.std([0, 1, 3], ddof=1)))
    known = Reference.of({"rows": 3, "quality": found})
    assert Reference.from_dict(known.to_dict()) == known
    assert (known.error, known.right) == (found["error"], 0)


@pytest.mark.parametrize(
    "labels",
    [None, np.array([0, 1, 1]), np.array([1.0, np.nan, 3.0]), np.array(["a", "b", "c"]), np.ones((3, 2))],
)
def test_what_is_neither(labels: Any) -> None:
    assert quality(PRICE, labels) is None
