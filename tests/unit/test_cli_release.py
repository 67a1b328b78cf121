"""What ``modelway release`` and ``modelway rollback`` refuse, and what they ask an Airflow for."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from modelway.cli import main, release
from modelway.lineage.records.version import RolloutRecord
from modelway.lineage.store import Lineage, open_lineage

from tests.lineage_samples import make_record
from tests.unit.spec_samples import write_model

SPEC = "model: digits\nendpoint: {environments: {dev: {}, prod: {}}}\nrollout: {approval: true}\n"


class Airflow:
    """An Airflow that has the DAG, and what it was asked for."""

    def __init__(self) -> None:
        self.paused = False
        self.triggered: list[dict[str, str]] = []
        #: what happens when the run b is marked as failed; None: there is no such run
        self.when_ended: Callable[[], object] | None = None
        self.active: list[str] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/auth/token":
            return httpx.Response(201, json={"access_token": "t"})
        if request.method == "POST":
            self.triggered.append(json.loads(request.content)["conf"])
            return httpx.Response(200, json={"dag_run_id": "manual__7"})
        if request.url.path.endswith("/dags/digits"):
            return httpx.Response(200, json={"is_paused": self.paused, "max_active_runs": 1})
        if request.url.path.endswith("/dags/digits/dagRuns"):
            assert request.url.params["state"] == "running"
            return httpx.Response(200, json={"dag_runs": [{"dag_run_id": run} for run in self.active]})
        if self.when_ended is None or not request.url.path.endswith("/dagRuns/b"):
            return httpx.Response(404, json={"detail": "no such run"})
        if request.method == "PATCH":
            self.when_ended()
        return httpx.Response(200, json={"state": "running"})


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> Airflow:
    airflow, client = Airflow(), httpx.Client
    monkeypatch.setenv("AIRFLOW_CONN_MODELWAY_AIRFLOW", "http://mia:secret@airflow.example:8080")
    transport = httpx.MockTransport(airflow.answer)
    monkeypatch.setattr(httpx, "Client", lambda **options: client(transport=transport, **options))
    return airflow


@pytest.fixture(autouse=True)
def lineage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lineage:
    monkeypatch.setenv("MODELWAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MODELWAY_MODELS", str(tmp_path / "models"))
    monkeypatch.delenv("MODELWAY_LINEAGE_URL", raising=False)
    monkeypatch.delenv("AIRFLOW_CONN_MODELWAY_AIRFLOW", raising=False)
    monkeypatch.setattr("modelway.cli.asset.actor", lambda: "mia")
    write_model(tmp_path / "models", "digits", spec=SPEC)
    store = open_lineage(f"sqlite:///{tmp_path}/home/lineage.db")
    for number in (1, 2, 3):
        store.register(make_record(f"manual__{number}"))
    store.set_alias(model="digits", alias="candidate", version=3)
    return store


def roll_out(store: Lineage, run: str, version: int, *, state: str = "done", **detail: object) -> None:
    record = {"endpoint": "digits-prod", "model": "digits", "run_id": f"digits/{run}", "version": version}
    store.save_rollout(RolloutRecord(**record, state=state, detail=detail))


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    status = main(words)
    shown = capsys.readouterr()
    return status, shown.out + shown.err


def test_a_release_is_a_run_with_a_version_and_an_environment(airflow, capsys) -> None:
    status, text = call(capsys, "release", "digits", "candidate", "--reason", "at last")
    assert status == 0
    assert text.splitlines() == [
        "version 3 of digits goes to prod: run manual__7",
        "http://airflow.example:8080/dags/digits/runs/manual__7",
    ]
    reason = "release to prod by mia: at last"
    assert airflow.triggered == [{"version": "3", "rollout": "yes", "reason": reason, "environment": "prod"}]
    call(capsys, "release", "digits", "2", "--env", "dev")
    assert (airflow.triggered[-1]["version"], airflow.triggered[-1]["environment"]) == ("2", "dev")


def test_a_run_that_waits_for_another_one_says_so(airflow, capsys) -> None:
    airflow.active = ["scheduled__1"]
    status, text = call(capsys, "release", "digits", "3")
    assert status == 0
    assert text.splitlines()[-1] == "it waits for the run scheduled__1: max_active_runs of digits is 1"


def test_a_rollback_returns_to_the_stable_version_of_a_rollout_that_it_cannot_end(airflow, lineage, capsys) -> None:
    """Of another Airflow: the version that serves now is not the one that served before."""
    roll_out(lineage, "a", 1)
    roll_out(lineage, "b", 2)
    roll_out(lineage, "c", 3, state="running", stable=2)
    status, text = call(capsys, "rollback", "digits", "--env", "prod")
    assert (status, "goes back from version 3 of digits to version 2" in text) == (0, True)
    assert "version 3 is being rolled out by the run digits/c, which this command cannot end" in text
    assert [each["version"] for each in airflow.triggered] == ["2"]


def test_a_rollback_returns_to_the_version_that_served_before(airflow, lineage, capsys) -> None:
    roll_out(lineage, "a", 1)
    roll_out(lineage, "b", 2)
    roll_out(lineage, "c", 3, state="aborted")
    # Its run is of another Airflow, or was removed: it is in nobody's way.
    roll_out(lineage, "d", 3, state="running")
    status, text = call(capsys, "rollback", "digits", "--env", "prod")
    assert (status, "goes back from version 2 of digits to version 1" in text) == (0, True)
    assert airflow.triggered == [
        {"version": "1", "rollout": "rollback", "reason": "rollback from version 2 by mia", "environment": "prod"}
    ]


def begin(store: Lineage, *, step: int = 0, **detail: object) -> RolloutRecord:
    """Begin the rollout of version 2 in the run b."""
    roll_out(store, "a", 1)
    record = {"endpoint": "digits-prod", "model": "digits", "run_id": "digits/b", "version": 2, "step": step}
    store.begin_rollout(RolloutRecord(**record, state="running", detail={"stable": 1, **detail}))
    return store.rollout("digits-prod", "digits/b")


def test_a_rollout_that_has_moved_nothing_is_ended_at_once(airflow, lineage, capsys) -> None:
    begin(lineage, step=-1)
    airflow.when_ended = lambda: None
    status, text = call(capsys, "rollback", "digits", "--reason", "not today")
    assert (status, text) == (0, "the rollout of version 2 of digits is ended; version 1 gets all traffic\n")
    closed = lineage.rollout("digits-prod", "digits/b")
    assert (closed.state, closed.detail["reason"]) == ("aborted", "rollback by mia: not today")


def test_a_rollback_waits_until_the_traffic_is_back(airflow, lineage, capsys, monkeypatch) -> None:
    begun, waits = begin(lineage), []

    def abort() -> None:
        lineage.save_rollout(replace(begun, state="aborted", detail={**begun.detail, "returning": True}))

    def sleep(seconds: float) -> None:
        waits.append(lineage.rollout("digits-prod", "digits/b"))
        if len(waits) == 2:
            lineage.record_returned(waits[-1])

    airflow.when_ended = abort
    monkeypatch.setattr(release.time, "sleep", sleep)
    status, text = call(capsys, "rollback", "digits")
    assert (status, len(waits)) == (0, 2)
    assert "version 1 gets all traffic" in text


def test_a_rollback_whose_traffic_stays_says_so_and_so_does_the_next_one(airflow, lineage, capsys, monkeypatch) -> None:
    begun = begin(lineage)
    monkeypatch.setattr(release, "RETURN_SECONDS", -1.0)
    airflow.when_ended = lambda: lineage.save_rollout(
        replace(begun, state="aborted", detail={**begun.detail, "returning": True})
    )
    for _ in range(2):
        status, text = call(capsys, "rollback", "digits")
        assert (status, airflow.triggered) == (1, [])
        assert "its traffic has not been returned yet" in text
        assert "a new run of the DAG returns it as well, such as modelway release digits 1" in text
    lineage.record_returned(lineage.rollout("digits-prod", "digits/b"))
    assert "there is nothing to return to: no version before 1 served" in call(capsys, "rollback", "digits")[1]


@pytest.mark.parametrize(
    ("state", "detail", "expected", "message"),
    [
        ("done", {}, 1, "version 2 has taken over before its rollout could be ended. Run this command again"),
        ("aborted", {"stable": None}, 1, "and there is nothing to return to: no version served before"),
        ("aborted", {"stable": None, "already_served": True}, 0, "is ended; version 2 serves on"),
    ],
)
def test_a_rollback_says_how_the_rollout_ended(airflow, lineage, capsys, state, detail, expected, message) -> None:
    begun = begin(lineage, **detail)
    airflow.when_ended = lambda: lineage.save_rollout(replace(begun, state=state))
    status, text = call(capsys, "rollback", "digits")
    assert (status, message in text) == (expected, True), text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("release", "digits", "9"), "model 'digits' has no version '9'. Known: 1 to 3, latest, candidate."),
        (("release", "digits", "3", "--env", "pord"), "Known: dev, prod. Did you mean 'prod'?"),
        (("release", "digitz", "3"), "there is no model 'digitz'. Known: digits. Did you mean 'digits'?"),
        (("rollback", "digits"), "endpoint digits-prod: there is nothing to return to: no version served."),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(airflow, capsys, words, message) -> None:
    status, text = call(capsys, *words)
    assert (status, airflow.triggered) == (1, [])
    assert message in text


def test_a_paused_dag_is_not_triggered(airflow, capsys) -> None:
    airflow.paused = True
    status, text = call(capsys, "release", "digits", "3")
    assert (status, airflow.triggered) == (1, [])
    assert "the DAG digits is paused, so that its runs wait. airflow dags unpause digits." in text


def test_without_a_server_nobody_can_approve(capsys) -> None:
    status, text = call(capsys, "release", "digits", "3")
    assert status == 1
    assert (
        "a person has to approve this rollout in Airflow (rollout.approval), and this runs without its server" in text
    )
