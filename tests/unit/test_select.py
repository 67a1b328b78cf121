"""Which checkpoint becomes the model."""

import pytest
from modelway.errors import ModelwayError, NothingToSelect
from modelway.job.contract import finite_metrics
from modelway.runs.messages.checkpoints import checkpoints_from_xcom
from modelway.runs.messages.evaluation import evaluations_from_xcom
from modelway.runs.selection import select_checkpoint

NAN = float("nan")


def checkpoints(count):
    return [
        {"id": f"train-{step:06d}", "uri": "file:///c", "digest": "d", "size": 1, "stage": "train", "step": step}
        for step in range(1, count + 1)
    ]


def select_from(*, checkpoints, evaluations, **how):
    """Select as the operator does: from what XCom has, and to it."""
    return select_checkpoint(
        checkpoints=checkpoints_from_xcom(checkpoints), evaluations=evaluations_from_xcom(evaluations), **how
    ).to_xcom()


def evaluated(*losses, metric="loss"):
    """Evaluations as the operator returns them; ``None`` for one that failed."""
    return [
        {"checkpoint": f"train-{step:06d}", "metrics": finite_metrics({metric: loss})}
        for step, loss in enumerate(losses, start=1)
        if loss is not None
    ]


def select(*losses, mode="min", metric="loss"):
    return select_from(checkpoints=checkpoints(len(losses)), evaluations=evaluated(*losses), metric=metric, mode=mode)


def left_out(selected):
    return {entry["step"]: entry["left_out"] for entry in selected["evaluations"] if "left_out" in entry}


def test_the_least_value_is_selected():
    selected = select(0.5, 0.2, 0.3)
    assert selected["checkpoint"] == checkpoints(3)[1]
    assert selected["metrics"] == {"loss": 0.2}
    assert selected["rule"] == "least loss of 3 checkpoints"
    assert [entry["metrics"]["loss"] for entry in selected["evaluations"]] == [0.5, 0.2, 0.3]
    assert left_out(selected) == {}


def test_the_greatest_value_is_selected_when_asked():
    selected = select(0.5, 0.9, 0.3, mode="max")
    assert selected["checkpoint"]["step"] == 2
    assert selected["rule"] == "greatest loss of 3 checkpoints"


@pytest.mark.parametrize("mode", ["min", "max"])
def test_of_equal_values_the_earliest_checkpoint_wins(mode):
    assert select(0.5, 0.5, 0.5, mode=mode)["checkpoint"]["step"] == 1


def test_of_equal_values_the_earliest_wins_whatever_the_order_of_the_evaluations():
    evaluations = list(reversed(evaluated(0.9, 0.5, 0.5)))
    selected = select_from(checkpoints=checkpoints(3), evaluations=evaluations, metric="loss", mode="min")
    assert selected["checkpoint"]["step"] == 2


def test_minus_zero_is_no_less_than_zero():
    assert select(0.0, -0.0)["checkpoint"]["step"] == 1


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("bad", [NAN, float("inf"), float("-inf")])
def test_a_value_that_is_not_finite_is_never_selected(bad, mode):
    selected = select(bad, 0.5, bad, mode=mode)
    assert selected["checkpoint"]["step"] == 2
    assert left_out(selected) == dict.fromkeys((1, 3), "its loss is not a finite number")


def test_a_failed_evaluation_is_left_out():
    selected = select(None, 0.5, 0.4, None)
    assert selected["checkpoint"]["step"] == 3
    assert left_out(selected) == dict.fromkeys((1, 4), "its evaluation failed")
    assert selected["evaluations"][0]["metrics"] == {}


def test_none_among_the_evaluations_is_a_failed_one():
    evaluations = [None, *evaluated(None, 0.5)]
    selected = select_from(checkpoints=checkpoints(2), evaluations=evaluations, metric="loss", mode="min")
    assert selected["checkpoint"]["step"] == 2


def test_a_failed_evaluation_is_left_out_with_what_it_failed_of():
    reported = [{"checkpoint": "train-000001", "error": "ValueError: spoilt"}, *evaluated(None, 0.5)]
    selected = select_from(checkpoints=checkpoints(2), evaluations=reported, metric="loss", mode="min")
    assert left_out(selected) == {1: "its evaluation failed: ValueError: spoilt"}


def test_evaluations_of_several_jobs_are_taken_together():
    jobs = [evaluated(0.5, 0.3), None, [], evaluated(None, None, 0.4)]
    selected = select_from(checkpoints=checkpoints(4), evaluations=jobs, metric="loss", mode="min")
    assert selected["checkpoint"]["step"] == 2
    assert [entry["metrics"].get("loss") for entry in selected["evaluations"]] == [0.5, 0.3, 0.4, None]
    assert left_out(selected) == {4: "its evaluation failed"}


def test_what_a_job_returned_before_the_run_was_cleared_and_divided_anew_does_not_count():
    again, before = evaluated(0.3, 0.2), evaluated(0.9, 0.1)
    selected = select_from(
        checkpoints=checkpoints(2), evaluations=[again, before[:1], before[1:]], metric="loss", mode="min"
    )
    assert selected["metrics"] == {"loss": 0.2}
    assert [each["metrics"]["loss"] for each in selected["evaluations"]] == [0.3, 0.2]


def test_what_an_evaluation_took_is_passed_on():
    reported = [evaluated(0.5)[0] | {"seconds": 1.5, "startup_seconds": 4.0}]
    (entry,) = select_from(checkpoints=checkpoints(1), evaluations=reported, metric="loss", mode="min")["evaluations"]
    assert (entry["seconds"], entry["startup_seconds"]) == (1.5, 4.0)


def measured(*found):
    """Evaluations with several metrics each."""
    return [
        {"checkpoint": f"train-{step:06d}", "metrics": finite_metrics(metrics)}
        for step, metrics in enumerate(found, start=1)
    ]


def constrained(*found, **constraints):
    return select_from(
        checkpoints=checkpoints(len(found)),
        evaluations=measured(*found),
        metric="loss",
        mode="min",
        constraints=constraints,
    )


def test_the_best_within_the_constraints_is_selected():
    selected = constrained(
        {"loss": 0.1, "accuracy": 0.8, "latency_ms": 5},
        {"loss": 0.2, "accuracy": 0.95, "latency_ms": 30},
        {"loss": 0.4, "accuracy": 0.9, "latency_ms": 20},
        {"loss": 0.3, "accuracy": 0.9, "latency_ms": 20},
        {"loss": 0.0, "accuracy": 0.85, "latency_ms": 21},
        accuracy=">= 0.9",
        latency_ms="<= 20",
    )
    assert selected["checkpoint"]["step"] == 4
    assert selected["rule"] == "least loss of 5 checkpoints with accuracy >= 0.9, latency_ms <= 20.0"
    assert left_out(selected) == {
        1: "its accuracy is 0.8, not >= 0.9",
        2: "its latency_ms is 30, not <= 20.0",
        5: "its accuracy is 0.85, not >= 0.9 and its latency_ms is 21, not <= 20.0",
    }


def test_the_selected_metric_itself_can_be_limited():
    assert constrained({"loss": 0.1}, {"loss": 0.3}, loss="> 0.2")["checkpoint"]["step"] == 2


@pytest.mark.parametrize("bad", [NAN, float("inf"), float("-inf")])
def test_a_value_that_is_not_finite_is_within_no_constraint(bad):
    selected = constrained({"loss": 0.1, "accuracy": bad}, {"loss": 0.5, "accuracy": 0.9}, accuracy=">= 0.5")
    assert selected["checkpoint"]["step"] == 2
    assert left_out(selected) == {1: "its accuracy is not a finite number"}


def test_a_missing_metric_is_within_no_constraint():
    selected = constrained({"loss": 0.1}, {"loss": 0.5, "accuracy": 0.9}, accuracy="<= 1")
    assert left_out(selected) == {1: "evaluate returned no 'accuracy', only loss"}


def test_when_none_is_within_the_constraints_each_is_named():
    with pytest.raises(NothingToSelect) as caught:
        constrained({"loss": 0.1, "accuracy": 0.8}, {"loss": 0.2}, {"loss": NAN, "accuracy": 1}, accuracy=">= 0.9")
    assert str(caught.value).startswith(
        "no checkpoint can be selected by loss with accuracy >= 0.9: "
        "train-000001: its accuracy is 0.8, not >= 0.9; "
        "train-000002: evaluate returned no 'accuracy', only loss; "
        "train-000003: its loss is not a finite number."
    )
    assert "loosen select.constraints" in str(caught.value)


@pytest.mark.parametrize("text", ["0.9", "= 0.9", ">= high", ">= nan", "", None, 0.9])
def test_a_constraint_that_is_none_is_refused(text):
    with pytest.raises(ModelwayError, match="accuracy"):
        constrained({"loss": 0.1, "accuracy": 0.8}, accuracy=text)


def test_an_evaluation_of_an_unknown_checkpoint_is_not_selected():
    selected = select_from(checkpoints=checkpoints(1), evaluations=evaluated(0.5, 0.1), metric="loss", mode="min")
    assert selected["checkpoint"]["step"] == 1


def test_all_nan_is_refused_with_every_reason():
    with pytest.raises(NothingToSelect) as caught:
        select(NAN, NAN)
    assert str(caught.value).startswith(
        "no checkpoint can be selected by loss: train-000001: its loss is not a finite number; "
        "train-000002: its loss is not a finite number. Look for a diverging loss"
    )
    assert not caught.value.retryable


def test_a_metric_that_evaluate_does_not_return_is_refused_with_those_it_does():
    with pytest.raises(NothingToSelect, match=r"evaluate returned no 'f1', only loss.*set select\.metric"):
        select(0.5, metric="f1")


def test_every_evaluation_failed():
    with pytest.raises(NothingToSelect, match="train-000001: its evaluation failed"):
        select(None, None)


def test_there_are_no_checkpoints():
    with pytest.raises(NothingToSelect, match="by loss: there are no checkpoints"):
        select()


def test_a_mode_that_is_none_is_refused():
    with pytest.raises(NothingToSelect, match=r"'minimum' is not a mode. Known: max, min. Did you mean 'min'\?"):
        select_from(checkpoints=checkpoints(1), evaluations=evaluated(0.5), metric="loss", mode="minimum")
