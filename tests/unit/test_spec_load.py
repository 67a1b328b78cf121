import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pydantic
import pytest
from modelway.errors import InvalidSpec
from modelway.ports import PORTS, known
from modelway.spec.gates import Gate
from modelway.spec.load import find_specs, load_files, load_spec, load_specs, models_folder
from modelway.spec.model import ModelSpec, Resources
from spec_samples import FULL, GOOD_CODE, write_model

ROOT = Path(__file__).parents[2]


def test_one_line_is_a_whole_spec(tmp_path: Path) -> None:
    spec = load_spec(write_model(tmp_path, "my-model"))
    assert (spec.model, spec.code, spec.owner, spec.retries) == ("my-model", "my_model.py", "modelway", 2)
    assert [(stage.name, stage.backend, stage.seed) for stage in spec.stages()] == [("train", "local", 0)]
    assert (spec.select.metric, spec.select.mode, spec.freeze.format) == ("loss", "min", "onnx")
    assert (spec.verify.tolerance.absolute, spec.verify.tolerance.relative) == (1e-4, 1e-3)
    assert (spec.image.builder, spec.image.base, spec.image.repository) == ("oci", "scratch", None)
    assert (spec.endpoint.target, spec.endpoint.local.port, spec.rollout.steps) == ("local", None, (100,))
    assert spec.folder == tmp_path / "my-model"


def test_every_key_arrives_with_its_unit(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "digits", spec=FULL, code=None)
    (folder / "net.py").write_text(GOOD_CODE)
    spec = load_spec(folder / "model.yaml")
    assert (spec.description, spec.owner, spec.tags) == ("Handwritten digits, a small CNN", "vision-team", ("demo",))
    assert (spec.code, spec.retries, spec.train.seed, spec.train.timeout_seconds) == ("net.py", 3, 7, 7200)
    assert spec.train.resources == Resources(cpu=1.0, memory="2Gi", gpu=0)
    assert spec.train.resources.memory_bytes == 2 * 2**30
    assert spec.verify.gates == {"accuracy": Gate(">=", 0.9), "loss": Gate("<", 1.0)}
    assert (spec.verify.tolerance.absolute, spec.verify.tolerance.relative) == (1e-5, 1e-2)
    assert spec.image.repository == "registry.example.com:5000/models/digits"
    assert (spec.endpoint.local.host, spec.endpoint.local.port) == ("127.0.0.1", 8080)
    assert (spec.rollout.steps, spec.rollout.interval_seconds) == ((10, 50, 100), 10)


def test_stages_and_evaluation_take_over_what_train_says(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "digits", spec=FULL, code=None)
    (folder / "net.py").write_text(GOOD_CODE)
    spec = load_spec(folder)
    warmup, finetune = spec.stages()
    assert warmup.params == {"batch_size": 64, "lr": 0.01, "epochs": 2}
    assert finetune.params == {"batch_size": 64, "lr": 0.1, "epochs": 3}
    assert (warmup.index, warmup.timeout_seconds, warmup.command, warmup.resources.cpu) == (0, 5400, None, 1.0)
    assert (finetune.index, finetune.timeout_seconds, finetune.command) == (1, 7200, ("python", "train.py"))
    assert finetune.resources == Resources(cpu=0.5)
    evaluation = spec.evaluation()
    assert (evaluation.backend, evaluation.parallel, evaluation.timeout_seconds) == ("local", 2, 600)
    assert evaluation.params == {"batch_size": 256, "lr": 0.1}
    assert evaluation.resources.memory_bytes == 2**29


def test_a_spec_is_frozen(tmp_path: Path) -> None:
    spec = load_spec(write_model(tmp_path, "m"))
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        spec.train.seed = 3  # type: ignore[misc]


def test_the_digest_is_that_of_the_meaning(tmp_path: Path) -> None:
    def digest(place: str, text: str) -> str:
        return load_spec(write_model(tmp_path / place, "m", spec=text)).digest

    first = digest("a", "model: m\ntrain: {timeout: 2h, seed: 1, params: {a: 1, b: 2}}\n")
    assert first.startswith("sha256:")
    assert len(first) == 71
    assert (
        digest("b", "# moved\ntrain:\n  seed: 1\n  params: {b: 2, a: 1}\n  timeout: 120m\nretries: 2\nmodel: m\n")
        == first
    )
    assert digest("c", "model: m\ntrain: {timeout: 2h, seed: 2, params: {a: 1, b: 2}}\n") != first


def test_a_spec_is_made_again_from_its_plain_data(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "digits", spec=FULL, code=None)
    (folder / "net.py").write_text(GOOD_CODE)
    spec = load_spec(folder)
    again = ModelSpec.model_validate(spec.to_dict(), context={"folder": folder})
    assert again == spec
    assert again.digest == spec.digest


def test_one_broken_spec_leaves_the_others_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path, "b-good")
    write_model(tmp_path, "a-good")
    write_model(tmp_path, "broken", spec="model: broken\nretries: many\n")
    loaded = load_specs(tmp_path)
    assert list(loaded.specs) == ["a-good", "b-good"]
    assert [str(one) for one in loaded.problems] == [
        "broken/model.yaml:2:10  retries: expected a whole number, got 'many'."
    ]


def test_the_error_counts_and_lists_all_problems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_model(tmp_path, "m", spec="model: m\nretries: many\nrollout: {steps: [5, 50, 20]}\n", code=None)
    with pytest.raises(InvalidSpec) as caught:
        load_spec(folder)
    assert str(caught.value).splitlines() == [
        "3 problems in 1 model spec",
        "m/model.yaml:2:10  retries: expected a whole number, got 'many'.",
        "m/model.yaml:3:18  rollout.steps: weights must rise to 100, got [5, 50, 20]. End with 100.",
        "m/m.py  the model's Python file is missing. Write it there, or name another file of the folder with"
        " code: <name>.py.",
    ]


def test_folders_that_hold_no_spec_are_passed_over(tmp_path: Path) -> None:
    write_model(tmp_path, "m")
    write_model(tmp_path, ".hidden", spec="broken: [")
    write_model(tmp_path, "__pycache__", spec="broken: [")
    (tmp_path / "notes").mkdir()
    (tmp_path / "schema.json").write_text("{}")
    loaded = load_specs(tmp_path)
    assert list(loaded.specs) == ["m"]
    assert loaded.problems == ()


def test_a_spec_with_the_other_ending_is_named(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "m")
    (folder / "model.yaml").rename(folder / "model.yml")
    loaded = load_specs(tmp_path)
    assert [one.what for one in loaded.problems] == ["this file is not read"]


def test_the_second_of_two_models_with_one_name_is_a_problem(tmp_path: Path) -> None:
    first, second = write_model(tmp_path / "a", "m"), write_model(tmp_path / "b", "m")
    loaded = load_files([first / "model.yaml", second / "model.yaml", first / "model.yaml"])
    assert loaded.specs["m"].folder == first
    assert [one.file.parent for one in loaded.problems] == [second]
    assert str(first / "model.yaml") in loaded.problems[0].what


def test_a_copied_folder_is_reported_from_its_original(tmp_path: Path) -> None:
    write_model(tmp_path, "m")
    write_model(tmp_path, "m2", spec="model: m\n")
    loaded = load_specs(tmp_path)
    assert loaded.specs["m"].folder == tmp_path / "m"
    assert [one.what for one in loaded.problems] == ["'m' is not the name of its folder, 'm2'"]


def test_a_missing_models_folder_is_one_problem(tmp_path: Path) -> None:
    loaded = load_specs(tmp_path / "absent")
    assert [one.what for one in loaded.problems] == [
        "the folder of the models cannot be read: no such file or directory"
    ]


def test_a_file_of_more_than_a_megabyte_is_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "m", spec=b"model: m\n#" + b"x" * 10_000_000)
    with pytest.raises(InvalidSpec, match=r"model\.yaml  the file is larger than 1 MB\. Keep data out of it\.$"):
        load_spec(folder)


@pytest.mark.parametrize("kind", ["folder", "pipe", "dangling", "endless"])
def test_what_is_no_regular_file_is_refused_and_never_waited_for(kind: str, tmp_path: Path) -> None:
    folder = write_model(tmp_path, "m")
    file = folder / "model.yaml"
    file.unlink()
    make = {
        "folder": file.mkdir,
        "pipe": lambda: os.mkfifo(file),
        "dangling": lambda: file.symlink_to("gone"),
        "endless": lambda: file.symlink_to("/dev/zero"),
    }
    make[kind]()
    loaded = load_specs(tmp_path)
    assert len(loaded.problems) == 1
    assert loaded.problems[0].what in (
        "this is not a regular file",
        "the file cannot be read: no such file or directory",
    )


@contextmanager
def closed(path: Path) -> Iterator[None]:
    """Take all permissions of a path away, from root too."""
    mode = path.stat().st_mode
    is_root = os.geteuid() == 0
    for above in path.parents:
        if is_root and above.is_relative_to("/tmp") and above != Path("/tmp"):
            above.chmod(above.stat().st_mode | 0o055)
    path.chmod(0)
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        path.chmod(mode)


@pytest.mark.parametrize("part", ["models/m/model.yaml", "models/m", "models"])
def test_what_may_not_be_read_is_a_problem_and_never_silence(part: str, tmp_path: Path) -> None:
    write_model(tmp_path / "models", "m")
    with closed(tmp_path / part):
        loaded = load_specs(tmp_path / "models")
    assert [one.what.rpartition(": ")[2] for one in loaded.problems] == ["permission denied"]


def test_the_models_folder_can_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MODELWAY_MODELS", raising=False)
    assert models_folder() == ROOT / "include" / "models"
    monkeypatch.setenv("MODELWAY_MODELS", str(tmp_path))
    assert models_folder() == tmp_path


def test_the_members_that_come_with_modelway_are_known() -> None:
    found = {port: set(known(port)) for port in PORTS}
    assert found["backends"] >= {"docker", "kubernetes", "local"}
    assert found["builders"] >= {"oci"}
    assert found["endpoints"] >= {"local"}
    assert found["exporters"] >= {"mlflow", "openlineage"}


PROD = "endpoint: {environments: {dev: {}, prod: {}}}\n"


def test_two_models_whose_endpoints_have_one_name_are_refused(tmp_path: Path) -> None:
    """Their rollouts would replace each other's versions."""
    write_model(tmp_path, "digits", spec=f"model: digits\n{PROD}")
    write_model(tmp_path, "digits-test", spec=f"model: digits-test\n{PROD}")
    assert not load_specs(tmp_path).problems
    write_model(tmp_path, "digits-prod")
    loaded = load_specs(tmp_path)
    assert set(loaded.specs) == {"digits-prod", "digits-test"}
    (problem,) = loaded.problems
    assert (problem.file, problem.line) == (tmp_path / "digits" / "model.yaml", 2)
    assert problem.message == (
        "endpoint.environments: its endpoint digits-prod is already that of the model digits-prod. "
        "Rename the model, or the environment."
    )
    write_model(tmp_path, "a", spec="model: a\nendpoint: {environments: {b-c: {}, d: {}}}\n")
    write_model(tmp_path, "a-b", spec="model: a-b\nendpoint: {environments: {c: {}, d: {}}}\n")
    assert len(load_specs(tmp_path).problems) == 2


def test_an_endpoint_of_one_environment_of_the_spec_is_refused_there(tmp_path: Path) -> None:
    spec = "model: digits\nenvironments:\n  live:\n    endpoint: {environments: {dev: {}, prod: {}}}\n"
    write_model(tmp_path, "digits", spec=spec)
    write_model(tmp_path, "digits-prod")
    assert not load_specs(tmp_path, environment="").problems
    (problem,) = load_files(find_specs(tmp_path)[0], environment="", every_environment=True).problems
    assert problem.line == 4
    assert load_specs(tmp_path, environment="live").problems == (problem,)
