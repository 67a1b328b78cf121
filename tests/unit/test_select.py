"""Which checkpoint becomes the model."""

import pytest
from modelway.errors import NothingToSelect
from modelway.job.contract import finite_metrics
from modelway.operators.select import select_checkpoint

NAN = float("nan")


def checkpoints(count):
    return [{"id": f"train-{step:06d}", "stage": "train", "step": step, "digest": "d"} for step in range(1, count + 1)]


def evaluated(*losses, metric="loss"):
    """Evaluations as the operator returns them; ``None`` for one that failed."""
    return [
        {"checkpoint": f"train-{step:06d}", "metrics": finite_metrics({metric: loss})}
        for step, loss in enumerate(losses, start=1)
        if loss is not None
    ]


def select(*losses, mode="min", metric="loss"):
    return select_checkpoint(
        checkpoints=checkpoints(len(losses)), evaluations=evaluated(*losses), metric=metric, mode=mode
    )


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
    selected = select_checkpoint(checkpoints=checkpoints(3), evaluations=evaluations, metric="loss", mode="min")
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
    selected = select_checkpoint(checkpoints=checkpoints(2), evaluations=evaluations, metric="loss", mode="min")
    assert selected["checkpoint"]["step"] == 2


def test_an_evaluation_of_an_unknown_checkpoint_is_not_selected():
    selected = select_checkpoint(checkpoints=checkpoints(1), evaluations=evaluated(0.5, 0.1), metric="loss", mode="min")
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
        select_checkpoint(checkpoints=checkpoints(1), evaluations=evaluated(0.5), metric="loss", mode="minimum")
