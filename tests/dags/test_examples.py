"""dags/examples: each builds, serialises and imports nothing heavy; they are there where they are asked for."""

import ast
import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.quick_python import COMMAND

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((REPOSITORY / "dags" / "examples").glob("*.py"))
PATTERNS = {
    "example-approval",
    "example-custom-operator",
    "example-deploy-only",
    "example-evaluate-only",
    "example-mapped-training",
    "example-sensor",
    "example-task-functions",
    "example-two-models",
}
HEAVY = ("torch", "kubernetes", "google", "docker", "sqlalchemy", "onnx", "onnxruntime", "mlflow", "numpy", "sklearn")

# As Airflow's DAG processor loads a folder; every import of something heavy that one of our files asks for is reported.
BAG = """
import builtins, json, sys, warnings
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization
import airflow.providers.standard.sensors.python, airflow.providers.standard.operators.hitl
heavy, real, asked = {heavy!r}, builtins.__import__, []

def spy(name, globals=None, locals=None, fromlist=(), level=0):
    importer = (globals or {{}}).get("__file__") or ""
    if name.partition(".")[0] in heavy and {root!r} in importer and "site-packages" not in importer:
        asked.append((importer, name))
    return real(name, globals, locals, fromlist, level)

builtins.__import__ = spy
with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    found = DagBag(dag_folder={folder!r})
print(json.dumps({{
    "dags": {{dag_id: DagSerialization.to_dict(dag) for dag_id, dag in found.dags.items()}},
    "errors": found.import_errors,
    "asked": asked,
    "warned": [
        str(each.message) for each in warned if {root!r} in each.filename and "site-packages" not in each.filename
    ],
}}, sort_keys=True, default=str))
"""


def bag(folder: Path, home: Path, *, seed: str = "0", **environment: str) -> dict:
    code = BAG.format(heavy=HEAVY, root=str(REPOSITORY), folder=str(folder))
    given = {
        **{name: value for name, value in os.environ.items() if name != "MODELWAY_EXAMPLES"},
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(REPOSITORY / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "MODELWAY_MODELS": str(home / "no models"),
        "PYTHONHASHSEED": seed,
        **environment,
    }
    (home / "no models").mkdir(exist_ok=True)
    done = subprocess.run([*COMMAND, code], capture_output=True, text=True, env=given)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("examples")


@pytest.fixture(scope="module")
def enabled(home):
    return bag(REPOSITORY / "dags", home, MODELWAY_EXAMPLES="1")


def test_every_pattern_is_there_when_asked_for_and_serialises(enabled):
    assert enabled["errors"] == {}
    assert set(enabled["dags"]) == PATTERNS
    assert len(EXAMPLES) == len(PATTERNS), "one file for each pattern"


def test_loading_imports_nothing_heavy_and_nothing_deprecated(enabled):
    assert enabled["asked"] == []
    assert enabled["warned"] == []


@pytest.mark.parametrize("value", [None, "0"])
def test_they_are_hidden_unless_asked_for(home, value):
    asked = {} if value is None else {"MODELWAY_EXAMPLES": value}
    found = bag(REPOSITORY / "dags", home, **asked)
    assert (found["dags"], found["errors"]) == ({}, {})


def test_a_task_that_starts_loads_its_own_example_alone(home):
    context = {"_AIRFLOW_PARSING_CONTEXT_DAG_ID": "example-two-models", "_AIRFLOW_PARSING_CONTEXT_TASK_ID": "compare"}
    found = bag(REPOSITORY / "dags", home, MODELWAY_EXAMPLES="1", **context)
    assert set(found["dags"]) == {"example-two-models"}


def test_two_processes_serialise_the_same(home, enabled):
    assert bag(REPOSITORY / "dags", home, seed="1", MODELWAY_EXAMPLES="1")["dags"] == enabled["dags"]


def test_each_file_is_a_dag_file_by_itself_to_be_copied(home, enabled):
    alone = bag(REPOSITORY / "dags" / "examples", home)
    assert alone["errors"] == {}
    assert set(alone["dags"]) == PATTERNS


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_says_what_it_shows(path, enabled):
    text = path.read_text()
    assert len(text.splitlines()) < 60
    reported = ast.get_docstring(ast.parse(text), clean=False)
    assert reported
    dag = enabled["dags"][f"example-{path.stem.replace('_', '-')}"]["dag"]
    assert dag["doc_md"] == reported
    assert {"modelway", "example"} <= set(dag["tags"])
    assert "modelway.operators._" not in text, "authors need nothing private"
