"""What of another signature breaks callers, and what does not."""

import numpy
import pytest
from modelway.job.freezing.tensor_file import write_tensors
from modelway.runs.predictor import Signature, Tensor, _golden_batch, breaking_changes, harmless_changes

FREE, FIXED = Tensor("FP32", (-1, 4)), Tensor("FP32", (8, 4))


def signature(version, inputs, outputs):
    return Signature(version=version, inputs=inputs, outputs=outputs)


SERVING = signature(1, {"x": FREE}, {"y": FREE})


@pytest.mark.parametrize(
    ("inputs", "outputs", "reported"),
    [
        ({"image": FREE}, {"y": FREE}, ["input 'x' (FP32 [-1, 4]) of version 1 is missing", "input 'image'"]),
        ({"x": FREE, "mask": FREE}, {"y": FREE}, ["input 'mask' (FP32 [-1, 4]) of version 2 is unknown to version 1"]),
        ({"x": Tensor("INT64", (-1, 4))}, {"y": FREE}, ["input 'x' is FP32 [-1, 4] in version 1, INT64 [-1, 4] in"]),
        ({"x": FIXED}, {"y": FREE}, ["input 'x' is FP32 [-1, 4] in version 1, FP32 [8, 4] in version 2"]),
        ({"x": Tensor("FP32", (-1, 4, 1))}, {"y": FREE}, ["input 'x' is FP32 [-1, 4] in version 1"]),
        ({"x": FREE}, {"z": FREE}, ["output 'y' (FP32 [-1, 4]) of version 1 is missing in version 2"]),
        ({"x": FREE}, {"y": FIXED}, ["output 'y' is FP32 [-1, 4] in version 1, FP32 [8, 4] in version 2"]),
        ({"x": FREE}, {"y": Tensor("FP64", (-1, 4))}, ["output 'y' is FP32 [-1, 4] in version 1, FP64 [-1, 4]"]),
    ],
)
def test_what_callers_would_meet_is_named_in_both_forms(inputs, outputs, reported):
    found = breaking_changes(serving=SERVING, new=signature(2, inputs, outputs))
    assert len(found) == len(reported)
    for phrase, text in zip(reported, found, strict=True):
        assert phrase in text


def test_the_same_signature_has_no_changes():
    same = signature(2, {"x": FREE}, {"y": FREE})
    assert (breaking_changes(serving=SERVING, new=same), harmless_changes(serving=SERVING, new=same)) == ([], [])


def test_more_outputs_and_wider_inputs_harm_nobody():
    serving, new = signature(1, {"x": FIXED}, {"y": FREE}), signature(2, {"x": FREE}, {"y": FREE, "z": FIXED})
    assert breaking_changes(serving=serving, new=new) == []
    assert harmless_changes(serving=serving, new=new) == [
        "output 'z' (FP32 [8, 4]) is new",
        "input 'x' takes FP32 [-1, 4], was FP32 [8, 4]",
    ]


def test_a_free_output_that_was_fixed_is_a_change():
    serving, new = signature(1, {"x": FREE}, {"y": FIXED}), signature(2, {"x": FREE}, {"y": FREE})
    assert len(breaking_changes(serving=serving, new=new)) == 1


def test_the_golden_inputs_that_are_sent_are_small(tmp_path):
    """Without the batch that is usual, and though others may be larger than a request may be."""
    (tmp_path / "golden").mkdir()
    for side in ("inputs", "outputs"):
        calls = {f"given-{number}/x": numpy.zeros((rows, 2)) for number, rows in ((1, 10_000), (2, 3), (3, 7))}
        write_tensors(tmp_path / "golden" / f"{side}.safetensors", calls)
    inputs, expected = _golden_batch(tmp_path)
    assert inputs["x"].shape == expected["x"].shape == (3, 2)
