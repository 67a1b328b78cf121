"""What every operator promises an author: few keyword-only parameters, templated, documented."""

import importlib
import inspect
import pkgutil

import modelway.operators
import pytest
from airflow.sdk import BaseOperator
from modelway.operators._base import JobOperator, ModelwayOperator

OPERATORS = sorted(
    {
        value
        for module in pkgutil.iter_modules(modelway.operators.__path__)
        if not module.name.startswith("_")
        for value in vars(importlib.import_module(f"modelway.operators.{module.name}")).values()
        if inspect.isclass(value)
        and issubclass(value, ModelwayOperator)
        and value not in (ModelwayOperator, JobOperator)
    },
    key=lambda operator: operator.__name__,
)


def parameters(operator: type[BaseOperator]) -> dict[str, inspect.Parameter]:
    """Return an operator's own parameters, those of JobOperator included where it is one."""
    classes = [operator, JobOperator] if issubclass(operator, JobOperator) else [operator]
    own: dict[str, inspect.Parameter] = {}
    for each in classes:
        signature = inspect.signature(inspect.unwrap(each.__init__))
        own |= {
            name: parameter
            for name, parameter in signature.parameters.items()
            if name != "self" and parameter.kind is not inspect.Parameter.VAR_KEYWORD
        }
    return own


def test_all_operators_are_found():
    assert len(OPERATORS) == 10


@pytest.mark.parametrize("operator", OPERATORS)
def test_parameters_are_few_keyword_only_templated_and_documented(operator):
    own = parameters(operator)
    assert 1 <= len(own) <= 8
    documented = inspect.getdoc(operator)
    for name, parameter in own.items():
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY, name
        assert f":param {name}:" in documented, name
        if name != "stage":
            assert name in operator.template_fields, name
    assert "Returns " in documented
