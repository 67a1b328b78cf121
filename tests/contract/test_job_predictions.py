"""Charts of a classification against scikit-learn, of lists and of arrays, and what is refused."""

import math
import random
import sys

import numpy
import pytest
import torch
from modelway.job import Job
from modelway.job.contract import read_events
from modelway.job.figures.charts import MOST_POINTS
from modelway.job.figures.predictions import prediction_figures
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score, roc_curve

from tests.job_folders import write_job


@pytest.fixture(params=["lists", "arrays"])
def drawn(request):
    """Draw labels and scores that a test gives as lists."""
    as_given = list if request.param == "lists" else numpy.array
    return lambda *, scores, **given: draw(scores=as_given(scores), **given)


def draw(**given):
    figures, notes = prediction_figures(**given)
    return {name: data for name, _, data in figures}, notes


def samples(rows: int, classes: int, *, seed: int = 0, ties: bool = False):
    chance = numpy.random.default_rng(seed)
    labels = chance.integers(0, classes, rows)
    logits = chance.normal(size=(rows, classes)) + 1.5 * numpy.eye(classes)[labels]
    return labels, numpy.round(logits, 0 if ties else 8)


def softmax(logits):
    powers = numpy.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


@pytest.mark.parametrize("ties", [False, True])
def test_several_classes_are_as_scikit_learn_counts_them(drawn, ties):
    labels, logits = samples(400, 4, ties=ties)
    likely = softmax(logits)
    expected = [
        (roc_auc_score(labels == each, likely[:, each]), average_precision_score(labels == each, likely[:, each]))
        for each in range(4)
    ]
    counts = confusion_matrix(labels, logits.argmax(1)).tolist()
    found, notes = drawn(labels=labels.tolist(), scores=logits.tolist(), classes=["a", "b/c", "🙂", "d"])
    assert notes == []
    assert [curve["area"] for curve in found["roc"]["curves"]] == pytest.approx([e[0] for e in expected], rel=1e-5)
    assert [curve["area"] for curve in found["pr"]["curves"]] == pytest.approx([e[1] for e in expected], rel=1e-5)
    assert found["roc"]["area"] == pytest.approx(sum(e[0] for e in expected) / 4, rel=1e-5)
    assert found["confusion"]["values"] == counts
    assert found["confusion"]["rows"] == ["a", "b/c", "🙂", "d"]


@pytest.mark.parametrize("ties", [False, True])
def test_two_classes_with_one_score_are_as_scikit_learn_counts_them(drawn, ties):
    labels, logits = samples(500, 2, seed=3, ties=ties)
    scores = logits[:, 1] - logits[:, 0]
    false, true, _ = roc_curve(labels, scores, drop_intermediate=False)
    share, mean = calibration_curve(labels, 1 / (1 + numpy.exp(-scores)), n_bins=15)
    found, _ = drawn(labels=labels.tolist(), scores=scores.tolist())
    (curve,) = found["roc"]["curves"]
    assert (curve["name"], curve["area"]) == ("1", pytest.approx(roc_auc_score(labels, scores), rel=1e-5))
    points = set(zip(false.round(9), true.round(9), strict=True))
    assert {(round(x, 9), round(y, 9)) for x, y in zip(curve["x"], curve["y"], strict=True)} <= points
    assert found["pr"]["curves"][0]["area"] == pytest.approx(average_precision_score(labels, scores), rel=1e-5)
    assert found["calibration"]["curves"][0]["x"] == pytest.approx(mean)
    assert found["calibration"]["curves"][0]["y"] == pytest.approx(share)
    counts = numpy.array(found["calibration"]["curves"][0]["count"])
    error = (abs(mean - share) * counts).sum() / counts.sum()
    assert found["calibration"]["error"] == pytest.approx(error, rel=1e-5)


def test_probabilities_and_their_logits_give_the_same(drawn):
    labels, logits = samples(50, 3)
    both = [drawn(labels=labels.tolist(), scores=each.tolist())[0] for each in (logits, softmax(logits))]
    assert both[0]["roc"] == both[1]["roc"]
    assert both[0]["calibration"]["error"] == pytest.approx(both[1]["calibration"]["error"])


def test_curves_are_thinned_and_keep_their_ends(drawn):
    labels, logits = samples(5000, 2)
    found, _ = drawn(labels=labels.tolist(), scores=logits.tolist())
    for curve in found["roc"]["curves"]:
        assert MOST_POINTS / 2 < len(curve["x"]) <= MOST_POINTS
        assert (curve["x"][0], curve["y"][0], curve["x"][-1], curve["y"][-1]) == (0, 0, 1, 1)
        assert max(b - a for a, b in zip(curve["x"], curve["x"][1:], strict=False)) < 0.02


def test_a_class_without_rows_has_no_curves_and_is_named(drawn):
    labels, logits = samples(60, 2)
    wide = numpy.hstack([logits, numpy.full((60, 1), -5.0)])
    found, _ = drawn(labels=labels.tolist(), scores=wide.tolist())
    assert [curve["name"] for curve in found["roc"]["curves"]] == ["0", "1"]
    assert (found["roc"]["undefined"], found["pr"]["undefined"]) == (["2"], ["2"])


def test_rows_of_one_class_alone_have_no_roc(drawn):
    found, notes = drawn(labels=[1, 1, 1], scores=[0.2, 0.9, 0.8])
    assert "roc" not in found
    assert found["pr"]["curves"][0]["area"] == 1.0
    assert notes == ["there is no ROC curve: no class has both rows of its own and rows of others"]


def test_scores_that_are_not_finite_are_left_out_and_reported(drawn):
    labels, logits = samples(40, 3)
    spoilt = numpy.vstack([logits, [[math.nan, 0, 0], [math.inf, 0, 0]]])
    found, notes = drawn(labels=[*labels.tolist(), 0, 1], scores=spoilt.tolist())
    assert notes == ["2 of 42 rows have a score that is not finite and are left out of the charts"]
    assert found == drawn(labels=labels.tolist(), scores=logits.tolist())[0]
    found, notes = drawn(labels=[0, 1], scores=[math.nan, math.nan])
    assert (found, len(notes)) == ({}, 1)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_tensors_are_taken_as_they_are(kind):
    labels, logits = samples(30, 3, ties=True)
    tensor = torch.tensor(logits, dtype=kind, requires_grad=True)
    found, _ = draw(labels=torch.tensor(labels)[:, None], scores=tensor)
    assert found == draw(labels=labels, scores=logits)[0]


def test_labels_may_be_names_or_whole_floats(drawn):
    by_name, _ = drawn(labels=["no", "yes", "yes"], scores=[0.1, 0.9, 0.4], classes=["no", "yes"])
    by_number, _ = drawn(labels=[0.0, 1.0, True], scores=[0.1, 0.9, 0.4], classes=["no", "yes"])
    assert by_name == by_number
    assert by_name["confusion"]["values"] == [[1, 0], [1, 1]]


def test_very_many_classes_are_drawn_in_part(drawn):
    labels, logits = samples(600, 60)
    found, _ = drawn(labels=labels.tolist(), scores=logits.tolist())
    assert len(found["roc"]["curves"]) == 20
    assert found["roc"]["classes_left_out"] == 40
    assert len(found["confusion"]["rows"]) == 50
    assert found["confusion"]["rows"][-1] == "(others)"
    assert sum(map(sum, found["confusion"]["values"])) == 600


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"labels": [0.37, 1.2], "scores": [0.3, 1.1]}, "the label 0.37 is not a class.*Of a regression"),
        ({"labels": [math.nan], "scores": [0.3]}, "the label nan is not a class"),
        ({"labels": [2], "scores": [0.3]}, "the label 2 is not one of the 2 classes"),
        ({"labels": [-1], "scores": [[0.3, 0.7]]}, "the label -1 is not one of the 2 classes"),
        ({"labels": [0, 1], "scores": [0.3]}, "there are 2 labels and 1 rows"),
        ({"labels": [0], "scores": [[0.3, 0.7]], "classes": ["a"]}, "scores of 2 classes, and classes has 1"),
        ({"labels": ["no"], "scores": [0.3]}, "the label 'no' is not a class"),
        ({"labels": [0, 1], "scores": ["high", "low"]}, "job.predictions: could not convert"),
        ({"labels": [0, 1], "scores": [[0.1, 0.9], [0.1]]}, "job.predictions: "),
    ],
)
@pytest.mark.parametrize("as_given", [list, tuple])
def test_what_is_no_classification_is_refused(given, said, as_given):
    with pytest.raises(ValueError, match=said):
        prediction_figures(**{**given, "scores": as_given(given["scores"])})


def test_lists_and_arrays_are_counted_the_same():
    labels, logits = samples(3000, 5, ties=True)
    assert draw(labels=labels.tolist(), scores=logits.tolist()) == draw(labels=labels, scores=logits)


def test_an_image_without_numpy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(ValueError, match=r"numpy is needed to count predictions: add it to the job's image"):
        prediction_figures(labels=[0, 1], scores=[0.1, 0.9])


def test_a_million_rows_are_drawn(drawn):
    chance = random.Random(1)
    scores = [chance.random() for _ in range(1_000_000)]
    labels = [int(score > chance.random()) for score in scores]
    found, _ = drawn(labels=labels, scores=scores)
    assert found["calibration"]["error"] < 0.01
    assert len(found["roc"]["curves"][0]["x"]) == MOST_POINTS


def test_charts_become_events_of_the_checkpoint_that_is_evaluated(tmp_path):
    job = Job(write_job(tmp_path, action="evaluate"))
    job.evaluating = "checkpoint.0002.train-000002"
    job.predictions(labels=[0, 1, 1, 0], scores=[0.1, 0.9, math.nan, 0.2], name="test")
    events = read_events(tmp_path)
    charts = ["roc", "pr", "confusion", "calibration"]
    assert [(e["kind"], e.get("name"), e.get("chart")) for e in events[:4]] == [
        ("figure", f"test {chart}", chart) for chart in charts
    ]
    assert {event["input"] for event in events} == {"checkpoint.0002.train-000002"}
    assert events[4]["text"].startswith("1 of 4 rows")
