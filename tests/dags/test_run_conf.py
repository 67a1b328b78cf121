"""``modelway run --set``: the fields of the form, on the command line."""

import pytest
from modelway.cli.run import run_conf
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
    ("given", "told"),
    [
        ("epochs", "'epochs' is no value of a field. Write --set NAME=VALUE"),
        ("epoch=5", "the run has no field 'epoch'. Known: base, epochs, fast,.*Did you mean 'epochs'"),
        ("epochs=0", "'0' does not fit the field 'epochs': .*0 is less than the minimum of 1"),
        ("epochs=many", "'many' does not fit the field 'epochs'"),
        ("skip=[", r"'\[' does not fit the field 'skip'"),
        ("skip=[warmup]", "does not fit the field 'skip'"),
    ],
)
def test_what_is_no_value_of_the_form_is_refused(given, told):
    with pytest.raises(ModelwayError, match=told):
        run_conf(SPEC, [given])
