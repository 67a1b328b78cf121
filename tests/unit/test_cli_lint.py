import argparse
from pathlib import Path

import pytest
from modelway.cli import lint
from spec_samples import write_model


def run(*arguments: str | Path) -> int:
    parser = argparse.ArgumentParser()
    lint.add_commands(parser.add_subparsers(required=True))
    args = parser.parse_args(["lint", *map(str, arguments)])
    status: int = args.run(args)
    return status


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.setenv("MODELWAY_MODELS", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


def test_good_specs_are_counted(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_model(models, "one")
    assert run() == 0
    assert capsys.readouterr().out == "1 model spec, no problems\n"
    for name in ("two", "three"):
        write_model(models, name)
    assert run() == 0
    assert capsys.readouterr().out == "3 model specs, no problems\n"


def test_problems_are_printed_with_their_place(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_model(models, "good")
    write_model(models, "one", spec="model: one\ntrain:\n  backend: lokal\n")
    write_model(models, "two", spec="model: two\nrollout: {steps: [100, 10]}\n")
    assert run() == 1
    header, first, second = capsys.readouterr().out.splitlines()
    assert header == "2 problems in 2 model specs"
    assert first.startswith("models/one/model.yaml:3:12  train.backend: 'lokal' is not a backend. Known: ")
    assert first.endswith(" Did you mean 'local'?")
    assert second.startswith("models/two/model.yaml:2:18  rollout.steps: weights must rise to 100, got [100, 10].")


@pytest.mark.parametrize("path", ["models", "models/bad", "models/bad/model.yaml"])
def test_a_path_names_a_folder_of_models_a_model_or_its_file(
    path: str, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model(models, "bad", spec="model: bad\nowner: ''\n")
    assert run(path) == 1
    assert "models/bad/model.yaml:2:8  owner: must not be empty.\n" in capsys.readouterr().out


def test_only_what_is_named_is_checked(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, other = write_model(models, "good"), write_model(models, "other")
    write_model(models, "bad", spec="nonsense")
    assert run(good, other / "model.yaml", good) == 0
    assert capsys.readouterr().out == "2 model specs, no problems\n"


def test_a_path_that_does_not_exist_is_wrong_usage(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_model(models, "digits")
    assert run("models/digts") == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "modelway lint: models/digts does not exist. Did you mean 'models/digits'?\n"


def test_a_file_that_is_no_spec_is_wrong_usage(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_model(models, "digits")
    assert run(folder / "digits.py") == 2
    assert "is not a model.yaml" in capsys.readouterr().err


def test_a_model_folder_without_a_spec_is_told(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_model(models, "digits")
    (folder / "model.yaml").rename(folder / "model.yml")
    assert run("models") == 1
    assert "models/digits/model.yml  this file is not read. Rename it to model.yaml.\n" in capsys.readouterr().out
