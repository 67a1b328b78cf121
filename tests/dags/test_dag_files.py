"""What Airflow sees in dags/: cheap to load, one DAG per good spec, the same bytes every time."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.quick_python import COMMAND

REPOSITORY = Path(__file__).resolve().parents[2]
MODELS = sorted(path.parent.name for path in (REPOSITORY / "include" / "models").glob("*/model.yaml"))

HEAVY = ("torch", "kubernetes", "google", "docker", "sqlalchemy", "onnx", "onnxruntime", "mlflow", "numpy", "sklearn")

# Every import statement that one of our files executes, also of modules that Airflow has loaded already.
LOAD = """
import builtins, importlib, json, sys
import airflow.sdk, airflow.triggers.base
heavy, real, asked = {heavy!r}, builtins.__import__, []

def spy(name, globals=None, locals=None, fromlist=(), level=0):
    importer = (globals or {{}}).get("__file__") or ""
    if name.partition(".")[0] in heavy and {root!r} in importer and "site-packages" not in importer:
        asked.append((importer, name))
    return real(name, globals, locals, fromlist, level)

builtins.__import__ = spy
sys.path[:0] = [{plugins!r}, {dags!r}]
asked_after = {{}}
for module in ("models", "modelway.plugin", "modelway.lineage.schema.tables"):
    importlib.import_module(module)
    asked_after[module] = list(asked)
from airflow.sdk import DAG
dags = sorted(name for name, value in vars(sys.modules["models"]).items() if isinstance(value, DAG))
print(json.dumps({{"asked_after": asked_after, "dags": dags}}))
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory) -> dict:
    """What a fresh process finds that imports dags/models.py, then our plugin, then something that is heavy."""
    tmp_path = tmp_path_factory.mktemp("loaded")
    code = LOAD.format(
        heavy=HEAVY,
        root=str(REPOSITORY),
        plugins=str(REPOSITORY / "plugins"),
        dags=str(REPOSITORY / "dags"),
    )
    environment = {**os.environ, "AIRFLOW_HOME": str(tmp_path / "airflow"), "MODELWAY_HOME": str(tmp_path / "home")}
    done = subprocess.run([*COMMAND, code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_loading_imports_nothing_heavy(loaded):
    assert loaded["dags"] == MODELS
    assert loaded["asked_after"]["models"] == []


def test_the_check_of_imports_sees_one(loaded):
    assert loaded["asked_after"]["modelway.lineage.schema.tables"]


def test_loading_the_plugin_imports_nothing_heavy(loaded):
    assert loaded["asked_after"]["modelway.plugin"] == []


def bag(folder: Path, tmp_path: Path, models: Path, seed: str = "0") -> dict:
    """Load a DAGs folder the way Airflow's DAG processor does; return DAGs, serialised, and import errors."""
    code = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization
found = DagBag(dag_folder=sys.argv[1])
print(json.dumps({
    "dags": {dag_id: DagSerialization.to_dict(dag) for dag_id, dag in found.dags.items()},
    "errors": found.import_errors,
}, sort_keys=True, default=str))
"""
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(REPOSITORY / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "MODELWAY_MODELS": str(models),
        # Each process builds the DAGs itself.
        "MODELWAY_HOME": str(tmp_path / f"home-{seed}"),
        "PYTHONHASHSEED": seed,
    }
    done = subprocess.run([*COMMAND, code, str(folder)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The repository's models and one broken beside them."""
    folder = tmp_path_factory.mktemp("specs") / "models"
    shutil.copytree(REPOSITORY / "include" / "models", folder, ignore=shutil.ignore_patterns("__pycache__"))
    broken = folder / "broken"
    shutil.copytree(folder / MODELS[0], broken)
    (broken / "model.yaml").write_text("model: broken\ntrian: {}\n")
    return folder


@pytest.fixture(scope="module")
def homes(tmp_path_factory):
    """Where the homes of ``found`` are: Airflow's is written into each DAG."""
    return tmp_path_factory.mktemp("found")


@pytest.fixture(scope="module")
def found(homes, models):
    """What one process found in dags/."""
    return bag(REPOSITORY / "dags", homes, models, seed="1")


def test_a_broken_spec_takes_down_no_other_dag_and_is_reported(found):
    assert sorted(found["dags"]) == MODELS
    ((file, text),) = found["errors"].items()
    assert file.endswith("model_specs.py")
    assert "broken/model.yaml:2:1  trian" in text
    assert "Did you mean 'train'?" in text


def test_a_model_that_airflow_refuses_is_an_import_error_beside_the_other_dags(tmp_path, models):
    files = tmp_path / "dags"
    files.mkdir()
    (files / "models.py").write_text(
        "from airflow.sdk import DAG\n"
        "from modelway.dag.refused import refused_models\n"
        "good = DAG(dag_id='good', schedule=None)\n"
        "refused = refused_models({'bad': ValueError('Airflow knows better')})\n"
    )
    found = bag(files, tmp_path, models)
    assert list(found["dags"]) == ["good"]
    (text,) = found["errors"].values()
    assert "the model bad: ValueError: Airflow knows better, so it has no DAG" in text


def test_an_environment_of_no_model_stops_all_of_them_and_is_reported(tmp_path, models, monkeypatch):
    monkeypatch.setenv("MODELWAY_ENV", "prd")
    found = bag(REPOSITORY / "dags", tmp_path, models)
    assert found["dags"] == {}
    (text,) = [text for file, text in found["errors"].items() if file.endswith("/models.py")]
    assert "'prd' is an environment of no model here" in text


def test_two_processes_serialise_the_same(homes, models, found):
    second = bag(REPOSITORY / "dags", homes, models, seed="2")
    assert found["dags"] == second["dags"]


def test_the_graph_of_digits(found):
    dag = found["dags"]["digits"]["dag"]
    downstream = {
        task["__var"]["task_id"]: sorted(task["__var"].get("downstream_task_ids", [])) for task in dag["tasks"]
    }
    assert downstream == {
        "package": ["plan"],
        "plan": [
            *("evaluate.checkpoint", "evaluate.divide", "freeze.freeze", "freeze.register"),
            *("train.finetune", "train.warmup"),
        ],
        "train.warmup": ["freeze.freeze", "freeze.register", "train.finetune"],
        "train.finetune": ["evaluate.divide", "evaluate.select", "freeze.freeze", "freeze.register"],
        "evaluate.divide": ["evaluate.checkpoint"],
        "evaluate.checkpoint": ["evaluate.select"],
        "evaluate.select": ["freeze.freeze", "freeze.register", "freeze.verify"],
        "freeze.freeze": ["freeze.register", "freeze.verify"],
        "freeze.verify": ["freeze.register"],
        "freeze.register": ["serve.build_image", "serve.deploy", "serve.promote"],
        "serve.build_image": ["serve.deploy"],
        "serve.deploy": ["serve.promote"],
        "serve.promote": [],
    }
    assert dag["max_active_runs"] == 1
    assert "modelway" in dag["tags"]


def test_the_demo_tells_of_every_task(found):
    from modelway.cli.output.progress import task_order
    from modelway.spec.load import load_spec

    dag = found["dags"]["digits"]["dag"]
    order = task_order(load_spec(REPOSITORY / "include" / "models" / "digits"))
    assert sorted(order) == sorted(task["__var"]["task_id"] for task in dag["tasks"])


def test_the_package_brings_the_same_dag_files():
    from modelway.localairflow.dag_files import dag_files

    assert dag_files() == {
        name: (REPOSITORY / "dags" / name).read_text() for name in ("models.py", "model_specs.py", "monitor.py")
    }


def test_dag_files_stay_small():
    sizes = {path.name: len(path.read_text().splitlines()) for path in (REPOSITORY / "dags").glob("*.py")}
    assert sizes["models.py"] <= 20
    assert sizes["model_specs.py"] <= 10


def test_the_plugin_loader_runs_one_file(tmp_path):
    code = (
        "import sys\n"
        "from airflow.plugins_manager import _get_plugins\n"
        "plugins, errors = _get_plugins()[:2]\n"
        "ours = [plugin.name for plugin in plugins if plugin.name == 'modelway']\n"
        "print(ours, errors, 'backends' in sys.modules, 'local' in sys.modules)"
    )
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(REPOSITORY / "plugins"),
    }
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.splitlines()[-1:] == ["['modelway'] {} False False"], done.stdout + done.stderr
