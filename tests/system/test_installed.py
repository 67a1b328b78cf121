"""The three ways of the README to have modelway: a clone, the wheel, copied folders; each beside an Airflow."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]
REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = Path(sysconfig.get_path("purelib"))

#: what Airflow finds, as its DAG processor and its API server do
FIND = """
import json
from airflow import plugins_manager
from airflow.dag_processing.dagbag import DagBag
bag = DagBag()
plugins, _ = plugins_manager._get_plugins()
errors = plugins_manager.get_import_errors()
from modelway.folders import home_folder, models_folder
import modelway
ours = [str(plugin.source) for plugin in plugins if plugin.name == "modelway"]
print(json.dumps({
    "library": modelway.__file__, "home": str(home_folder()), "models": str(models_folder()), "plugins": ours,
    "dags": sorted(bag.dags), "errors": [*bag.import_errors.values(), *errors.values()],
}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    place = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place)]
    subprocess.run(build, cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL)
    return next(place.glob("*.whl"))


def environment_without_modelway(folder):
    """Make a virtual environment with the packages of this one, but modelway, and return its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    packages = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    for entry in PACKAGES.iterdir():
        if "modelway" not in entry.name and entry.suffix != ".pth":
            (packages / entry.name).symlink_to(entry)
    return folder / "bin" / "python"


def install(python, *words):
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", *words],
        check=True,
    )


class Deployment:
    """An Airflow's home with its own folders, and a Python that has modelway in one of the ways."""

    def __init__(self, airflow, python):
        self.airflow, self.python = airflow, python
        airflow.mkdir(exist_ok=True)
        own = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "MODELWAY_"))}
        own |= {"AIRFLOW_HOME": str(airflow), "AIRFLOW__CORE__LOAD_EXAMPLES": "False", "COLUMNS": "200"}
        own |= {"PATH": f"{python.parent}{os.pathsep}{own['PATH']}"}
        own.pop("PYTHONPATH", None)
        self.environment = own

    def run(self, command, **more):
        return subprocess.run(
            command,
            shell=True,
            env={**self.environment, **more},
            cwd=self.airflow,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

    def find(self, **more):
        done = subprocess.run(
            [self.python, "-c", FIND],
            env={**self.environment, **more},
            cwd=self.airflow,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-5000:]
        return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def deployment(tmp_path_factory, wheel):
    """The wheel in the environment of an Airflow, whose folders are still empty."""
    place = tmp_path_factory.mktemp("deployment")
    python = environment_without_modelway(place / "venv")
    install(python, str(wheel))
    return Deployment(place / "airflow", python)


def test_the_wheel_has_every_file_of_the_package(wheel):
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "plugins/modelway"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    packed = set(zipfile.ZipFile(wheel).namelist())
    there = {name.removeprefix("plugins/") for name in tracked if (REPOSITORY / name).exists()}
    assert there <= packed
    assert {name for name in packed if ".dist-info/" not in name} == there


def test_the_wheel_in_an_airflow_that_is_there(deployment):
    """Init, lint and a run to a version that serves, with the commands that init prints."""
    made = deployment.run("modelway init")
    assert made.returncode == 0, made.stderr
    commands = [line.strip() for line in made.stdout.splitlines() if line.startswith("  ")]
    assert commands == ["modelway lint include/models", "modelway run circles"]
    assert deployment.run(commands[0]).stdout == "1 model spec, no problems\n"
    found = deployment.find()
    assert str(deployment.python.parents[1]) in found["library"]
    assert found["home"] == str(deployment.airflow / "modelway")
    assert found["dags"] == ["circles"]
    assert found["errors"] == []
    assert [source.split(":")[0] for source in found["plugins"]] == ["modelway==0.1.0"]
    home = deployment.airflow / "modelway"
    try:
        ran = deployment.run(commands[1])
        assert ran.returncode == 0, ran.stdout[-5000:] + ran.stderr[-5000:]
        assert "circles version 1" in ran.stdout
        assert "version 1 100 %" in ran.stdout
        assert len(ran.stdout.splitlines()) < 50, "Airflow's log stays in its file"
        assert '"number": 1' in deployment.run("modelway versions circles --json").stdout
    finally:
        from modelway.endpoints.base import load_endpoint

        load_endpoint("local", root=home / "endpoints").delete("circles")


def test_init_overwrites_nothing_and_takes_other_folders(deployment, tmp_path):
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "models.py").write_text("# mine\n")
    made = deployment.run(f"modelway init rings --dags {tmp_path}/dags --models {tmp_path}/ours")
    assert made.returncode == 0, made.stderr
    assert "models.py as it is: it has another content than ours" in made.stdout
    assert (tmp_path / "dags" / "models.py").read_text() == "# mine\n"
    assert f"MODELWAY_MODELS={tmp_path}/ours" in made.stdout
    again = deployment.run(f"modelway init rings --dags {tmp_path}/dags --models {tmp_path}/ours")
    assert again.returncode == 1
    assert "nothing is overwritten" in again.stderr
    (tmp_path / "dags" / "models.py").unlink()
    deployment.run(f"modelway init --dags {tmp_path}/dags --models {tmp_path}/ours")
    folders = {"AIRFLOW__CORE__DAGS_FOLDER": f"{tmp_path}/dags", "AIRFLOW__MODELWAY__MODELS": f"{tmp_path}/ours"}
    assert deployment.find(**folders)["dags"] == ["rings"]


def test_the_demo_without_its_model_says_what_to_run(deployment):
    refused = deployment.run("modelway demo")
    assert refused.returncode == 1
    assert "modelway run MODEL" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.fixture
def clone(tmp_path):
    """The files that git would give, as they are now."""
    names = ("plugins", "dags", "include", "pyproject.toml", "README.md", "LICENSE")
    for name in names:
        source, target = REPOSITORY / name, tmp_path / "clone" / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    return tmp_path / "clone"


def test_a_clone(clone, tmp_path):
    python = environment_without_modelway(tmp_path / "venv")
    install(python, "--no-build-isolation", "--editable", str(clone))
    deployment = Deployment(tmp_path / "airflow", python)
    assert deployment.run("modelway lint").stdout == "1 model spec, no problems\n"
    folders = {"AIRFLOW__CORE__DAGS_FOLDER": f"{clone}/dags", "AIRFLOW__CORE__PLUGINS_FOLDER": f"{clone}/plugins"}
    found = deployment.find(**folders)
    assert found["models"] == str(clone / "include" / "models")
    assert found["home"] == str(clone / ".modelway")
    assert found["dags"] == ["digits"]
    assert len(found["plugins"]) == 1
    assert found["errors"] == [], "one plugin, though both the folder and the entry point have it"


def test_copied_folders(clone, tmp_path):
    deployment = Deployment(tmp_path / "airflow", environment_without_modelway(tmp_path / "venv"))
    for name in ("plugins", "dags", "include"):
        shutil.move(clone / name, deployment.airflow / name)
    found = deployment.find()
    assert found["library"] == str(deployment.airflow / "plugins" / "modelway" / "__init__.py")
    assert found["dags"] == ["digits"]
    assert len(found["plugins"]) == 1
    assert "modelway_plugin.py" in found["plugins"][0]
    assert found["errors"] == []
