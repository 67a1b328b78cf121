import argparse
import json
import os
from pathlib import Path

import pytest
from modelway.cli import lint
from modelway.ports import known
from spec_samples import write_model

ROOT = Path(__file__).parents[2]


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


def test_the_name_of_a_model_is_answered_with_its_folder(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model(models, "digits")
    monkeypatch.setenv("MODELWAY_MODELS", str(models))
    assert run("digits") == 2
    assert capsys.readouterr().err == "modelway lint: digits does not exist. Did you mean 'models/digits'?\n"


def test_without_a_folder_of_models_it_says_how_to_make_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODELWAY_MODELS", str(tmp_path / "none"))
    assert run() == 2
    assert "none does not exist. Make it with modelway init, or set MODELWAY_MODELS" in capsys.readouterr().err


def test_a_file_that_is_no_spec_is_wrong_usage(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_model(models, "digits")
    assert run(folder / "digits.py") == 2
    assert "is not a model.yaml" in capsys.readouterr().err


def test_a_model_folder_without_a_spec_is_reported(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_model(models, "digits")
    (folder / "model.yaml").rename(folder / "model.yml")
    assert run("models") == 1
    reported = "models/digits/model.yml  this file is not read. Rename it to model.yaml.\n"
    assert reported in capsys.readouterr().out
    assert run("models/digits") == 1
    assert reported in capsys.readouterr().out


BAD = "model: one\ntrain:\n  backend: lokal\nowner: ''\n"


def test_problems_are_printed_as_json(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_model(models, "one", spec=BAD)
    assert run("--format", "json") == 1
    first, second = json.loads(capsys.readouterr().out)
    assert first == {
        "file": "models/one/model.yaml",
        "line": 3,
        "column": 12,
        "where": "train.backend",
        "what": "'lokal' is not a backend",
        "known": list(known("backends")),
        "suggestion": "local",
        "do": None,
        "severity": "error",
    }
    assert (second["where"], second["known"]) == ("owner", None)


def test_no_problems_are_an_empty_list(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_model(models, "one")
    assert run("--format", "json") == 0
    assert json.loads(capsys.readouterr().out) == []


def test_problems_are_printed_as_annotations(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_model(models, "a,b%", spec="model: [")
    write_model(models, "one", spec=BAD)
    assert run("--format", "github") == 1
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.startswith("::error file=models/a%2Cb%25/model.yaml,line=2,col=1,title=model spec::not valid YAML: ")
    assert second.startswith(
        "::error file=models/one/model.yaml,line=3,col=12,title=train.backend::train.backend: 'lokal'"
    )
    assert third == "::error file=models/one/model.yaml,line=4,col=8,title=owner::owner: must not be empty."


def test_each_environment_is_checked_unless_one_is_named(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_model(models, "one", spec="model: one\nenvironments:\n  dev: {retries: 1}\n  prod: {retries: many}\n")
    assert run() == 1
    assert "one/model.yaml:4:19  environments.prod.retries: expected a whole number" in capsys.readouterr().out
    assert run("--env", "dev") == 0
    assert run("--env", "prod") == 1


def test_an_environment_of_no_model_is_a_problem(
    models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(models, "one", spec="model: one\nenvironments: {prod: {retries: 1}}\n")
    other = write_model(models, "two")
    assert run("--env", "prod", other) == 0
    assert run("--env", "prd", other) == 1
    assert "'prd' is an environment of no model here. Known: prod. Did you mean 'prod'?" in capsys.readouterr().out
    monkeypatch.setenv("MODELWAY_ENV", "prd")
    assert run() == 1


@pytest.mark.parametrize("name", [b"\xff\xfe", b"new\nline", b"bell\x07", "\u2028".encode()])
def test_a_folder_of_any_name_is_printed_on_one_line(
    name: bytes, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = os.fsencode(models) + b"/" + name
    os.mkdir(folder)
    with open(folder + b"/model.yaml", "w") as file:
        file.write("model: one\n")
    for form in ("text", "json", "github"):
        assert run("--format", form) == 1
        printed = capsys.readouterr().out
        printed.encode()
        assert "\x07" not in printed
        if form == "github":
            assert all(line.startswith("::error ") for line in printed.splitlines())


@pytest.mark.parametrize("kind", ["pipe", "socketless", "dangling"])
def test_a_path_of_no_use_is_wrong_usage(kind: str, models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = models / "thing"
    {"pipe": lambda: os.mkfifo(path), "socketless": path.touch, "dangling": lambda: path.symlink_to("gone")}[kind]()
    assert run(path) == 2
    assert capsys.readouterr().err.startswith("modelway lint: ")


def test_an_unknown_format_is_wrong_usage(models: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        run("--format", "xml")
    assert caught.value.code == 2
