"""Errors as a user meets them: what, where, what is known, what to do."""

import inspect

import pytest
from modelway import errors
from modelway.errors import CapabilityMissing, JobLost, ModelwayError, SubmitFailed
from modelway.failures import FailureKind

CLASSES = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, ModelwayError) and kind is not SubmitFailed
]
RETRYABLE = {
    "DatasetUnavailable",
    "ExporterUnavailable",
    "JobLost",
    "RegistryError",
    "LineageUnavailable",
    "EndpointNotReady",
    "RolloutChanged",
}


def test_a_message_says_everything_in_order():
    error = CapabilityMissing(
        "'kubernets' is not a backend",
        where="include/models/mnist/model.yaml:14:3",
        known=("docker", "kubernetes", "local"),
        given="kubernets",
        do="Choose one of them",
    )
    assert str(error) == (
        "include/models/mnist/model.yaml:14:3: 'kubernets' is not a backend. Known: docker, kubernetes, local. "
        "Did you mean 'kubernetes'? Choose one of them."
    )
    assert (error.what, error.where, error.do) == (
        "'kubernets' is not a backend",
        "include/models/mnist/model.yaml:14:3",
        "Choose one of them",
    )


def test_the_parts_that_are_not_given_leave_no_trace():
    assert str(ModelwayError("it is broken")) == "it is broken."
    assert str(ModelwayError("it is broken", do="Mend it.")) == "it is broken. Mend it."


def test_nothing_known_is_said_and_nothing_far_is_suggested():
    assert str(ModelwayError("no such model", known=(), given="x")) == "no such model. Known: none."
    assert "Did you mean" not in str(ModelwayError("no", known=["local"], given="spark"))


def test_what_is_known_may_be_any_iterable():
    assert str(ModelwayError("no", known=(word for word in "ab"))) == "no. Known: a, b."


@pytest.mark.parametrize("kind", CLASSES)
def test_whether_a_retry_helps_is_a_property_of_the_class(kind):
    assert kind.retryable is (kind.__name__ in RETRYABLE)
    assert kind("it failed").retryable is kind.retryable
    assert kind.__doc__


@pytest.mark.parametrize("kind", FailureKind)
def test_whether_another_submit_helps_is_said_by_the_kind_of_failure(kind):
    assert SubmitFailed("no", kind=kind).retryable is (kind.rule != "fail")


def test_errors_are_distinguished_by_class():
    with pytest.raises(JobLost) as caught:
        raise JobLost("gone")
    assert isinstance(caught.value, ModelwayError)
    assert not isinstance(caught.value, CapabilityMissing)
