import argparse
import json
import re
from pathlib import Path

import pytest
import yaml
from modelway.cli import main, render
from modelway.errors import ModelwayError, UnknownModel
from modelway.spec.document.write import write_document
from modelway.spec.load import load_spec
from spec_samples import DEFAULTS, FULL, GOOD_CODE, RICH, write_model

from tests.google import documents

TEXTS = ["yes", "1e-4", "0o17", "0755", "1_000", "1:30", "<<", "null", "~", "", " a", "a: b", "# a", "2026-01-31"]
TEXTS += ["é\u00a0b", "tab\there", "two\nlines\n", ">= 0.9", "'", '"', "\u2028", "9" * 200, ".5", ".nan", "=", "- a"]
TEXTS += ["@a", "{{ a }}", "1.0e-05", "\U0001f600"]


def run(*arguments: str | Path) -> int:
    parser = argparse.ArgumentParser()
    render.add_commands(parser.add_subparsers(required=True))
    args = parser.parse_args(list(map(str, arguments)))
    status: int = args.run(args)
    return status


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.setenv("MODELWAY_MODELS", str(folder))
    monkeypatch.delenv("MODELWAY_ENV", raising=False)
    monkeypatch.chdir(tmp_path)
    (folder / "defaults.yaml").write_text(DEFAULTS)
    return folder


def test_the_spec_is_printed_with_its_files_environment_and_digest(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_model(models, "digits", spec=RICH)
    assert run("render", "digits", "--env", "prod") == 0
    lines = capsys.readouterr().out.splitlines()
    digest = load_spec(folder, environment="prod").digest
    assert lines[:4] == [
        "# from models/digits/model.yaml over models/defaults.yaml",
        "# environment prod",
        f"# {digest}",
        "model: digits",
    ]
    assert "retries: 9" in lines
    assert load_spec(folder).digest != digest


@pytest.mark.parametrize("environment", ["", "dev", "prod", "staging"])
@pytest.mark.parametrize("text", [FULL, RICH], ids=["full", "rich"])
def test_what_is_printed_is_the_same_spec_again(
    text: str, environment: str, models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_model(models, "digits", spec=text)
    (folder / "net.py").write_text(GOOD_CODE)
    environment = environment if text is RICH else ""
    assert run("render", "digits", *(["--env", environment] if environment else [])) == 0
    spec = load_spec(folder, environment=environment)
    (folder / "model.yaml").write_text(capsys.readouterr().out)
    again = load_spec(folder, environment="")
    assert again.digest == spec.digest
    assert list(again.to_dict()) == list(spec.to_dict())


@pytest.mark.parametrize("text", TEXTS)
def test_each_text_is_written_so_that_it_is_read_as_that_text(text: str, tmp_path: Path) -> None:
    from modelway.spec.document.read import read_document

    data = {"a": text, "b": [text, {text: 1}]}
    for encoding in ("utf-8", "ascii"):
        written = write_document(data, encoding=encoding)
        written.encode(encoding)
        root, problems = read_document(written, file=tmp_path / "model.yaml")
        assert not problems
        assert root is not None
        assert root.plain() == data


@pytest.mark.parametrize("number", [1e-05, 1e22, 0.1, 1.0, -0.0, 10**30, 5e-324])
def test_each_number_is_written_so_that_it_is_read_as_that_number(number: float, tmp_path: Path) -> None:
    from modelway.spec.document.read import read_document

    root, problems = read_document(write_document({"a": number}), file=tmp_path / "model.yaml")
    assert not problems
    assert root is not None
    found = root.plain()["a"]
    assert (found, type(found)) == (number, type(number))


def test_a_spec_with_problems_is_refused_as_lint_refuses_it(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_model(models, "bad", spec="model: bad\nowner: ''\n")
    assert run("render", "bad") == 1
    assert capsys.readouterr().out == (
        "1 problem in 1 model spec\nmodels/bad/model.yaml:2:8  owner: must not be empty.\n"
    )


def test_a_model_is_named_or_its_folder_or_its_file(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_model(models, "one")
    printed = set()
    for argument in ("one", "models/one", folder / "model.yaml"):
        assert run("render", argument) == 0
        printed.add(capsys.readouterr().out)
    assert len(printed) == 1


def test_an_unknown_model_is_refused_with_the_known_ones(models: Path) -> None:
    write_model(models, "digits")
    with pytest.raises(UnknownModel, match=r"no model 'digts'\. Known: digits\. Did you mean 'digits'\?"):
        run("render", "digts")
    with pytest.raises(UnknownModel, match=r"there is no model\.yaml"):
        run("render", "models/nothing")


def test_an_environment_of_another_model_changes_nothing(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_model(models, "digits", spec=RICH)
    write_model(models, "other")
    assert run("render", "other", "--env", "prod") == 0
    assert "# environment prod, of which other has no values of its own\n" in capsys.readouterr().out


def test_an_environment_of_no_model_is_refused(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_model(models, "digits", spec=RICH)
    write_model(models, "other")
    assert run("render", "other", "--env", "prud") == 1
    assert "'prud' is an environment of no model here. Known: dev, prod, staging." in capsys.readouterr().out


def test_the_environment_of_the_variable_is_taken(
    models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(models, "digits", spec=RICH)
    monkeypatch.setenv("MODELWAY_ENV", "dev")
    assert run("render", "digits") == 0
    assert "# environment dev\n" in capsys.readouterr().out


def test_the_schema_is_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("schema") == 0
    assert json.loads(capsys.readouterr().out)["title"] == "A model of modelway"


def test_a_model_that_cannot_be_looked_into_is_not_called_unknown(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (models / "closed").symlink_to("x" * 300)
    for name in ("closed", "models/closed", "models/closed/model.yaml"):
        assert run("render", name) == 1
        assert "models/closed/model.yaml  the file cannot be read: file name too long." in capsys.readouterr().out


ON_KUBERNETES = """
model: digits
owner: vision
storage: {path: /data, claim: jobs}
kubernetes: {namespace: ml, priority_class: high}
train:
  backend: kubernetes
  stages:
    - {name: one, resources: {cpu: 2}}
    - {name: two, nodes: 2}
evaluate: {backend: kubernetes}
select: {metric: loss}
"""


def manifests(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, object]]:
    assert run("render", "digits", "--backend", "kubernetes", *words) == 0
    return [document for document in yaml.safe_load_all(capsys.readouterr().out) if document]


def test_what_would_be_sent_to_kubernetes_is_printed(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from modelway.backends.base import Job, Options
    from modelway.backends.kubernetes.backend import KubernetesBackend
    from modelway.spec.options import options_of

    folder = write_model(models, "digits", spec=ON_KUBERNETES)
    found = manifests(capsys, "--server", "1.30", "--run", "manual__7")
    assert [each["kind"] for each in found] == ["Job", "Job", "Service", "Job", "Job", "Job"]
    spec = load_spec(folder)
    backend = KubernetesBackend(home=models, version=(1, 30))
    for stage, start in zip(spec.stages(), (0, 1), strict=True):
        job = Job(
            model="digits",
            run="digits/manual__7",
            key=f"train.{stage.name}",
            stage=stage.name,
            action="train",
            seed=spec.train.seed,
        )
        sent = backend.build_request(job, Options(**options_of(spec, stage))).manifests()
        assert found[start : start + len(sent)] == json.loads(json.dumps(sent))


def test_what_would_be_sent_to_vertex_ai_is_printed(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Google's own description of a job takes it: training with a GPU, all else without."""
    spec = (
        "model: digits\nstorage: {uri: 'gs://b/jobs'}\nvertex: {region: europe-west4, accelerator: NVIDIA_L4}\n"
        "train: {backend: vertex, image: job, resources: {gpu: 1}}\n"
    )
    write_model(models, "digits", spec=spec)
    assert run("render", "digits", "--backend", "vertex", "--run", "manual__7") == 0
    printed = capsys.readouterr().out
    assert printed.startswith("# for Vertex AI\n# train\n---\n")
    found = [document for document in yaml.safe_load_all(printed) if document]
    for each in found:
        documents.method("aiplatform.projects.locations.customJobs.create").check_body(each)
    machines = [each["jobSpec"]["workerPoolSpecs"][0]["machineSpec"]["machineType"] for each in found]
    assert machines == ["g2-standard-4", *["e2-highmem-2"] * 3]
    with pytest.raises(ModelwayError, match="Vertex AI has no version"):
        run("render", "digits", "--backend", "vertex", "--server", "1.30")


def test_the_image_job_alone_has_the_login_of_the_registry(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pushed = ON_KUBERNETES.replace("namespace: ml", "namespace: ml, push_secret: registry")
    write_model(
        models, "digits", spec=f"{pushed}image: {{repository: registry.example.com/digits, resources: {{cpu: 1}}}}\n"
    )
    *others, job = manifests(capsys, "--server", "1.30")
    pod = job["spec"]["template"]["spec"]  # type: ignore[index]
    (container,) = pod["containers"]
    assert {"name": "REGISTRY_AUTH_FILE", "value": "/modelway-registry/.dockerconfigjson"} in container["env"]
    assert {"name": "registry-login", "secret": {"secretName": "registry"}} in pod["volumes"]
    assert container["resources"]["limits"] == {"cpu": "1000m"}
    assert "registry-login" not in json.dumps(others)
    assert "REGISTRY_AUTH_FILE" not in json.dumps(others)


def test_an_older_server_gets_what_it_knows(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_model(models, "digits", spec=ON_KUBERNETES)
    assert [each["kind"] for each in manifests(capsys, "--server", "1.20")].count("Job") == 6


SWEPT = """
search: {method: halving, eta: 2, params: {rate: {uniform: [0, 1]}}, candidates: 12}
"""


def test_the_jobs_of_a_sweep_are_named_by_stage_and_candidate(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_model(models, "digits", spec=ON_KUBERNETES + SWEPT)
    assert main(["render", "digits", "--backend", "kubernetes", "--server", "1.30"]) == 0
    printed = capsys.readouterr().out
    comments = [line.removeprefix("# ") for line in printed.splitlines() if line.startswith("#")][2:]
    assert comments[0] == "the 12 candidates of the seed 0; of each stage one of their jobs is shown"
    assert re.fullmatch(r"  c01: rate=0\.\d+", comments[1])
    assert (len(comments[1:11]), comments[11]) == (10, "  and 2 more")
    assert comments[12:] == [
        "one, candidate c01 of 12",
        "evaluate c01-one-000001",
        "two, candidate c01 of at most 6, named by its checkpoint as well",
        "evaluate c01-two-000001",
        *("freeze", "verify"),
    ]
    jobs = [each for each in yaml.safe_load_all(printed) if each and each["kind"] == "Job"]
    assert len({each["metadata"]["name"] for each in jobs}) == 6


def test_a_version_that_is_none_and_a_spec_without_storage_are_refused(models: Path) -> None:
    write_model(models, "digits", spec=ON_KUBERNETES)
    with pytest.raises(ModelwayError, match="'new' is not a version of Kubernetes"):
        run("render", "digits", "--backend", "kubernetes", "--server", "new")
    write_model(models, "bare")
    with pytest.raises(ModelwayError, match="needs a place for the jobs' folders"):
        run("render", "bare", "--backend", "kubernetes", "--server", "1.30")
