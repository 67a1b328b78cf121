"""What a run's tasks report of it, and that no exporter fails or holds up a run."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from modelway.following.orphaned_jobs import record_end
from modelway.hooks import lineage as hook
from modelway.hooks.lineage import lineage_from_airflow
from modelway.lineage.schema.asset_tables import outbox
from modelway.operators.start import record_start
from modelway.runs.messages.code import RunPlan

from tests.exporter_servers import RecordingServer, recording_server
from tests.unit.test_planned_run import ARCHIVE, context, planned, register


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RecordingServer]:
    monkeypatch.setenv("MODELWAY_HOME", str(tmp_path))
    monkeypatch.delenv("MODELWAY_LINEAGE_URL", raising=False)
    monkeypatch.setenv("AIRFLOW_CONN_MODELWAY_REGISTRY", "http://registry")
    with recording_server() as started:
        monkeypatch.setenv("MODELWAY_OPENLINEAGE_URL", started.url)
        yield started


def reported(server: RecordingServer) -> list[tuple[str, str]]:
    return [(event["eventType"], event["run"]["facets"]["modelway_model"]["runId"]) for event in server.taken]


def test_a_run_tells_its_begin_and_its_version(server: RecordingServer) -> None:
    record_start(context(), RunPlan.from_xcom(planned()))
    register(planned(), archive=ARCHIVE)
    record_end("digits/now", "success")
    record_end("digits/now", "failed")
    assert reported(server) == [("START", "now"), ("COMPLETE", "now")], "what fails later is not the training"
    start, made = server.taken
    assert start["run"]["runId"] == made["run"]["runId"]
    assert [each["name"] for each in start["inputs"]] == ["/data/rows"]
    assert start["run"]["facets"]["nominalTime"]["nominalStartTime"] == "2026-03-01T00:00:00+00:00"


def test_a_run_that_failed_is_reported_when_it_ended(server: RecordingServer) -> None:
    record_start(context("fails"), RunPlan.from_xcom(planned()))
    record_end("digits/fails", "failed")
    assert reported(server) == [("START", "fails"), ("FAIL", "fails")]
    record_end("digits/unheard-of", "failed")
    assert len(server.taken) == 2


def test_each_try_and_each_clear_begins_and_fails_a_run_once(server: RecordingServer) -> None:
    """OpenLineage wants one START and one end of a run; one that failed and is cleared begins anew."""
    for end in ("failed", "failed", "success"):
        record_start(context(), RunPlan.from_xcom(planned()))
        record_start(context(), RunPlan.from_xcom(planned()))
        if end == "success":
            register(planned(), archive=ARCHIVE)
            record_start(context(), RunPlan.from_xcom(planned()))
        record_end("digits/now", end)
        record_end("digits/now", end)
    assert [kind for kind, _ in reported(server)] == ["START", "FAIL", "START", "FAIL", "START", "COMPLETE"]


def test_an_exporter_that_is_down_fails_nothing_and_loses_nothing(
    server: RecordingServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hook, "SECONDS", 1.0)
    server.answers = lambda _body: 503
    with caplog.at_level(logging.WARNING):
        record_start(context(), RunPlan.from_xcom(planned()))
        made = register(planned(), archive=ARCHIVE)
    assert made["version"] == 1
    assert "answers 503" in caplog.text
    assert "modelway exports" in caplog.text
    server.answers = lambda _body: 200
    record_end("digits/now", "success")
    assert reported(server) == [("START", "now"), ("COMPLETE", "now")]


@pytest.mark.parametrize("wrong", ["https://[::1", "nowhere", "http://mia:s3cret@127.0.0.1:1"])
def test_an_address_that_is_wrong_fails_no_begin(
    wrong: str, server: RecordingServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELWAY_OPENLINEAGE_URL", wrong)
    with caplog.at_level(logging.WARNING):
        record_start(context(), RunPlan.from_xcom(planned()))
        assert register(planned(), archive=ARCHIVE)["version"] == 1
    assert caplog.records
    assert "s3cret" not in caplog.text
    (kept,) = lineage_from_airflow().exports.states()
    assert (kept.exporter, kept.waiting) == ("openlineage", 2)
    assert kept.error


def test_without_an_exporter_nothing_is_kept_and_the_lineage_is_not_even_opened(
    server: RecordingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MODELWAY_OPENLINEAGE_URL")
    record_start(context(), RunPlan.from_xcom(planned()))
    record_end("digits/now", "failed")
    assert not (tmp_path / "lineage.db").exists()
    register(planned(), archive=ARCHIVE)
    assert lineage_from_airflow().exports.states() == []


def test_a_lineage_that_is_unavailable_fails_no_begin(
    server: RecordingServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELWAY_LINEAGE_URL", "postgresql://mia:s3cret@127.0.0.1:1/lineage")
    with caplog.at_level(logging.WARNING):
        record_start(context(), RunPlan.from_xcom(planned()))
        record_end("digits/now", "failed")
    assert "the exporters receive nothing" in caplog.text
    assert "s3cret" not in caplog.text


def test_what_is_reported_is_plain_data_without_the_configuration(server: RecordingServer) -> None:
    server.answers = lambda _body: 503
    record_start(context(), RunPlan.from_xcom(planned()))
    store = lineage_from_airflow()
    with store.engine.connect() as connection:
        (row,) = connection.execute(outbox.select())
    assert row.fact["run"].keys() >= {"dag_id", "commit", "datasets"}
    assert "spec" not in row.fact["run"]
