"""`modelway new`: what it writes works as it is, and nothing that is there is touched."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from modelway.cli import main
from modelway.spec.load import load_spec, load_specs

REPOSITORY = Path(__file__).resolve().parents[2]
MODELWAY = Path(sys.executable).parent / "modelway"


@pytest.fixture
def models(tmp_path, monkeypatch):
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.setenv("MODELWAY_MODELS", str(folder))
    return folder


def tree(folder):
    """Return everything below a folder with its content."""
    return {str(path.relative_to(folder)): path.is_file() and path.read_bytes() for path in folder.rglob("*")}


def test_the_new_model_is_linted_by_the_command_that_is_printed(models, tmp_path):
    """The one to run it is tried in tests/system/test_installed.py."""
    environment = {**os.environ, "PATH": f"{MODELWAY.parent}:{os.environ['PATH']}"}

    def shell(command):
        return subprocess.run(
            command, shell=True, env=environment, cwd=tmp_path, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )

    made = shell("modelway new two-rings")
    assert made.returncode == 0, made.stderr
    assert "wrote models/two-rings/model.yaml\nwrote models/two-rings/two_rings.py\n" in made.stdout
    commands = [line.strip() for line in made.stdout.splitlines() if line.startswith("  ")]
    assert commands == ["modelway lint models/two-rings", "modelway run two-rings"]
    assert shell(commands[0]).stdout == "1 model spec, no problems\n"


def test_it_is_short_and_in_the_house_style(models):
    schema = REPOSITORY / "include" / "models" / "schema.json"
    shutil.copy(schema, models / "schema.json")
    assert main(["new", "rings"]) == 0
    spec = (models / "rings" / "model.yaml").read_text()
    assert len(spec.splitlines()) <= 12
    assert spec.splitlines()[0] == "# yaml-language-server: $schema=../schema.json"
    jsonschema.validate(yaml.safe_load(spec), json.loads(schema.read_text()))
    code = models / "rings" / "rings.py"
    assert len(code.read_text().splitlines()) <= 60
    for words in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *words, "--line-length", "120", "--isolated", code],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout


def test_editors_are_reported_of_a_schema_only_where_one_is(models):
    assert main(["new", "rings"]) == 0
    assert (models / "rings" / "model.yaml").read_text().startswith("model: rings\n")


# Names that YAML takes for something else than text: a number, a truth value, a date, a day that does not exist.
@pytest.mark.parametrize("name", ["rings", "a", "a" * 40, "two-rings", "3d", "123", "1e3", "on", "null", "2001-01-99"])
def test_every_usable_name_gives_a_good_spec(models, name):
    assert main(["new", name]) == 0
    spec = load_spec(models / name)
    assert spec.model == name
    assert (models / name / spec.code).is_file()


@pytest.mark.parametrize("name", ["json", "torch", "numpy", "yaml", "modelway"])
def test_the_file_of_a_name_that_would_hide_a_module_is_called_otherwise(models, name, capsys):
    assert main(["new", name]) == 0
    assert load_spec(models / name).code == f"{name}_model.py"
    assert set(os.listdir(models / name)) == {"model.yaml", f"{name}_model.py"}
    assert f"{name}.py would hide another module" in (models / name / "model.yaml").read_text()
    assert len((models / name / "model.yaml").read_text().splitlines()) <= 11
    assert f"{name}_model.py" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("My_Model", "my-model"),
        ("a" * 41, "a" * 40),
        ("-x-", "x"),
        ("é", None),
        ("", None),
        ("../up", "up"),
        ("a/b", "a-b"),
        ("a\n", "a"),
        (".", None),
    ],
)
def test_other_names_are_refused_with_the_rule(models, name, near, capsys):
    assert main(["new", "--", name]) == 1
    printed = capsys.readouterr().err
    assert "cannot be a model's name" in printed
    assert "Use lower-case letters, digits and '-' inside, at most 40 characters" in printed
    assert ("such as" in printed) == (near is not None)
    assert near is None or f"such as '{near}'" in printed
    assert os.listdir(models) == []


@pytest.mark.parametrize("there", ["whole", "only a spec", "empty", "file", "dangling link"])
def test_whatever_is_there_stays_as_it_is(models, there, capsys):
    place = models / "rings"
    if there == "file":
        place.write_text("mine")
    elif there == "dangling link":
        place.symlink_to(models / "nowhere")
    else:
        place.mkdir()
        for name in {"whole": ("model.yaml", "rings.py"), "only a spec": ("model.yaml",)}.get(there, ()):
            (place / name).write_text("mine")
    before = tree(models)
    assert main(["new", "rings"]) == 1
    printed = capsys.readouterr().err
    assert f"{place}: there is something of this name already, and nothing is overwritten" in printed
    assert tree(models) == before
    assert not (models / "nowhere").exists()


def test_another_folder_is_named_in_the_next_commands(models, tmp_path, capsys):
    other = tmp_path / "my models"
    other.mkdir()
    assert main(["new", "rings", "--folder", str(other)]) == 0
    assert load_specs(other).specs.keys() == {"rings"}
    out = capsys.readouterr().out
    assert f"modelway lint '{other}/rings'" in out
    assert f"MODELWAY_MODELS='{other}' modelway run rings" in out
    assert os.listdir(models) == []


def test_a_folder_that_is_missing_is_refused(models, tmp_path, capsys):
    missing = tmp_path / "no" / "such"
    assert main(["new", "rings", "--folder", str(missing)]) == 1
    assert f"{missing}: this is not a folder for models. Make it with: mkdir -p {missing}." in capsys.readouterr().err
    assert not missing.parent.exists()


def test_a_folder_that_cannot_be_written_is_reported(capsys):
    # Permissions do not stop root; /proc stops everyone.
    assert main(["new", "rings", "--folder", "/proc/self"]) == 1
    printed = capsys.readouterr().err
    assert "the folder cannot be written (" in printed
    assert "--folder" in printed


def test_a_full_disk_leaves_nothing_behind(models, monkeypatch, capsys):
    def full(self, *args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    assert main(["new", "rings"]) == 1
    assert f"{models}: no space left on the device. Free some" in capsys.readouterr().err
    assert os.listdir(models) == []
