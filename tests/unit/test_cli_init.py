"""``modelway init``: whose folders it writes into, and that it overwrites nothing."""

from pathlib import Path

import pytest
from modelway.cli import main
from modelway.localairflow import dag_files as _dag_files


@pytest.fixture(autouse=True)
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("AIRFLOW__CORE__DAGS_FOLDER", "AIRFLOW_CONFIG", "AIRFLOW__MODELWAY__MODELS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "airflow"))
    monkeypatch.setenv("MODELWAY_MODELS", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def clone(deployment: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = deployment / "clone"
    (folder / "dags").mkdir(parents=True)
    for name in _dag_files.dag_files():
        (folder / "dags" / name).write_text("# the clone's own")
    monkeypatch.setattr(_dag_files, "beside_plugins", lambda: folder)
    return folder


def test_in_a_clone_the_dag_files_are_its_own(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init"]) == 0
    assert "left clone/dags/models.py as it is: it has another content than ours" in capsys.readouterr().out
    assert (clone / "dags" / "models.py").read_text() == "# the clone's own"


@pytest.mark.usefixtures("clone")
def test_a_folder_that_airflow_names_goes_before_that_of_a_clone(
    deployment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", str(deployment / "own" / "dags"))
    assert main(["init"]) == 0
    made = {
        path.relative_to(deployment).as_posix()
        for place in ("own", "models")
        for path in (deployment / place).rglob("*.*")
    }
    assert made == {
        "own/dags/models.py",
        "own/dags/model_specs.py",
        "own/dags/monitor.py",
        "models/schema.json",
        "models/circles/model.yaml",
        "models/circles/circles.py",
    }
