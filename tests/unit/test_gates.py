"""What keeps a model from being registered, and how a step of a rollout counts requests."""

import pytest
from modelway.endpoints.judge.observation import Observation
from modelway.errors import VerificationFailed
from modelway.runs.gates import check_gates


@pytest.mark.parametrize(
    ("comparison", "value", "passes"),
    [
        (">=", 0.9, True),
        (">=", 0.89, False),
        (">", 0.9, False),
        (">", 0.91, True),
        ("<=", 0.9, True),
        ("<=", 0.91, False),
        ("<", 0.9, False),
        ("<", 0.89, True),
    ],
)
def test_a_gate_compares_with_its_limit(comparison, value, passes):
    gates = {"accuracy": [comparison, 0.9]}
    if passes:
        check_gates(gates=gates, metrics={"accuracy": value})
    else:
        with pytest.raises(VerificationFailed, match=f"accuracy is {value}, must be {comparison} 0.9"):
            check_gates(gates=gates, metrics={"accuracy": value})


def test_a_metric_without_a_finite_value_misses_its_gate():
    with pytest.raises(VerificationFailed, match="accuracy has no finite value, must be >= 0.9"):
        check_gates(gates={"accuracy": [">=", 0.9]}, metrics={"accuracy": None})


@pytest.mark.parametrize(
    ("metrics", "reported"),
    [
        ({}, "evaluate returned no 'accuracy', only nothing"),
        ({"loss": 0.1, "acuracy": 0.9}, "evaluate returned no 'accuracy', only loss, acuracy, did you mean 'acuracy'"),
    ],
)
def test_a_metric_that_evaluate_does_not_return_is_reported_with_those_it_does(metrics, reported):
    with pytest.raises(VerificationFailed, match=reported):
        check_gates(gates={"accuracy": [">=", 0.9]}, metrics=metrics)


@pytest.mark.parametrize("comparison", [">=", ">", "<=", "<"])
def test_nan_misses_every_gate(comparison):
    with pytest.raises(VerificationFailed, match="loss is nan"):
        check_gates(gates={"loss": [comparison, 0]}, metrics={"loss": float("nan")})


def test_every_missed_gate_is_named():
    gates = {"accuracy": [">=", 0.9], "loss": ["<", 1], "f1": [">", 0.5]}
    with pytest.raises(VerificationFailed) as caught:
        check_gates(gates=gates, metrics={"accuracy": 0.5, "loss": 0.1})
    assert str(caught.value) == (
        "the model misses 2 of 3 gates: accuracy is 0.5, must be >= 0.9; "
        "evaluate returned no 'f1', only accuracy, loss. "
        "Set verify.gates to metrics that evaluate returns and to what the model must reach, or train otherwise."
    )
    assert not caught.value.retryable


def test_without_gates_every_model_passes():
    check_gates(gates={}, metrics={})


def counts(requests, errors, since=0.0):
    return Observation(requests=requests, errors=errors, since=since)


def test_what_was_counted_since_is_the_difference():
    assert counts(150, 5).since_then(counts(100, 2)) == counts(50, 3)


def test_a_version_that_is_new_is_counted_from_nothing():
    assert counts(7, 1).since_then(Observation()) == counts(7, 1)


@pytest.mark.parametrize("now", [counts(10, 0), counts(150, 1), counts(0, 0)])
def test_an_interval_in_which_counting_began_anew_counts_nothing(now):
    assert now.since_then(counts(100, 2)) == counts(0, 0)


@pytest.mark.parametrize(("now", "before"), [(counts(3, 1), counts(4, 0)), (counts(5, 5), counts(5, 5))])
def test_nothing_is_ever_negative(now, before):
    found = now.since_then(before)
    assert min(found.requests, found.errors) >= 0


def test_counts_that_began_anew_and_are_higher_already_are_a_new_base():
    """A gateway that was started again during a busy step."""
    assert counts(20, 6, since=200.0).since_then(counts(10, 5, since=100.0)) == counts(0, 0, since=200.0)
    assert counts(20, 6, since=100.0).since_then(counts(10, 5, since=100.0)) == counts(10, 1, since=100.0)
