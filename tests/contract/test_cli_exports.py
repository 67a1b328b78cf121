"""``modelway exports`` over a real lineage database and a real HTTP server."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from modelway.cli import exports
from modelway.errors import ModelwayError, UnknownModel
from modelway.lineage.store import open_lineage

from tests.exporter_servers import RecordingServer, recording_server
from tests.lineage_samples import make_record


def call(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    exports.add_commands(parser.add_subparsers(required=True))
    args = parser.parse_args(["exports", *arguments])
    status: int = args.run(args)
    return status


def printed(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MODELWAY_HOME", str(tmp_path))
    for name in ("LINEAGE", "MLFLOW", "OPENLINEAGE"):
        monkeypatch.delenv(f"MODELWAY_{name}_URL", raising=False)
        monkeypatch.delenv(f"AIRFLOW_CONN_MODELWAY_{name}", raising=False)
    return tmp_path


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[RecordingServer]:
    with recording_server() as started:
        monkeypatch.setenv("MODELWAY_OPENLINEAGE_URL", started.url.replace("://", "://:s3cret@"))
        yield started


def test_where_nobody_is_reported_anything_that_is_said(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call() == 0
    assert "MODELWAY_MLFLOW_URL" in capsys.readouterr().out
    assert not (home / "lineage.db").exists(), "to ask makes nothing"
    for arguments in (("--flush",), ("--all", "digits")):
        with pytest.raises(ModelwayError, match="no exporter is configured"):
            call(*arguments)


def test_what_waits_is_shown_and_sent(home: Path, server: RecordingServer, capsys: pytest.CaptureFixture[str]) -> None:
    store = open_lineage(f"sqlite:///{home}/lineage.db", exporters=["mlflow", "openlineage"])
    store.register(make_record())
    server.answers = lambda _body: 503
    assert call("--flush", "--json") == 1
    mlflow, openlineage = printed(capsys)
    assert (mlflow["exporter"], mlflow["url"], mlflow["waiting"]) == ("mlflow", None, 1)
    assert (openlineage["waiting"], openlineage["sent"], openlineage["refused"]) == (1, 0, 0)
    assert openlineage["url"] == server.url
    assert "answers 503" in openlineage["error"]
    assert openlineage["oldest"]
    assert call() == 0
    out = capsys.readouterr().out
    assert "s3cret" not in out
    head, first, second = out.splitlines()
    assert head.split()[:4] == ["EXPORTER", "WAITING", "SENT", "REFUSED"]
    assert (first.split()[:4], "not configured here" in first) == (["mlflow", "1", "0", "0"], True)
    assert (second.split()[:4], "answers 503" in second) == (["openlineage", "1", "0", "0"], True)
    server.answers = lambda _body: 200
    assert call("--flush", "--json") == 0
    assert printed(capsys)[1] == {
        **{"exporter": "openlineage", "url": server.url, "waiting": 0, "sent": 1, "refused": 0},
        **{"oldest": None, "error": ""},
    }


def test_what_was_refused_is_sent_again_when_asked_for(
    home: Path, server: RecordingServer, capsys: pytest.CaptureFixture[str]
) -> None:
    open_lineage(f"sqlite:///{home}/lineage.db", exporters=["openlineage"]).register(make_record())
    server.answers = lambda _body: (400, "too long")
    assert call("--flush", "--json") == 1
    assert printed(capsys)[0]["refused"] == 1
    server.answers = lambda _body: 200
    assert call("--flush") == 0
    assert server.taken == []
    assert call("--again", "--flush") == 0
    assert len(server.taken) == 1


def test_versions_of_before_are_reported_when_asked_for(
    home: Path, server: RecordingServer, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UnknownModel, match="nothing was registered yet"):
        call("--all", "digits")
    store = open_lineage(f"sqlite:///{home}/lineage.db")
    store.register(make_record("one"))
    store.register(make_record("two"))
    with pytest.raises(UnknownModel, match="Did you mean 'digits'"):
        call("--all", "digit")
    for _ in range(2):
        assert call("--all", "digits", "--flush") == 0
    assert [event["outputs"][0]["facets"]["version"]["datasetVersion"] for event in server.taken] == ["1", "2"]
