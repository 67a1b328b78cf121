"""Commands on a machine without the database: what they print is what they print beside it."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import Header, HTTPException
from modelway.cli import main
from modelway.lineage.records.rollout import has_moved
from modelway.lineage.records.version import FailureRecord, RolloutRecord
from modelway.lineage.store import open_lineage
from modelway.ui.app import create_app
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from tests.lineage_samples import make_record
from tests.served_pages import served
from tests.unit.spec_samples import write_model

TOKEN = "a token of this test"


def readable(authorization: Annotated[str | None, Header()] = None) -> frozenset[str]:
    if authorization != f"Bearer {TOKEN}":
        raise HTTPException(401, "Not authenticated")
    return frozenset(["digits", "letters"])


@pytest.fixture(scope="module")
def lineage(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('remote') / 'lineage.db'}"
    store = open_lineage(url)
    for number in range(1, 53):
        store.register(make_record(f"run-{number}", metrics={"loss": float("nan") if number == 2 else 1 / number}))
    store.register(replace(make_record("other"), description="another"))
    store.register(make_record("r", model="letters"))
    store.register(make_record("r", model="secret"))
    store.set_alias(model="digits", alias="champion", version=1, actor="mia", reason="best")
    store.record_weights(endpoint="digits", model="digits", weights={1: 90, 2: 10})
    failure = FailureRecord(
        model="digits", dag_id="digits", run_id="run-1", key="train", attempt=1, cause="no memory", at=datetime.now(UTC)
    )
    store.record_failure(failure)
    return url


@pytest.fixture(scope="module")
def server(lineage: str) -> Iterator[str]:
    app = Starlette(routes=[Mount("/modelway", create_app(store_url=lambda: lineage, readable_dags=readable))])
    with served(app) as url:
        yield url


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MODELWAY_HOME", str(tmp_path / "home"))
    for name in ("MODELWAY_SERVER", "MODELWAY_TOKEN", "MODELWAY_LINEAGE_URL", "AIRFLOW_CONN_MODELWAY_AIRFLOW"):
        # Set and deleted, so that what the command sets is undone.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    "command",
    [
        "versions digits",
        "versions digits --lowest loss --json",
        "show digits 2",
        "show digits champion --json",
        "show letters latest",
        "diff digits 1 3",
        "serving digits",
        "serving --at 2999-01-01 --json",
        "explain run-1 --model digits",
    ],
)
def test_a_command_prints_the_same_from_a_server(
    command: str, server: str, lineage: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODELWAY_LINEAGE_URL", lineage)
    assert main(command.split()) == 0
    beside = capsys.readouterr().out
    assert beside.strip()
    monkeypatch.delenv("MODELWAY_LINEAGE_URL")
    monkeypatch.setenv("MODELWAY_TOKEN", TOKEN)
    assert main(["--server", server, *command.split()]) == 0
    assert capsys.readouterr().out == beside


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("versions secret", "there is no model 'secret' that you may read"),
        ("show digits 99", "model 'digits' has no version '99'"),
        ("explain nothing", "nothing"),
    ],
)
def test_what_is_not_there_is_said_as_beside_the_database(
    command: str, words: str, server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODELWAY_TOKEN", TOKEN)
    assert main(["--server", server, *command.split()]) == 1
    assert words in capsys.readouterr().err


def test_a_token_that_is_missing_or_not_valid_is_one_sentence(
    server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--server", server, "versions"]) == 1
    assert "no login for Airflow is known" in capsys.readouterr().err
    monkeypatch.setenv("MODELWAY_TOKEN", "of yesterday")
    assert main(["--server", server, "versions"]) == 1
    assert "the token is not valid, or has expired" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--server", server, "gc"])
    assert "--server goes with versions" in capsys.readouterr().err
    assert main(["--server", "http://127.0.0.1:9", "versions"]) == 1
    assert "Airflow's API does not answer" in capsys.readouterr().err


class Airflow:
    """Its own API, as far as a rollback calls it, before a lineage of its own."""

    def __init__(self, url: str) -> None:
        self.store = open_lineage(url)
        self.calls: list[tuple[str, Any]] = []

    async def answer(self, request: Request) -> JSONResponse:
        if request.method == "POST":
            self.calls.append(("trigger", (await request.json())["conf"]))
            return JSONResponse({"dag_run_id": "manual__7"})
        if request.method == "PATCH":
            self.calls.append(("patch", await request.json()))
            # As the listener does: it leaves one open that has moved nothing.
            (running,) = (each for each in self.store.rollouts("digits") if each.state == "running")
            if has_moved(running):
                self.store.save_rollout(replace(running, state="aborted"))
        return JSONResponse({"state": "running", "is_paused": False, "max_active_runs": 0})


def test_a_rollback_ends_a_rollout_or_returns_to_the_version_before_from_a_machine_without_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    airflow = Airflow(url := f"sqlite:///{tmp_path / 'lineage.db'}")
    for number in (1, 2):
        airflow.store.register(make_record(f"run-{number}"))
    rollout = RolloutRecord(
        endpoint="digits", run_id="digits/run-1", model="digits", version=1, state="done", detail={"stable": None}
    )
    airflow.store.save_rollout(rollout)
    airflow.store.record_weights(endpoint="digits", model="digits", weights={1: 90, 2: 10})
    second = replace(rollout, run_id="digits/run-2", version=2, state="running", step=0, detail={"stable": 1})
    airflow.store.save_rollout(second)
    write_model(tmp_path / "models", "digits", spec="model: digits\n")
    monkeypatch.setenv("MODELWAY_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("MODELWAY_TOKEN", TOKEN)
    pages = create_app(store_url=lambda: url, readable_dags=readable)
    api = Route("/api/v2/{path:path}", airflow.answer, methods=["GET", "POST", "PATCH"])
    with served(Starlette(routes=[api, Mount("/modelway", pages)])) as place:

        def roll_back() -> str:
            assert main(["--server", place, "rollback", "digits", "--reason", "slow"]) == 0
            return capsys.readouterr().out

        assert "the rollout of version 2 of digits is ended; version 1 gets all traffic" in roll_back()
        airflow.store.save_rollout(replace(second, run_id="digits/run-3", state="done"))
        assert "the traffic of the endpoint digits goes back from version 2 of digits to version 1" in roll_back()
        airflow.store.save_rollout(replace(second, run_id="digits/run-4", step=-1))
        # A version is deployed, and has no traffic yet: the run that follows closes its rollout.
        assert "version 2 of digits is ended; version 1 gets all traffic: run manual__7" in roll_back()
    (first, ended), (then, conf), *closing = airflow.calls
    assert closing == [("patch", ended), ("trigger", conf)]
    assert (first, ended["state"], then, conf["version"], conf["rollout"]) == (
        *("patch", "failed", "trigger"),
        *("1", "rollback"),
    )
    assert ended["note"].endswith(": slow")
    assert conf["reason"].endswith(": slow")


def test_the_api_describes_itself_to_those_who_are_signed_in(server: str) -> None:
    import httpx

    place = f"{server}/modelway/api/openapi.json"
    assert httpx.get(place).status_code == 401
    found = httpx.get(place, headers={"authorization": f"Bearer {TOKEN}"}).json()
    assert "/api/models/{model}/versions/{version}" in found["paths"]
    assert [path for path in found["paths"] if not path.startswith("/api/")] == []
    assert [path for path, known in found["paths"].items() if not known["get"].get("description")] == []
