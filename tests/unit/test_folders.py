"""Models, home and DAG files are found by the environment, by Airflow's configuration, or by how this was installed."""

from pathlib import Path

import pytest
from modelway import folders

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def airflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An Airflow's home of its own."""
    for name in ("MODELWAY_MODELS", "MODELWAY_HOME", "AIRFLOW_CONFIG", "AIRFLOW__CORE__DAGS_FOLDER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "airflow"))
    (tmp_path / "airflow").mkdir()
    return tmp_path / "airflow"


def test_a_clone_has_everything_beside_its_plugins() -> None:
    assert folders.models_folder() == ROOT / "include" / "models"
    assert folders.home_folder() == ROOT / ".modelway"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "__file__", "/x/lib/python3.11/site-packages/modelway/folders.py")


@pytest.mark.usefixtures("installed")
def test_a_package_looks_where_airflow_does_and_never_beside_itself(airflow: Path) -> None:
    assert folders.dags_folder() == airflow / "dags"
    assert folders.models_folder() == airflow / "include" / "models"
    assert folders.home_folder() == airflow / "modelway"


@pytest.mark.usefixtures("installed")
def test_models_lie_beside_the_dags_that_airflow_is_reported(airflow: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (airflow / "airflow.cfg").write_text("[core]\ndags_folder = $AIRFLOW_HOME/../srv/100%/dags\n")
    assert folders.models_folder().resolve() == airflow.parent / "srv" / "100%" / "include" / "models"
    monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", "/opt/here/dags")
    assert folders.models_folder() == Path("/opt/here/include/models")


def test_the_environment_goes_before_airflows_configuration(airflow: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (airflow / "airflow.cfg").write_text("[modelway]\nmodels = /of/the/file\nhome = ~/modelway\n")
    assert folders.models_folder() == Path("/of/the/file")
    assert folders.home_folder() == Path.home() / "modelway"
    monkeypatch.setenv("AIRFLOW__MODELWAY__MODELS", "/of/airflow")
    assert folders.models_folder() == Path("/of/airflow")
    monkeypatch.setenv("MODELWAY_MODELS", "/of/modelway")
    monkeypatch.setenv("MODELWAY_HOME", "/of/home")
    assert (folders.models_folder(), folders.home_folder()) == (Path("/of/modelway"), Path("/of/home"))


@pytest.mark.parametrize("text", ["no section\n", "[core\n", "\xff"])
def test_a_configuration_that_cannot_be_read_is_airflows_affair(airflow: Path, text: str) -> None:
    (airflow / "airflow.cfg").write_bytes(text.encode("latin-1"))
    assert folders.models_folder() == ROOT / "include" / "models"
