"""A DAG has a new version only when its spec or the library changed: Airflow compares hashes of what it serialised."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.quick_python import COMMAND

REPOSITORY = Path(__file__).resolve().parents[2]
MODELS = [REPOSITORY / "include" / "models" / "digits", *(REPOSITORY / "tests" / "system" / "authoring").iterdir()]

HASHES = """
import json, sys
from pathlib import Path
sys.path[:0] = [{plugins!r}]
from airflow.models.serialized_dag import SerializedDagModel
from airflow.serialization.serialized_objects import DagSerialization
from modelway.dag import load_dags
print(json.dumps({{
    name: [SerializedDagModel.hash(DagSerialization.to_dict(dag)), json.dumps(DagSerialization.to_dict(dag))]
    for name, dag in load_dags(Path(sys.argv[1])).items()
}}))
"""


def hashes(models: Path, *, seed: str = "0") -> dict[str, list[str]]:
    """Return each DAG's hash and serialised text as another process makes them."""
    code = HASHES.format(plugins=str(REPOSITORY / "plugins"))
    # Airflow puts its own dags_folder into every DAG.
    environment = {**os.environ, "AIRFLOW__CORE__DAGS_FOLDER": "/dags", "PYTHONHASHSEED": seed}
    environment["AIRFLOW_HOME"] = str(models.parent / "airflow")
    # Each process builds the DAGs itself.
    environment["MODELWAY_HOME"] = str(models.parent / "home")
    environment["MODELWAY_NOTIFIERS"] = "tests.dags.sample_notifiers.*, no.such.module.*"
    done = subprocess.run(
        [*COMMAND, code, str(models)], capture_output=True, text=True, env=environment, cwd=models.parent
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return found


def copied(to: Path) -> Path:
    for model in MODELS:
        shutil.copytree(model, to / model.name, ignore=shutil.ignore_patterns("__pycache__"))
    return to


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    folder = copied(tmp_path_factory.mktemp("first") / "models")
    return folder, hashes(folder, seed="1")


def test_another_process_and_another_place_give_the_same_hash(before, tmp_path):
    found = hashes(copied(tmp_path / "elsewhere" / "models"), seed="2")
    assert {name: one[0] for name, one in found.items()} == {name: one[0] for name, one in before[1].items()}
    assert len(found) == len(MODELS)


def test_no_place_is_serialised(before):
    folder, found = before
    for name, (_, text) in found.items():
        assert str(folder) not in text, name


def test_a_changed_spec_changes_its_own_dag_alone(before, tmp_path):
    folder = copied(tmp_path / "models")
    spec = folder / "tuned" / "model.yaml"
    spec.write_text(spec.read_text().replace("maximum: 9", "maximum: 8"))
    # What is not in the spec is in the code package, not in the DAG.
    (folder / "nightly" / "nightly.py").write_text(
        "def train(job): ...\ndef evaluate(job, checkpoint): ...\ndef export(job, checkpoint): ...\n"
    )
    (folder / "digits" / "notes.txt").write_text("new")
    found = hashes(folder)
    assert [name for name, one in found.items() if one[0] != before[1][name][0]] == ["tuned"]
