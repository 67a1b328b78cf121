"""Rows that an evaluation recorded: which stay, in what form, and which metrics have a definition."""

import math

import numpy
import pytest
import torch
from modelway.job.contract import Job
from modelway.job.freezing.joining import prove_rows_apart
from modelway.job.freezing.real_rows import read_dataset
from modelway.job.freezing.rows import (
    MOST_BYTES,
    MOST_ROWS,
    RealRows,
    cast_to_examples,
    read_recorded,
    recorded_files,
)
from modelway.job.freezing.scores import find_near, find_origin, metrics_of

from tests.job_folders import write_job

TOLERANCE = {"absolute": 1e-4, "relative": 1e-3}


@pytest.fixture
def job(tmp_path):
    write_job(tmp_path, action="evaluate", stage="evaluate")
    (tmp_path / "output").mkdir()
    return Job(tmp_path)


def recorded(job, of="checkpoint"):
    files = recorded_files(job.output, of)
    return read_recorded(files["rows"], files["scores"])


def test_rows_are_recorded_with_labels_scores_and_metrics_of_all(job):
    scores = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    rows = {"x": torch.arange(6.0).reshape(3, 2).T.contiguous().T, "kind": [1, 2, 3]}
    job.predictions(labels=["cat", "dog", "dog"], scores=scores, classes=["cat", "dog"], inputs=rows)
    found = recorded(job)
    assert found.inputs["x"].tolist() == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
    assert found.inputs["kind"].tolist() == [1, 2, 3]
    assert found.labels.tolist() == [0, 1, 1]
    assert found.scores.tolist() == scores.tolist()
    assert (found.of, found.source) == (3, "evaluate")
    assert found.metrics["accuracy"] == pytest.approx(2 / 3)


def test_without_inputs_nothing_is_recorded(job):
    job.predictions(labels=[0, 1], scores=[0.2, 0.8])
    assert not (job.output / "rows").exists()
    assert read_recorded(None, None) is None


def test_each_checkpoint_of_a_job_has_its_own_and_the_same_rows_are_the_same_file(job):
    for number, scores in enumerate(([0.2, 0.8], [0.3, 0.7])):
        job.evaluating = f"checkpoint.{number}"
        job.predictions(labels=[0, 1], scores=scores, inputs={"x": [1.0, 2.0]})
    first, second = (recorded_files(job.output, f"checkpoint.{number}") for number in (0, 1))
    assert first["rows"].read_bytes() == second["rows"].read_bytes()
    assert first["scores"].read_bytes() != second["scores"].read_bytes()


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ({"x": [1.0, 2.0, 3.0]}, "job.predictions: the inputs have 3 rows, there are 2 labels and scores"),
        ({"x": [1.0, 2.0], "y": [1.0]}, "must have the same number of rows in each input, the batch first: x has 2, y"),
        ({"x": 1.0}, "must have the same number of rows in each input, the batch first: x has 0"),
        ({"x": ["a", None]}, "job.predictions: the inputs: 'x' holds neither numbers nor text but object"),
        ({}, "must be a mapping from the inputs' names to tensors, got dict"),
        ([1.0, 2.0], "must be a mapping from the inputs' names to tensors, got list"),
    ],
)
def test_what_are_no_rows_of_these_predictions_is_refused(job, inputs, reason):
    with pytest.raises(ValueError, match="job.predictions: the inputs") as caught:
        job.predictions(labels=[0, 1], scores=[0.2, 0.8], inputs=inputs)
    assert reason in str(caught.value)


def test_columns_of_text_are_rows_too(job):
    job.predictions(labels=[0, 1], scores=[0.2, 0.8], inputs={"colour": ["red", "grün"], "size": [1.0, 2.0]})
    files = recorded_files(job.output, "checkpoint")
    rows = read_recorded(files["rows"], files["scores"])
    assert rows.inputs["colour"].tolist() == ["red", "grün"]
    assert rows.inputs["size"].tolist() == [1.0, 2.0]


def test_a_second_set_of_predictions_has_no_inputs(job):
    job.predictions(labels=[0, 1], scores=[0.2, 0.8], inputs={"x": [1.0, 2.0]})
    job.predictions(labels=[0, 1], scores=[0.2, 0.8], name="other")
    with pytest.raises(ValueError, match="inputs are recorded of one set of predictions, these are a second one"):
        job.predictions(labels=[0, 1], scores=[0.2, 0.8], name="third", inputs={"x": [1.0, 2.0]})


def test_of_many_rows_some_stay_evenly_spaced_with_their_labels():
    x = numpy.arange(5000.0)
    rows = RealRows(inputs={"x": x}, source="export", of=5000, labels=x.astype("int64"), scores=x[:, None]).thinned()
    kept = rows.inputs["x"]
    assert (len(kept), kept[0], kept[-1], rows.of) == (MOST_ROWS, 0.0, 4999.0, 5000)
    assert set(numpy.diff(kept)) == {5.0, 6.0} or set(numpy.diff(kept)) == {5.0}
    assert (rows.labels == kept).all()
    assert (rows.scores[:, 0] == kept).all()


def test_of_large_rows_as_many_stay_as_the_limit_of_bytes_allows():
    x = numpy.zeros((40, MOST_BYTES // 16), dtype="uint8")
    assert len(RealRows(inputs={"x": x}, source="export", of=40).thinned().inputs["x"]) == 16
    one = numpy.zeros((3, MOST_BYTES + 1), dtype="uint8")
    assert len(RealRows(inputs={"x": one}, source="export", of=3).thinned().inputs["x"]) == 1


def test_rows_get_the_types_of_the_examples():
    examples = {"a": numpy.zeros((2, 3), "float32"), "b": numpy.zeros((2, 4), "int64")}
    given = {"b": numpy.zeros((5, 4), "int32"), "a": numpy.zeros((5, 3), "float64")}
    found = cast_to_examples(given, examples, what="rows", dynamic={})
    assert [(name, str(array.dtype)) for name, array in found.items()] == [("a", "float32"), ("b", "int64")]
    longer = {**given, "b": numpy.zeros((5, 9), "int32")}
    with pytest.raises(ValueError, match=r"rows: 'b' is int32 of shape \[5, 9\], the example is int64 of sh"):
        cast_to_examples(longer, examples, what="rows", dynamic={})
    assert cast_to_examples(longer, examples, what="rows", dynamic={"b": {1: "length"}})["b"].shape == (5, 9)
    with pytest.raises(ValueError, match="'a' is int64 of shape"):
        cast_to_examples({**given, "a": numpy.zeros((5, 3), "int64")}, examples, what="rows", dynamic={})


def test_a_data_set_of_another_kind_or_with_objects_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"rows of data set 'holdout' cannot be read from rows.csv; give a .npz or"):
        read_dataset(tmp_path / "rows.csv", name="holdout")
    numpy.savez(tmp_path / "rows.npz", x=numpy.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        read_dataset(tmp_path / "rows.npz", name="holdout")


@pytest.mark.parametrize("classes", [2, 7])
@pytest.mark.parametrize("form", ["logits", "probabilities", "logarithms"])
def test_metrics_are_those_of_torch(classes, form):
    drawn = torch.Generator().manual_seed(4)
    logits = torch.randn(200, classes, generator=drawn, dtype=torch.float64) * 3
    labels = torch.randint(0, classes, (200,), generator=drawn)
    scores = {"logits": logits, "probabilities": logits.softmax(1), "logarithms": logits.log_softmax(1)}[form]
    found = metrics_of(scores.numpy(), labels.numpy())
    assert found["cross_entropy"] == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item(), abs=1e-9)
    assert found["accuracy"] == (logits.argmax(1) == labels).double().mean().item()
    assert found["error"] == 1 - found["accuracy"]


@pytest.mark.parametrize("form", ["logits", "probabilities"])
def test_metrics_of_one_score_for_each_row_are_those_of_torch(form):
    drawn = torch.Generator().manual_seed(5)
    logits = torch.randn(200, generator=drawn, dtype=torch.float64) * 3
    labels = torch.randint(0, 2, (200,), generator=drawn)
    found = metrics_of((logits if form == "logits" else logits.sigmoid()).numpy(), labels.numpy())
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels.double()).item()
    assert found["cross_entropy"] == pytest.approx(expected, abs=1e-9)
    assert found["accuracy"] == ((logits > 0) == labels).double().mean().item()


def test_a_metric_that_is_not_finite_is_none():
    assert "cross_entropy" not in metrics_of(numpy.array([[1.0, 0.0]]), numpy.array([1]))
    assert metrics_of(numpy.array([[math.nan, 0.0]]), numpy.array([1])) == {}


@pytest.mark.parametrize(
    ("form", "scores"),
    [
        ("as it is", lambda logits: logits),
        ("softmax", lambda logits: logits.softmax(1)),
        ("log_softmax", lambda logits: logits.log_softmax(1)),
        ("sigmoid", lambda logits: logits.sigmoid()),
        ("second column", lambda logits: logits[:, 1]),
        ("softmax, second column", lambda logits: logits.softmax(1)[:, 1]),
    ],
)
def test_scores_are_found_among_the_outputs(form, scores):
    logits = torch.randn(20, 2, generator=torch.Generator().manual_seed(6))
    outputs = {"embedding": torch.randn(20, 5).numpy(), "topic": logits.numpy(), "whole": numpy.float32(3)}
    origin, found = find_origin(outputs, scores(logits).double().numpy(), **TOLERANCE)
    assert (origin.output, origin.form, found.reason) == ("topic", form, None)
    assert find_origin({"embedding": outputs["embedding"]}, logits.numpy(), **TOLERANCE) is None
    nearest, missed = find_origin(outputs, scores(logits).numpy() + 1, **TOLERANCE)
    assert nearest.output == "topic"
    assert missed.mismatched == 20


def test_why_a_row_alone_is_refused_is_one_line():
    def model(inputs):
        if len(inputs["x"]) == 1:
            raise RuntimeError("offsets must begin at 0\n[ torch.LongTensor{} ]")
        return inputs

    rows = {"x": numpy.arange(4.0).reshape(2, 2)}
    apart, reason = prove_rows_apart(model, rows, absolute=0, relative=0)
    assert (apart, reason) == (
        False,
        "row 0 alone is refused: RuntimeError: offsets must begin at 0 [ torch.LongTensor{} ]",
    )


def test_scores_that_are_rounded_otherwise_are_found_and_others_are_not():
    logits = torch.randn(300, 5, generator=torch.Generator().manual_seed(0))
    outputs = {"logits": logits.numpy()}
    half = logits.bfloat16().softmax(1).double().numpy()
    origin = find_near(outputs, half)
    assert origin is not None
    assert origin.form == "softmax"
    others = logits + 0.2 * torch.randn(300, 5, generator=torch.Generator().manual_seed(1))
    for scores in (others, others.softmax(1), torch.full((300, 5), 0.2), torch.full((300, 5), torch.nan)):
        assert find_near(outputs, scores.double().numpy()) is None
