"""Where the lineage and its exporters are: the environment, then Airflow's connections, then the embedded defaults."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import Connection
from airflow.sdk.exceptions import ErrorType
from airflow.sdk.execution_time import supervisor, task_runner
from airflow.sdk.execution_time.comms import ErrorResponse
from modelway.errors import LineageUnavailable, ModelwayError, SecretMissing
from modelway.hooks import connection as hook
from modelway.hooks.backend import backend_from_airflow, forget_backends
from modelway.hooks.client import client_from_airflow
from modelway.hooks.connection import exporters_from_airflow, lineage_url_from_airflow, settings_from_airflow
from modelway.hooks.fields import (
    destination,
    destination_of_url,
    fields_from_airflow,
    fields_from_environment,
)
from modelway.hooks.google import google_settings
from modelway.hooks.settings import load_exporters, load_settings
from modelway.lineage.exporters.base import Destination
from modelway.lineage.schema.engine import parse_url
from modelway.platforms.google.connection import GoogleConnection, Source

SECRET = "p@ss/w:rd?#%"
JSON = {
    **{"conn_type": "postgres", "host": "db.example.com", "login": "mia@corp", "password": SECRET, "port": 5433},
    **{"schema": "line age", "extra": {"sslmode": "require", "cursor": "dictcursor"}},
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("MODELWAY_HOME", str(tmp_path))
    for name in ("LINEAGE", "MLFLOW", "OPENLINEAGE"):
        monkeypatch.delenv(f"MODELWAY_{name}_URL", raising=False)
        monkeypatch.delenv(f"AIRFLOW_CONN_MODELWAY_{name}", raising=False)
    monkeypatch.setattr(hook, "_ABSENT", set())


def embedded() -> str:
    return f"sqlite:///{load_settings().home}/lineage.db"


@pytest.mark.parametrize(
    ("connection", "own", "other"),
    [
        ("docker://me:s3cret@registry.example.com", "registry.example.com/digits", "registry.example.com:5000/digits"),
        ("docker://me:s3cret@localhost:5000", "localhost:5000/digits", "localhost/digits"),
        ('{"login": "me", "password": "s3cret", "host": "https://ghcr.io/v2/"}', "ghcr.io/me/digits", "ghcr.io.evil/x"),
        ("docker://https://me:s3cret@index.docker.io/v1/", "docker.io/me/digits", "quay.io/me/digits"),
    ],
)
def test_the_login_of_a_registry_is_for_no_other(
    connection: str, own: str, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MODELWAY_REGISTRY", connection)
    monkeypatch.setattr(hook, "lineage_url_from_airflow", embedded)
    for settings in (load_settings(), settings_from_airflow()):
        assert settings.login_for(own) == ("me", "s3cret")
        assert settings.login_for(other) == (None, None)


def test_a_login_without_a_host_is_for_the_repository_of_the_spec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MODELWAY_REGISTRY", "docker://me:s3cret@")
    assert load_settings().login_for("registry.example.com/digits") == ("me", "s3cret")


@pytest.mark.parametrize("form", ["json", "uri"])
def test_a_connection_of_the_environment_is_read_as_airflow_reads_it(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    airflows = Connection(conn_id="modelway_lineage", **{**JSON, "extra": json.dumps(JSON["extra"])})  # type: ignore[arg-type]
    monkeypatch.setenv("AIRFLOW_CONN_MODELWAY_LINEAGE", json.dumps(JSON) if form == "json" else airflows.get_uri())
    found = fields_from_environment("modelway_lineage")
    assert found == fields_from_airflow("modelway_lineage", airflows)
    url = parse_url(load_settings().lineage_url)
    assert (url.drivername, url.host, url.port) == ("postgresql+psycopg", "db.example.com", 5433)
    assert (url.username, url.password, url.database) == ("mia@corp", SECRET, "line age")
    assert dict(url.query) == {"sslmode": "require"}, "what the driver does not know is Airflow's own"
    assert load_settings().lineage_url == lineage_url_from_airflow()
    assert SECRET not in repr(found) + repr(load_settings())


def test_the_url_goes_before_the_connection_and_that_before_the_embedded_file(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().lineage_url == embedded() == settings_from_airflow().lineage_url
    monkeypatch.setenv("AIRFLOW_CONN_MODELWAY_LINEAGE", "postgres://db/lineage")
    for settings in (load_settings(), settings_from_airflow()):
        assert settings.lineage_url == "postgresql+psycopg://db/lineage"
    monkeypatch.setenv("MODELWAY_LINEAGE_URL", "sqlite:////elsewhere.db")
    for settings in (load_settings(), settings_from_airflow()):
        assert settings.lineage_url == "sqlite:////elsewhere.db"


def test_a_connection_that_only_airflow_has_is_found_in_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    had = Connection(conn_id="modelway_lineage", conn_type="generic", host="db", schema="lineage", login="mia")
    monkeypatch.setattr(hook, "connection", lambda conn_id: had if conn_id == "modelway_lineage" else None)
    assert settings_from_airflow().lineage_url == "postgresql+psycopg://mia@db/lineage"
    assert load_settings().lineage_url == embedded()


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({"conn_type": "sqlite", "host": "/srv/lineage.db"}, "sqlite:////srv/lineage.db"),
        ({"conn_type": "postgresql", "host": "db", "schema": "x"}, "postgresql+psycopg://db/x"),
        ({"conn_type": "postgres", "host": "::1", "port": 5432}, "postgresql+psycopg://[::1]:5432/"),
    ],
)
def test_databases_that_can_keep_the_lineage(given: dict[str, Any], url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MODELWAY_LINEAGE", json.dumps(given))
    assert load_settings().lineage_url == url


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("mysql://mia:s3cret@db/x", "'mysql' is not a database for the lineage"),
        ("postgres://:s3cret@/x", "names no host"),
        ("{s3cret", "AIRFLOW_CONN_MODELWAY_LINEAGE cannot be read"),
        ("postgres://mia:s3cret@db:port/x", "AIRFLOW_CONN_MODELWAY_LINEAGE cannot be read"),
        ('{"port": "s3cret"}', "AIRFLOW_CONN_MODELWAY_LINEAGE cannot be read"),
        ("postgres://[s3cret/x", "AIRFLOW_CONN_MODELWAY_LINEAGE cannot be read"),
    ],
)
def test_a_connection_that_is_none_is_reported_without_its_secret(
    text: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MODELWAY_LINEAGE", text)
    with pytest.raises(ModelwayError, match=says) as caught:
        load_settings()
    assert "s3cret" not in str(caught.value)


def test_plain_addresses_of_postgresql_get_the_driver_that_is_installed() -> None:
    for text in ("postgres://db/x", "postgresql://db/x", "postgresql+psycopg://db/x", "postgres+psycopg://db/x"):
        assert parse_url(text).drivername == "postgresql+psycopg"
    assert parse_url("postgresql+pg8000://db/x").drivername == "postgresql+pg8000"


class Runner:
    """A task's way to Airflow that answers as it is set."""

    def __init__(self, answer: ErrorType) -> None:
        self.answer, self.asked = answer, 0

    def send(self, _message: Any) -> ErrorResponse:
        self.asked += 1
        return ErrorResponse(error=self.answer, detail={})


def test_a_connection_that_could_not_be_asked_for_is_not_taken_to_be_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hook, "connection", lambda _conn_id: None)
    away = Runner(ErrorType.API_SERVER_ERROR)
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", away, raising=False)
    for _ in range(2):
        with pytest.raises(LineageUnavailable, match="cannot say whether"):
            settings_from_airflow()
    absent = Runner(ErrorType.CONNECTION_NOT_FOUND)
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", absent, raising=False)
    assert settings_from_airflow().lineage_url == settings_from_airflow().lineage_url == embedded()
    assert absent.asked == 1, "once in a process"
    assert exporters_from_airflow() == ()
    monkeypatch.setattr(hook, "_ABSENT", set())
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", away, raising=False)
    assert [each.exporter for each in exporters_from_airflow()] == ["mlflow", "openlineage"], "they may be there"


class Place:
    """A place where Airflow's own processes look for connections."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def get_connection(self, *, conn_id: str) -> None:
        if self.error:
            raise self.error


def test_airflows_own_processes_tell_absent_from_out_of_reach_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")
    places = [Place(), Place(ConnectionError("vault is sealed\nand more"))]
    monkeypatch.setattr(supervisor, "ensure_secrets_backend_loaded", lambda: places)
    with pytest.raises(LineageUnavailable, match=r"a connection modelway_lineage \(ConnectionError: vault is sealed\)"):
        settings_from_airflow()
    places[1].error = None
    assert settings_from_airflow().lineage_url == embedded()


def test_exporters_are_those_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_exporters() == exporters_from_airflow() == ()
    monkeypatch.setenv("MODELWAY_MLFLOW_URL", "https://:to%2Fken@mlflow.example.com/base")
    monkeypatch.setenv(
        "AIRFLOW_CONN_MODELWAY_OPENLINEAGE", '{"host": "http://marquez:5000", "extra": {"endpoint": "e"}}'
    )
    wanted = (
        Destination(exporter="mlflow", url="https://mlflow.example.com/base", password="to/ken"),
        Destination(exporter="openlineage", url="http://marquez:5000", options={"endpoint": "e"}),
    )
    assert load_exporters() == exporters_from_airflow() == wanted


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({"host": "https://mlflow.example.com"}, "https://mlflow.example.com"),
        ({"host": "https://mlflow.example.com/base", "port": 8443}, "https://mlflow.example.com:8443/base"),
        ({"host": "https://mlflow.example.com:1", "port": 8443}, "https://mlflow.example.com:1"),
        ({"conn_type": "http", "host": "mlflow", "port": 5000}, "http://mlflow:5000"),
        ({"conn_type": "http", "host": "mlflow", "schema": "https"}, "https://mlflow"),
        ({"conn_type": "https", "host": "mlflow", "schema": "base"}, "https://mlflow/base"),
    ],
)
def test_the_address_of_an_exporters_connection(given: dict[str, Any], url: str) -> None:
    airflows = SimpleNamespace(conn_type="", login=None, password="k", port=None, schema=None, extra=None)
    fields = fields_from_airflow("modelway_mlflow", SimpleNamespace(**vars(airflows) | given))
    assert destination("mlflow", fields) == Destination(exporter="mlflow", url=url, password="k")


def test_a_url_with_a_login_is_taken_apart() -> None:
    found = destination_of_url("mlflow", "https://mia:s3%40cret@mlflow.example.com:8443/base")
    assert (found.url, found.login, found.password) == ("https://mlflow.example.com:8443/base", "mia", "s3@cret")
    with pytest.raises(ModelwayError, match="the URL of mlflow cannot be read") as caught:
        destination_of_url("mlflow", "https://mia:s3cret@[::1")
    assert "s3cret" not in str(caught.value)


def test_an_exporter_whose_address_cannot_be_read_is_one_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELWAY_MLFLOW_URL", "https://mia:s3cret@[::1")
    monkeypatch.setenv("AIRFLOW_CONN_MODELWAY_OPENLINEAGE", "{s3cret")
    assert [(each.exporter, each.url) for each in load_exporters()] == [
        ("mlflow", "the URL of mlflow cannot be read"),
        ("openlineage", "AIRFLOW_CONN_MODELWAY_OPENLINEAGE cannot be read"),
    ]


def test_a_host_with_a_colon_of_its_own_is_written_as_airflow_writes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    airflows = Connection(conn_id="c", conn_type="http", host="https://mlflow.example.com", login="a", password="b")
    monkeypatch.setenv("AIRFLOW_CONN_MODELWAY_MLFLOW", airflows.get_uri())
    (found,) = load_exporters()
    assert (found.url, found.login, found.password) == ("https://mlflow.example.com", "a", "b")


GOOGLE = "modelway.hooks.google.GoogleHook"


@pytest.mark.parametrize("conn_type", ["google_cloud_platform", "generic"])
def test_a_connection_to_google_is_read_with_and_without_the_provider_s_form(
    conn_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = {"extra__google_cloud_platform__project": "p1", "keyfile_dict": json.dumps({"private_key": "a\\nb"})}
    monkeypatch.setenv("AIRFLOW_CONN_MODELWAY_GOOGLE", json.dumps({"conn_type": conn_type, "extra": extra}))
    found = google_settings()
    assert (found.project, found.source, found.key) == ("p1", Source.KEY, {"private_key": "a\nb"})
    # Targets share it, unless one has a connection of its own.
    assert client_from_airflow("vertex", hook=GOOGLE) == found
    monkeypatch.setenv("AIRFLOW_CONN_MODELWAY_VERTEX", json.dumps({"conn_type": conn_type, "extra": {"project": "p2"}}))
    assert client_from_airflow("vertex", hook=GOOGLE).project == "p2"
    assert client_from_airflow("cloud_run", hook=GOOGLE) == found


def test_a_connection_to_google_that_could_not_be_read_is_not_taken_to_be_absent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A backend with the machine's own credentials would be used for as long as the process runs."""
    monkeypatch.delenv("AIRFLOW_CONN_MODELWAY_GOOGLE", raising=False)
    monkeypatch.setattr(hook, "_ABSENT", set())
    away = Runner(ErrorType.API_SERVER_ERROR)
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", away, raising=False)
    monkeypatch.setattr(hook, "connection", lambda _conn_id: None)
    monkeypatch.setattr("modelway.hooks.client.connection", lambda _conn_id: None)
    forget_backends()
    with pytest.raises(LineageUnavailable, match="whether there is a connection modelway_vertex"):
        backend_from_airflow("vertex", home=tmp_path)
    # That of the target is absent, that of all of them cannot be read.
    hook._ABSENT.add("modelway_vertex")
    with pytest.raises(LineageUnavailable, match="whether there is a connection modelway_google"):
        backend_from_airflow("vertex", home=tmp_path)
    absent = Runner(ErrorType.CONNECTION_NOT_FOUND)
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", absent, raising=False)
    assert client_from_airflow("vertex", hook=GOOGLE) is None
    assert client_from_airflow("vertex", hook=GOOGLE) is None
    assert absent.asked == 1, "once in a process"


def test_without_a_connection_to_google_the_environment_s_credentials_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_MODELWAY_GOOGLE", raising=False)
    assert client_from_airflow("vertex", hook=GOOGLE) is None
    assert google_settings() == GoogleConnection()
    with pytest.raises(SecretMissing, match="there is no connection 'google_of_dev'"):
        google_settings("google_of_dev")
