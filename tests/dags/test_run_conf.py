"""``modelway run``: on the command line, the fields of the form, and what a schedule would give the run."""

import pytest
from modelway.cli.run import run_conf, set_by_schedule
from modelway.errors import ModelwayError
from modelway.spec.model import ModelSpec

SPEC = ModelSpec.model_validate({"model": "m", "params": {"epochs": {"default": 3, "minimum": 1}, "fast": True}})


def test_values_are_those_of_the_form():
    given = ["epochs=5", "fast=false", "reason=a=b", "skip=[train]", "seed=7", "version=champion", "base=3"]
    assert run_conf(SPEC, given) == {
        "epochs": 5,
        "fast": False,
        "reason": "a=b",
        "skip": ["train"],
        "seed": 7,
        "version": "champion",
        "base": "3",
    }
    assert run_conf(SPEC, []) == {}


@pytest.mark.parametrize(
    ("given", "reported"),
    [
        ("epochs", "'epochs' is not a value of a field. Write --set NAME=VALUE"),
        ("epoch=5", "the run has no field 'epoch'. Known: base, epochs, fast,.*Did you mean 'epochs'"),
        ("epochs=0", "'0' does not fit the field 'epochs': .*0 is less than the minimum of 1"),
        ("epochs=many", "'many' does not fit the field 'epochs'"),
        ("skip=[", r"'\[' does not fit the field 'skip'"),
        ("skip=[warmup]", "does not fit the field 'skip'"),
    ],
)
def test_what_is_no_value_of_the_form_is_refused(given, reported):
    with pytest.raises(ModelwayError, match=reported):
        run_conf(SPEC, [given])


DAILY = ModelSpec.model_validate({"model": "m", "schedule": {"cron": "@daily"}})
FIFTH = ["2026-01-05T00:00:00+00:00", "2026-01-06T00:00:00+00:00"]


def test_a_run_started_then_has_the_last_interval_of_then():
    found = set_by_schedule(DAILY, run_after="2026-01-06T08:00+02:00")
    assert found == {"run_after": "2026-01-06T08:00:00+02:00", "interval": FIFTH, "partition": None}
    # A day without a time means its last moment: the interval that ends with it is not over.
    assert set_by_schedule(DAILY, run_after="2026-01-06")["interval"] == FIFTH
    assert set_by_schedule(SPEC, run_after="2026-01-06")["interval"] is None


@pytest.mark.parametrize("spec", [SPEC, DAILY])
def test_an_interval_is_taken_as_it_is_given_with_or_without_a_schedule(spec):
    found = set_by_schedule(spec, interval=("2026-01-05", "2026-01-05T12:30"), partition="north")
    begin, end = "2026-01-05T00:00:00+00:00", "2026-01-05T12:30:00+00:00"
    assert found == {"run_after": None, "interval": [begin, end], "partition": "north"}


@pytest.mark.parametrize(
    ("given", "reported"),
    [
        ({"interval": ("2026-01-06", "2026-01-05")}, "its start 2026-01-06 is not before its end 2026-01-05"),
        ({"interval": ("2026-01-05", "2026-01-05")}, "is not before its end"),
        ({"interval": ("soon", "2026-01-05")}, "'soon' is not a time"),
        ({"run_after": "soon"}, "'soon' is not a time"),
    ],
)
def test_times_that_are_none_are_refused(given, reported):
    with pytest.raises(ModelwayError, match=reported):
        set_by_schedule(SPEC, **given)
