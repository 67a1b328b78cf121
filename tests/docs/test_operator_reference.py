"""docs/operators.md says what the operators are: their names, parameters, defaults, and examples that build."""

import inspect
import re
import textwrap
from pathlib import Path

import pytest

from tests.dags.test_operators import OPERATORS, parameters

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "operators.md").read_text()
SECTIONS = dict(re.findall(r"^## (\w+Operator)\n(.*?)(?=^## |\Z)", TEXT, flags=re.MULTILINE | re.DOTALL))
CODE = re.findall(r"^```python\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)
EXAMPLES = ROOT / "dags" / "examples"

by_name = pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.__name__)


def rows(operator):
    """Return the table of an operator's section: parameter → type, default, meaning."""
    found = re.findall(r"^\| `(\w+)` \|(.*?)\|(.*?)\|(.*)\|$", SECTIONS[operator.__name__], flags=re.MULTILINE)
    return {name: (kind.strip(), default.strip().strip("`"), meaning.strip()) for name, kind, default, meaning in found}


def test_every_operator_has_a_section_and_nothing_else_has():
    assert set(SECTIONS) == {operator.__name__ for operator in OPERATORS}


@by_name
def test_the_table_has_the_parameters_with_their_defaults(operator):
    own = parameters(operator)
    reported = rows(operator)
    assert set(reported) == set(own)
    for name, parameter in own.items():
        kind, default, meaning = reported[name]
        required = parameter.default is inspect.Parameter.empty
        assert default == ("" if required else repr(parameter.default).replace("'", '"')), name
        assert meaning, name
        assert kind == kind_of(parameter.annotation), name


def kind_of(annotation):
    """Return a type as the page writes it."""
    text = inspect.formatannotation(annotation)
    words = {"Any": "any", "Mapping": "mapping", "Sequence": "list"}
    text = re.sub(r"(?:\w+\.)*(\w+)", r"\1", text).replace(" | ", " or ")
    text = re.sub(r"Mapping\[[^|]*\](?= or|$)", "Mapping", text)
    return re.sub(r"\w+", lambda word: words.get(word[0], word[0]), text).replace("[", " of ").replace("]", "")


@by_name
def test_the_section_says_what_is_returned_and_shows_how_it_is_called(operator):
    section = SECTIONS[operator.__name__]
    assert re.search(r"^Returns ", section, flags=re.MULTILINE)
    assert f"{operator.__name__}" in "".join(re.findall(r"^```python\n(.*?)^```", section, flags=re.M | re.S))


@by_name
def test_what_is_returned_is_what_the_class_says(operator):
    reported = re.search(
        r"^Returns .*?`(\{.*?\}|\[.*?\])`", SECTIONS[operator.__name__], flags=re.MULTILINE | re.DOTALL
    )
    if reported is None:
        # Another section's shape, or the input with one key more.
        assert operator.__name__ in ("FindVersionOperator", "PlanRunOperator")
        return
    said = re.search(r"Returns .*", inspect.getdoc(operator), flags=re.DOTALL)[0]
    assert " ".join(reported[1].split()) in " ".join(said.split())


def test_the_examples_in_their_order_are_one_dag_file(monkeypatch):
    monkeypatch.setenv("MODELWAY_MODELS", str(ROOT / "include" / "models"))
    first, *others = CODE
    assert first.endswith("    ...  # everything below\n")
    source = first + textwrap.indent("".join(others), "    ")
    names = {"__name__": "by_hand"}
    exec(compile(source, "docs/operators.md", "exec"), names)
    dag = names["code"].operator.dag
    assert {type(task).__name__ for task in dag.tasks} | {"EvaluateCheckpointOperator"} >= set(SECTIONS)
    assert dag.get_task("promote").upstream_task_ids == {"register", "deploy"}


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_every_example_dag_is_linked(path):
    assert f"(../dags/examples/{path.name})" in TEXT


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!https?:|#)([^)#]+)", TEXT))))
def test_links_lead_somewhere(link):
    assert (ROOT / "docs" / link).exists()
