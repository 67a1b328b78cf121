"""Shared defaults below a spec, environments above it, and where the problems of each are found."""

from pathlib import Path

import pytest
from modelway.errors import InvalidSpec
from modelway.spec.load import load_files, load_spec, load_specs
from modelway.spec.problems import Problem
from spec_samples import DEFAULTS, RICH, write_model


def linted(*folders: Path) -> tuple[Problem, ...]:
    files = [folder / "model.yaml" for folder in folders]
    return load_files(files, environment="", every_environment=True).problems


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    (tmp_path / "defaults.yaml").write_text(DEFAULTS)
    return write_model(tmp_path, "digits", spec=RICH)


def test_mappings_are_merged_and_the_rest_is_replaced(digits: Path) -> None:
    spec = load_spec(digits)
    assert (spec.owner, spec.retries, spec.train.timeout_seconds) == ("vision-team", 5, 7200)
    assert (spec.rollout.steps, spec.rollout.interval_seconds) == ((50, 100), 60)
    assert spec.params["epochs"].default == 4
    assert spec.params["shared"].default == "text"
    assert spec.train.params == {"depth": 3}  # width: null took the inherited one away
    assert spec.environment is None


def test_an_environment_lies_over_everything(digits: Path) -> None:
    prod = load_spec(digits, environment="prod")
    assert (prod.environment, prod.retries, prod.train.seed) == ("prod", 9, 3)
    assert (prod.train.timeout_seconds, prod.train.resources.cpu) == (None, 4)
    assert prod.rollout.steps == (1, 10, 100)
    dev = load_spec(digits, environment="dev")
    assert (dev.schedule, dev.deadline_seconds, dev.notifications.on_failure) == (None, None, ())
    assert (dev.datasets["images"].uri, dev.datasets["labels"].version) == ("/data/images", None)
    assert (dev.params["epochs"].default, dev.params["epochs"].minimum) == (1, None)


def test_an_environment_without_values_changes_nothing(digits: Path) -> None:
    staging, plain = load_spec(digits, environment="staging"), load_spec(digits)
    assert (staging.environment, plain.environment) == ("staging", None)
    assert staging.digest == plain.digest


def test_the_environment_is_chosen_by_a_variable(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELWAY_ENV", "prod")
    assert load_spec(digits).retries == 9
    assert load_specs(digits.parent).specs["digits"].retries == 9
    assert load_spec(digits, environment="").retries == 5
    assert load_spec(digits, environment="dev").environment == "dev"


def test_a_model_without_the_environment_keeps_its_own_values(digits: Path) -> None:
    write_model(digits.parent, "other")
    loaded = load_specs(digits.parent, environment="prod")
    assert not loaded.problems
    assert (loaded.specs["other"].environment, loaded.specs["digits"].environment) == (None, "prod")


def test_an_environment_of_no_model_is_a_problem_and_stops_none(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELWAY_ENV", "prud")
    loaded = load_specs(digits.parent)
    assert [one.message for one in loaded.problems] == [
        "'prud' is an environment of no model here. Known: dev, prod, staging. Did you mean 'prod'?"
        " Unset MODELWAY_ENV, or write it under environments of a model."
    ]
    assert loaded.specs["digits"].environment is None


def test_what_no_file_can_tell_is_not_called_unknown(digits: Path) -> None:
    (digits / "model.yaml").write_text("model: [")
    problems = load_specs(digits.parent, environment="prod").problems
    assert [one.file for one in problems] == [digits / "model.yaml"]


def test_what_is_wrong_with_shared_values_is_said_once_and_at_its_place(tmp_path: Path) -> None:
    (tmp_path / "defaults.yaml").write_text("owner: 3\n")
    folders = [write_model(tmp_path, name, spec=f"model: {name}\nextends: ../defaults.yaml\n") for name in "abc"]
    (problem,) = linted(*folders)
    assert (problem.file, problem.line, problem.column) == (tmp_path / "defaults.yaml", 1, 8)
    folders.append(write_model(tmp_path, "d", spec="model: d\nextends: ../defaults.yaml\nowner: me\n"))
    assert list(load_files([folder / "model.yaml" for folder in folders]).specs) == ["d"]


def test_defaults_that_cannot_be_read_as_yaml_are_said_once(tmp_path: Path) -> None:
    (tmp_path / "defaults.yaml").write_text("retries: [\n")
    folders = [write_model(tmp_path, name, spec=f"model: {name}\nextends: ../defaults.yaml\n") for name in "ab"]
    (problem,) = linted(*folders)
    assert problem.file == tmp_path / "defaults.yaml"


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "dangling", "latin-1", "large"])
def test_defaults_that_cannot_be_read_are_a_problem_of_each_that_extends_them(kind: str, tmp_path: Path) -> None:
    import os

    file = tmp_path / "defaults.yaml"
    make = {
        "missing": lambda: None,
        "folder": file.mkdir,
        "pipe": lambda: os.mkfifo(file),
        "dangling": lambda: file.symlink_to("gone"),
        "latin-1": lambda: file.write_bytes(b"owner: caf\xe9\n"),
        "large": lambda: file.write_bytes(b"#" * 10_000_000),
    }
    make[kind]()
    folder = write_model(tmp_path, "m", spec="model: m\nextends: ../defaults.yaml\n")
    (problem,) = linted(folder)
    assert problem.where == ("" if kind == "latin-1" else "extends")
    assert problem.file == (file if kind == "latin-1" else folder / "model.yaml")


def test_a_chain_of_defaults_ends_in_the_nearest_value(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "team.yaml").write_text("extends: ../company.yaml\nowner: team\n")
    (tmp_path / "company.yaml").write_text("owner: company\nretries: 7\nmodel: ignored\n")
    folder = write_model(tmp_path, "m", spec="extends: ../shared/team.yaml\nmodel: m\n")
    spec = load_spec(folder)
    assert (spec.owner, spec.retries) == ("team", 7)
    sources = load_files([folder / "model.yaml"]).sources["m"]
    assert sources == (folder / "model.yaml", shared / "team.yaml", tmp_path / "company.yaml")


def test_the_name_is_never_inherited(tmp_path: Path) -> None:
    (tmp_path / "defaults.yaml").write_text("model: other\n")
    folder = write_model(tmp_path, "m", spec="extends: ../defaults.yaml\n")
    with pytest.raises(InvalidSpec, match=r"m/model\.yaml:1:1  model: the key is missing\. Write model: m\."):
        load_spec(folder)


def test_a_circle_through_a_link_ends(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "m", spec="model: m\nextends: other.yaml\n")
    (folder / "other.yaml").symlink_to("model.yaml")
    (problem,) = linted(folder)
    assert "in a cycle" in problem.what


def test_an_environment_goes_over_that_of_the_defaults_key_by_key(tmp_path: Path) -> None:
    (tmp_path / "defaults.yaml").write_text(
        "rollout: {steps: [50, 100]}\nenvironments: {prod: {rollout: {steps: [10, 100]}, retries: 4}}\n"
    )
    text = "model: m\nextends: ../defaults.yaml\nenvironments: {prod: {rollout: null}}\n"
    spec = load_spec(write_model(tmp_path, "m", spec=text), environment="prod")
    assert (spec.rollout.steps, spec.retries) == ((100,), 4)


def test_environments_can_be_taken_away_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "defaults.yaml").write_text("environments: {prod: {retries: 4}}\n")
    folder = write_model(tmp_path, "m", spec="model: m\nextends: ../defaults.yaml\nenvironments: null\n")
    loaded = load_files([folder / "model.yaml"], environment="prod")
    assert (loaded.environments, loaded.specs["m"].retries) == ((), 2)


def test_the_digest_is_that_of_the_values_wherever_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "defaults.yaml").write_text("retries: 4\n")
    extending = write_model(tmp_path / "a", "m", spec="model: m\nextends: ../defaults.yaml\n")
    overlaid = write_model(tmp_path / "b", "m", spec="model: m\nenvironments: {prod: {retries: 4}}\n")
    plain = write_model(tmp_path / "c", "m", spec="model: m\nretries: 4\n")
    digests = {load_spec(extending).digest, load_spec(overlaid, environment="prod").digest, load_spec(plain).digest}
    assert len(digests) == 1
    assert load_spec(overlaid).digest not in digests


def test_what_the_model_lacks_is_not_asked_of_its_environments(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "m", spec="owner: me\nenvironments:\n  prod: {owner: you}\n")
    (problem,) = linted(folder)
    assert (problem.where, problem.line, problem.column) == ("model", 1, 1)


@pytest.mark.parametrize(("long", "short"), [("a", "b"), ("b", "a")])
def test_how_many_files_extend_one_another_is_counted_from_each_model(long: str, short: str, tmp_path: Path) -> None:
    for number in range(1, 12):
        (tmp_path / f"{number}.yaml").write_text(f"extends: {number + 1}.yaml\n")
    (tmp_path / "12.yaml").write_text("owner: me\n")
    folders = {
        name: write_model(tmp_path, name, spec=f"model: {name}\nextends: ../{first}.yaml\n")
        for name, first in ((long, 1), (short, 5))
    }
    loaded = load_files([folders[name] / "model.yaml" for name in "ab"])
    assert list(loaded.specs) == [short]
    (problem,) = loaded.problems
    assert "more than 10 files" in problem.what
