"""Whatever one model's files hold, the other models load and lint says in a line what is wrong with this one."""

import os
from pathlib import Path
from typing import Any

import pytest
from modelway.cli import main
from modelway.dag import build, load_dags
from modelway.errors import InvalidSpec
from modelway.spec import load as loading
from modelway.spec.load import load_specs
from spec_samples import GOOD_CODE, write_model

ELIF = "if a:\n    pass\n" + "elif a:\n    pass\n" * 900
PYTHON = {
    "nested too deep for the parser": "x = " + "-" * 100_000 + "1\n",
    "nested too deep for the tree": "x = a" + ".a" * 100_000 + "\n",
    "a default nested deep": "def train(job, a=1" + "+1" * 900 + ", *, b): ...\n",
    "many parameters": "def train(" + ", ".join(f"a{number}" for number in range(20_000)) + "): ...\n",
    "NUL": "x = 1\0\n",
    "unknown encoding": "# -*- coding: nonsense -*-\n",
    "a codec that is none of text": "# coding: hex\n41\n",
    "a number": "x = " + "9" * 100_000 + "\n",
}


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be found that another test stored of models with the same files."""
    monkeypatch.setenv("MODELWAY_HOME", str(tmp_path_factory.mktemp("home")))


def models_with(tmp_path: Path, code: str) -> Path:
    write_model(tmp_path, "good")
    write_model(tmp_path, "bad", code=code)
    return tmp_path


@pytest.mark.parametrize("code", PYTHON.values(), ids=PYTHON.keys())
def test_python_of_any_kind_is_its_models_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], code: str
) -> None:
    models = models_with(tmp_path, code)
    assert list(load_specs(models).specs) == ["good"]
    assert list(load_dags(models)) == ["good"]
    assert main(["lint", str(models)]) == 1
    _, *lines = capsys.readouterr().out.splitlines()
    assert all("bad/bad.py" in line and len(line) < 500 for line in lines), lines


def test_a_long_chain_of_elif_is_read(tmp_path: Path) -> None:
    assert list(load_specs(models_with(tmp_path, f"{ELIF}{GOOD_CODE}")).specs) == ["bad", "good"]


@pytest.mark.parametrize(
    "error", [RecursionError("too deep"), MemoryError(), KeyError("x"), UnicodeError("y"), OSError(5)]
)
def test_an_error_that_nobody_thought_of_stays_with_its_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    check = loading.check_spec

    def fails(root: Any, *, file: Path, **given: Any) -> Any:
        if file.parent.name == "bad":
            raise error
        return check(root, file=file, **given)

    monkeypatch.setattr(loading, "check_spec", fails)
    models = models_with(tmp_path, GOOD_CODE)
    assert list(load_dags(models)) == ["good"]
    assert main(["lint", str(models)]) == 1
    counted, line = capsys.readouterr().out.splitlines()
    assert counted == "1 problem in 1 model spec"
    assert f"bad/model.yaml  the spec or the Python beside it cannot be checked ({type(error).__name__}: " in line


def test_a_model_that_airflow_refuses_takes_no_other_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = build.build_dag

    def refuses(spec: Any) -> Any:
        if spec.model == "bad":
            raise ValueError("Airflow knows better")
        return made(spec)

    monkeypatch.setattr(build, "build_dag", refuses)
    dags = load_dags(models_with(tmp_path, GOOD_CODE))
    assert list(dags) == ["good", "Refused"]
    assert "the model bad has no DAG: Airflow knows better" in caplog.text
    with pytest.raises(InvalidSpec, match="the model bad: ValueError: Airflow knows better, so it has no DAG"):
        dags["Refused"].validate()


@pytest.mark.parametrize("name", ["model.yaml", "bad.py"])
def test_a_link_out_of_the_models_shows_nothing_of_its_target(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    models = models_with(tmp_path / "models", GOOD_CODE)
    (tmp_path / "secret").write_text("my_password: (abc\n")
    (models / "bad" / name).unlink()
    (models / "bad" / name).symlink_to(tmp_path / "secret")
    assert list(load_specs(models).specs) == ["good"]
    assert main(["lint", str(models)]) == 1
    printed = capsys.readouterr().out
    assert f"bad/{name}  this is a link that leads out of the folder of the models." in printed
    assert "password" not in printed


def test_a_pipe_in_place_of_the_python_is_not_waited_for(tmp_path: Path) -> None:
    models = models_with(tmp_path, GOOD_CODE)
    (models / "bad" / "bad.py").unlink()
    os.mkfifo(models / "bad" / "bad.py")
    loaded = load_specs(models)
    assert (list(loaded.specs), [one.what for one in loaded.problems]) == (["good"], ["this is not a regular file"])
