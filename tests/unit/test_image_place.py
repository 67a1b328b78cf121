"""Where an image is built: in a job, or in the task itself, which alone has what must not leave the worker."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from modelway.backends.base import Options
from modelway.hooks import connection as hook
from modelway.hooks.settings import Settings, load_settings
from modelway.operators.build_image import BuildImageOperator
from modelway.runs.image_job import PASSWORD, USERNAME, ImageOrder
from modelway.runs.messages.version import RegisteredVersion

HOST = "registry.example.com"
VERSION = {
    "model": "digits",
    "version": 3,
    "archive": {"uri": "file:///srv/a", "digest": "sha256:" + "1" * 64, "size": 1},
    "model_digest": "sha256:" + "2" * 64,
}
OURS = {"registry_host": HOST, "registry_login": "me", "registry_password": "s3cret"}


@pytest.fixture(autouse=True)
def docker_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    return tmp_path / "config.json"


def operator(settings: dict[str, Any] | None = None, **arguments: Any) -> BuildImageOperator:
    arguments = {"backend": "docker", "repository": f"{HOST}/models/digits", **arguments}
    made = BuildImageOperator(task_id="build_image", version=VERSION, **arguments)
    found = Settings(home=Path("/srv"), artifact_root="file:///srv", lineage_url="sqlite://", **(settings or {}))
    made.__dict__["settings"] = found
    return made


@pytest.mark.parametrize(
    ("settings", "arguments"),
    [
        ({}, {}),
        ({}, {"backend": "kubernetes"}),
        # Its login is a Secret of the cluster.
        (OURS, {"backend": "kubernetes"}),
        ({**OURS, "registry_for_jobs": True}, {}),
        # The login is another registry's.
        ({**OURS, "registry_host": "ghcr.io"}, {}),
    ],
)
def test_a_job_builds_it(settings: dict[str, Any], arguments: dict[str, Any]) -> None:
    assert operator(settings, **arguments)._is_job()


@pytest.mark.parametrize(
    ("settings", "arguments", "reason"),
    [
        ({}, {"backend": "local"}, ""),
        ({}, {"repository": None}, ""),
        ({}, {"builder": "docker"}, ""),
        (OURS, {}, "the registry's login is not for jobs"),
        ({"signing_key": Path("/srv/key")}, {"backend": "kubernetes"}, "the key that signs it is on this machine"),
    ],
)
def test_the_task_builds_it_and_says_why(settings: dict[str, Any], arguments: dict[str, Any], reason: str) -> None:
    made = operator(settings, **arguments)
    assert not made._is_job()
    assert made._only_here() == (reason or None)


def test_a_login_of_dockers_own_settings_stays_on_the_worker(docker_settings: Path) -> None:
    docker_settings.write_text(json.dumps({"auths": {HOST: {"username": "me", "password": "s3cret"}}}))
    assert not operator()._is_job()
    assert operator(backend="kubernetes")._is_job()


def test_the_login_is_in_the_options_of_a_job_that_may_have_it_and_nowhere_else() -> None:
    allowed = operator({**OURS, "registry_for_jobs": True})
    options = Options(platform={"env": {"A": "b"}})
    assert allowed.final_options(options).platform["env"] == {"A": "b", USERNAME: "me", PASSWORD: "s3cret"}
    cluster = operator({**OURS, "registry_for_jobs": True}, backend="kubernetes")
    assert cluster.final_options(options) == options
    assert operator().final_options(options) == options


@pytest.mark.parametrize(("extra", "allowed"), [("?jobs=true", True), ("?jobs=false", False), ("", False)])
def test_the_connection_says_whether_its_login_is_for_jobs(
    extra: str, allowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MODELWAY_REGISTRY", f"docker://me:s3cret@{HOST}/{extra}")
    monkeypatch.setattr(hook, "lineage_url_from_airflow", lambda: "sqlite://")
    assert load_settings().registry_for_jobs is allowed
    assert hook.settings_from_airflow().registry_for_jobs is allowed


def test_an_order_is_read_again_and_holds_no_secret() -> None:
    version = RegisteredVersion.from_xcom(VERSION)
    order = ImageOrder(
        version=version, base="scratch", path="/m", builder="oci", repository="r", tag="v3", platform={"parallel": 2}
    )
    again = ImageOrder.of(json.loads(json.dumps(order.params())))
    assert again.params() == order.params()
    assert again.version.archive == version.archive
    assert list(again.inputs()) == ["archive"]
    stored = replace(version, archive=replace(version.archive, uri="s3://bucket/archive"))
    assert replace(order, version=stored).inputs() == {}
