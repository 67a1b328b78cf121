"""Secrets of jobs: references in a spec, their values at the moment when a job starts, and nowhere else."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import ErrorType
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import ErrorResponse
from airflow.serialization.serialized_objects import DagSerialization
from modelway.backends.base import Job, Options
from modelway.backends.docker.backend import DockerBackend
from modelway.cli import main
from modelway.dag import build_dag
from modelway.errors import CapabilityMissing, LineageUnavailable, ModelwayError, SecretMissing
from modelway.hooks import connection as hook
from modelway.hooks.secrets import with_secrets
from modelway.spec.load import load_spec, load_specs
from spec_samples import write_model

SECRET = "s3cr3t-value"
SPEC = """\
model: m
train: {backend: docker}
docker:
  env:
    LEVEL: debug
    API_TOKEN: {connection: tracker}
    API_USER: {connection: tracker, field: login}
    ZONE: {connection: tracker, field: extra.zone}
    MODEL_KEY: {variable: model_key}
"""


@pytest.fixture(autouse=True)
def deployment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given = {"conn_type": "http", "login": "mia", "password": SECRET, "extra": {"zone": "eu-7"}}
    monkeypatch.setenv("AIRFLOW_CONN_TRACKER", json.dumps(given))
    monkeypatch.setenv("AIRFLOW_VAR_MODEL_KEY", f"{SECRET}-of-variable")
    monkeypatch.setattr(hook, "_ABSENT", set())


def options(env: dict[str, Any]) -> Options:
    return Options(platform={"env": env, "grace_seconds": 5})


def test_references_become_their_values_when_the_job_starts(tmp_path: Path) -> None:
    spec = load_spec(write_model(tmp_path, "m", spec=SPEC))
    found = with_secrets(Options(platform=spec.platform("docker")))
    assert found.platform["env"] == {
        "LEVEL": "debug",
        "API_TOKEN": SECRET,
        "API_USER": "mia",
        "ZONE": "eu-7",
        "MODEL_KEY": f"{SECRET}-of-variable",
    }
    backend = DockerBackend(home=tmp_path)
    vars(backend.engine)["info"] = {"NCPU": 8, "Runtimes": {}}
    request = backend.build_request(Job(model="m", run="m/r", key="train", stage="train", action="train"), found)
    assert f"API_TOKEN={SECRET}" in request.container()["Env"]
    assert SECRET not in json.dumps([request.contract, request.volume_labels(0), request.container()["Labels"]])


def test_a_reference_never_reaches_an_engine(tmp_path: Path) -> None:
    job = Job(model="m", run="m/r", key="train", stage="train", action="train")
    with pytest.raises(CapabilityMissing, match=r"the variable A of docker\.env is a reference"):
        DockerBackend(home=tmp_path).build_request(job, options({"A": {"variable": "model_key"}}))


def test_keys_of_kubernetes_secrets_are_left_to_kubernetes() -> None:
    given = options({"A": {"secret": "s", "config_map": None, "key": "k"}, "B": "x"})
    assert with_secrets(given) is given


def test_no_value_is_in_what_others_see(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_model(tmp_path, "m", spec=SPEC)
    spec = load_spec(folder)
    assert main(["render", str(folder)]) == 0
    shown = [json.dumps(DagSerialization.to_dict(build_dag(spec))), json.dumps(spec.to_dict()), capsys.readouterr().out]
    assert all("tracker" in each and SECRET not in each for each in shown)
    assert type(spec).model_validate(spec.to_dict(), context={"folder": folder}).docker == spec.docker


def test_the_values_are_masked_in_airflows_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    masked: list[object] = []
    monkeypatch.setattr("airflow.sdk.log.mask_secret", lambda value, name=None: masked.append(value))
    with_secrets(options({"A": {"connection": "tracker", "field": "extra.zone"}, "B": {"variable": "model_key"}}))
    assert [each for each in ("eu-7", f"{SECRET}-of-variable") if each not in masked] == []


@pytest.mark.parametrize(
    ("reference", "printed"),
    [
        ({"connection": "absent"}, "there is no connection 'absent', which the variable A of the job's environment"),
        ({"connection": "tracker", "field": "schema"}, "the connection 'tracker' has no schema, which the variable A"),
        (
            {"connection": "tracker", "field": "extra.x"},
            "the connection 'tracker' has no extra.x, which the variable A",
        ),
        ({"variable": "absent"}, "there is no variable 'absent', which the variable A of the job's environment needs"),
    ],
)
def test_what_is_not_there_fails_the_task_in_one_line(reference: dict[str, str], printed: str) -> None:
    with pytest.raises(SecretMissing) as missing:
        with_secrets(options({"A": reference}))
    assert str(missing.value).startswith(printed)
    assert "\n" not in str(missing.value)
    assert SECRET not in str(missing.value)
    assert not missing.value.retryable, "another attempt finds no more"


@pytest.mark.parametrize("reference", [{"connection": "absent"}, {"variable": "absent"}])
def test_an_airflow_that_does_not_answer_is_another_matter(
    reference: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = SimpleNamespace(send=lambda message: ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={}))
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", broken, raising=False)
    with pytest.raises(ModelwayError) as failed:
        with_secrets(options({"A": reference}))
    assert failed.value.retryable
    assert isinstance(failed.value, LineageUnavailable)


def problems_of(tmp_path: Path, env: str, section: str = "docker") -> list[str]:
    folder = tmp_path / f"of {env}"
    write_model(folder, "m", spec=f"model: m\n{section}: {{env: {{A: {env}}}}}\n")
    return [one.message for one in load_specs(folder).problems]


@pytest.mark.parametrize(
    ("env", "printed"),
    [
        ("{}", "needs connection or variable"),
        ("{connection: a, variable: b}", "needs connection or variable"),
        ("{connection: a, field: passwort}", "'passwort' is no field of a connection"),
        ("{connection: a, field: __class__}", "'__class__' is no field of a connection"),
        ("{variable: a, field: login}", "a variable has no fields"),
        ("{connection: modelway_lineage}", "'modelway_lineage' is not for jobs"),
        ("{connection: MODELWAY_registry}", "'MODELWAY_registry' is not for jobs"),
        ("{secret: a, key: b}", "unknown key"),
    ],
)
def test_a_reference_that_is_none_is_refused_by_lint(tmp_path: Path, env: str, printed: str) -> None:
    found = problems_of(tmp_path, env)
    assert any(printed in message for message in found), found


def test_the_deployment_says_which_ones_jobs_may_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELWAY_SECRETS", "team_*, tracker")
    assert problems_of(tmp_path, "{connection: team_a}") == problems_of(tmp_path, "{variable: tracker}") == []
    (message,) = problems_of(tmp_path, "{connection: other}")
    assert "Known: team_*, tracker, not modelway_*." in message


PLAIN = [
    ("docker", "API_TOKEN: abc", True),
    ("docker", "DB_PASSWORD: abc", True),
    ("kubernetes", "aws_secret_access_key: abc", True),
    ("docker", "SERVICE_API_KEY: '1'", True),
    ("docker", "X: ghp_0123456789012345678901234567890123456789", True),
    ("docker", "X: 'postgres://mia:abc@db/x'", True),
    ("docker", "X: '-----BEGIN RSA PRIVATE KEY-----'", True),
    ("docker", "TOKENIZERS_PARALLELISM: 'false'", False),
    ("docker", "MAX_TOKENS: '512'", False),
    ("docker", "PASSWORD_FILE: /etc/secret", False),
    ("docker", "API_TOKEN: ''", False),
    ("docker", "API_TOKEN: {variable: x}", False),
    ("kubernetes", "API_TOKEN: {secret: x, key: y}", False),
    ("docker", "X: 'https://example.org:8080/a@b'", False),
]


@pytest.mark.parametrize(("section", "entry", "warned"), PLAIN)
def test_lint_warns_of_a_text_that_looks_like_a_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], section: str, entry: str, warned: bool
) -> None:
    write_model(tmp_path, "m", spec=f"model: m\n{section}:\n  env:\n    {entry}\n")
    assert load_specs(tmp_path).specs.keys() == {"m"}, "a warning stops nothing"
    assert main(["lint", str(tmp_path)]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == f"1 model spec, no problems{', 1 warning' if warned else ''}"
    name, _, value = entry.partition(": ")
    assert [
        f"m/model.yaml:4:{7 + len(name)}  warning: {section}.env.{name}: the text looks like" in one for one in lines
    ] == [True] * warned
    assert (
        not warned
        or value.strip("'") not in lines[0].removeprefix(str(tmp_path)).partition("warning")[2]
        or value == "'1'"
    )


def test_a_secret_elsewhere_is_warned_about_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = "AKIA0123456789ABCDEF"
    write_model(tmp_path, "m", spec=f"model: m\ntrain: {{params: {{key: {key}}}}}\n")
    assert main(["lint", "--format", "github", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("::warning ")
    assert key not in printed
    assert main(["lint", "--format", "json", str(tmp_path)]) == 0
    (one,) = json.loads(capsys.readouterr().out)
    assert (one["severity"], one["where"]) == ("warning", "train.params.key")
