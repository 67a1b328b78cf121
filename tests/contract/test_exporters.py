"""What every exporter promises, and the outbox before them; a new file in the room is tested by being there."""

import json
import math
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from modelway.errors import CapabilityMissing, ModelwayError
from modelway.hooks.lineage import flush_exporters, lineage_from_environment
from modelway.lineage.export import delivery
from modelway.lineage.export.run_facts import run_from_dict
from modelway.lineage.exporters.base import (
    FACT_KINDS,
    Destination,
    connect_exporter,
    exporter_kinds,
)
from modelway.lineage.records.exports import ExporterState
from modelway.lineage.records.version import RunRecord
from modelway.lineage.schema.asset_tables import outbox as rows
from modelway.lineage.schema.engine import reading, writing
from modelway.lineage.store import Lineage, open_lineage
from modelway.ports import known
from sqlalchemy import delete, select, update

from tests.exporter_servers import RecordingServer, recording_server
from tests.lineage_samples import make_record
from tests.sweep_samples import sweep_record

REFUSED = (400, json.dumps({"error_code": "INVALID_PARAMETER_VALUE", "message": "the name is too long"}))


@pytest.fixture(params=known("exporters"))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server() -> Iterator[RecordingServer]:
    with recording_server() as started:
        yield started


@pytest.fixture
def store(url: str, name: str) -> Lineage:
    return open_lineage(url, exporters=[name])


@pytest.fixture
def there(name: str, server: RecordingServer) -> Destination:
    return Destination(exporter=name, url=server.url)


def facts(store: Lineage) -> list[Any]:
    with reading(store.engine) as connection:
        return list(connection.execute(select(rows).order_by(rows.c.id)))


def state(store: Lineage) -> ExporterState:
    (only,) = store.exports.states()
    return only


def waiting(store: Lineage, count: int) -> ExporterState:
    found = state(store)
    assert (found.waiting, found.sent, found.refused) == (count, 0, 0)
    assert found.claimed_until is None, "what could not be sent is free for whoever comes next"
    return found


def test_each_exporter_is_found_by_its_name_and_says_what_it_wants(name: str) -> None:
    assert exporter_kinds(name)
    assert exporter_kinds(name) <= set(FACT_KINDS)
    with pytest.raises(CapabilityMissing, match="Did you mean 'mlflow'"):
        connect_exporter(Destination(exporter="mlflwo", url="http://127.0.0.1:1"))


def test_a_fact_is_kept_in_the_transaction_that_writes_it(store: Lineage, monkeypatch: pytest.MonkeyPatch) -> None:
    from modelway.lineage.write import register

    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(register, "point_alias", fails)
        with pytest.raises(RuntimeError):
            store.register(make_record(alias="candidate"))
    assert facts(store) == [], "no fact of a version that is not there"
    store.register(make_record(alias="candidate"))
    kept = facts(store)
    assert {row.kind for row in kept} >= {"version-registered"}
    assert {row.fact["version"] for row in kept} == {1}
    store.register(make_record(alias="candidate"))
    assert facts(store) == kept, "the same again is no new fact"


def test_the_candidates_of_a_sweep_follow_their_version(store: Lineage, name: str) -> None:
    store.register(sweep_record())
    wanted = ["c01", "c02", "c03", "c04"] if "candidate-ended" in exporter_kinds(name) else []
    kinds = [row.kind for row in facts(store)]
    assert kinds == ["version-registered", *["candidate-ended"] * len(wanted)]
    assert [row.fact["candidate"]["name"] for row in facts(store)[1:]] == wanted
    store.register(sweep_record())
    assert len(facts(store)) == len(kinds), "the same again is no new fact"
    with writing(store.engine) as connection:
        connection.execute(delete(rows))
    assert store.exports.add_model("digits", exporters=[name]) == len(kinds)
    assert [row.kind for row in facts(store)] == kinds


def test_who_is_not_configured_is_reported_nothing(url: str) -> None:
    store = open_lineage(url)
    store.register(make_record(alias="candidate"))
    assert (facts(store), store.exports.states()) == ([], [])


def test_a_server_that_is_down_loses_nothing(store: Lineage, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    store.register(make_record())
    nobody = Destination(exporter=name, url=f"http://127.0.0.1:{port}")
    for attempt in (1, 2):
        (outcome,) = store.exports.flush([nobody], seconds=5)
        assert (outcome.sent, outcome.refused) == (0, 0)
        assert "does not answer" in outcome.error
        found = waiting(store, 1)
        assert found.error == outcome.error
        assert facts(store)[0].attempts == attempt


@pytest.mark.parametrize("answer", ["close", 500, 503, 401, 403, 404, 405, 408, 429, 302])
def test_what_says_nothing_about_the_fact_holds_up_those_that_follow(
    store: Lineage, there: Destination, server: RecordingServer, answer: Any
) -> None:
    store.register(make_record("one"))
    store.register(make_record("two"))
    server.answers = lambda _body: answer if answer == "close" else (answer, "not today")
    (outcome,) = store.exports.flush([there], seconds=5)
    assert (outcome.sent, outcome.refused) == (0, 0)
    found = waiting(store, 2)
    assert ("does not answer" if answer == "close" else f"answers {answer}: not today") in found.error
    assert [row.attempts for row in facts(store)] == [1, 0]


def test_a_server_that_hangs_costs_no_more_than_the_time_given(
    store: Lineage, there: Destination, server: RecordingServer
) -> None:
    store.register(make_record())
    server.answers = lambda _body: "hang"
    (outcome,) = store.exports.flush([there], seconds=0.5)
    assert outcome.sent == 0
    assert outcome.error
    waiting(store, 1)


def test_an_address_that_is_none_is_reported(store: Lineage, name: str) -> None:
    store.register(make_record())
    for wrong in ("mlflow.example.com", "http://", "ftp://example.com", "http://[::1", "http://127.0.0.1:99999"):
        (outcome,) = store.exports.flush([Destination(exporter=name, url=wrong)], seconds=5)
        assert outcome.error, wrong
    waiting(store, 1)


def test_what_is_refused_as_it_is_holds_up_nothing(store: Lineage, there: Destination, server: RecordingServer) -> None:
    server.answers = lambda _body: REFUSED
    store.register(make_record("one"))
    store.register(make_record("two"))
    (outcome,) = store.exports.flush([there], seconds=5)
    assert (outcome.sent, outcome.refused, outcome.error) == (0, 2, "")
    found = state(store)
    assert (found.waiting, found.sent, found.refused) == (0, 0, 2)
    assert "answers 400: the name is too long" in found.error
    assert store.exports.flush([there], seconds=5)[0].refused == 0, "it is not tried again by itself"
    assert store.exports.retry_refused() == 2
    waiting(store, 2)


def test_no_secret_is_stored_or_exported(
    url: str, name: str, server: RecordingServer, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_lineage(url, exporters=[name])
    run = replace(
        make_record().run,
        datasets=tuple(
            replace(each, uri="https://mia:s3cret@data.example.com/x?sig=s3cret") for each in make_record().run.datasets
        ),
    )
    store.exports.record_run_started(model="digits", run=run)
    store.register(make_record(run=run))
    server.answers = lambda body: (400, f"I got s3cret-token and {json.dumps(body)}")
    for login in (None, "mia"):
        destination = Destination(exporter=name, url=server.url, login=login, password="s3cret-token")
        assert "s3cret" not in repr(destination)
        store.exports.flush([destination], seconds=5)
        store.exports.retry_refused()
        assert server.requests[-1]["authorization"].split()[0] == ("Basic" if login else "Bearer")
    store.exports.flush([destination], seconds=5)
    assert state(store).refused > 0
    kept = json.dumps([[row.fact, row.error] for row in facts(store)])
    for text in (kept, caplog.text, json.dumps([each["body"] for each in server.requests])):
        assert "s3cret" not in text


def _events_store(url: str) -> Lineage:
    return open_lineage(url, exporters=["openlineage"])


def _order(server: RecordingServer) -> list[int]:
    return [event["run"]["facets"]["modelway_model"]["version"] for event in server.taken]


def test_what_waited_is_sent_in_order_and_once(url: str, server: RecordingServer) -> None:
    store, there = _events_store(url), Destination(exporter="openlineage", url=server.url)
    store.exports.record_run_started(model="digits", run=make_record("one").run)
    store.register(make_record("one"))
    server.answers = lambda _body: 503
    assert store.exports.flush([there], seconds=5)[0].error
    store.register(make_record("two"))
    server.answers = lambda _body: 200
    (outcome,) = store.exports.flush([there], seconds=30)
    assert (outcome.sent, outcome.error) == (3, "")
    assert [event["eventType"] for event in server.taken] == ["START", "COMPLETE", "COMPLETE"]
    assert server.taken[0]["run"]["runId"] == server.taken[1]["run"]["runId"] != server.taken[2]["run"]["runId"]
    assert store.exports.flush([there], seconds=30)[0].sent == 0
    assert len(server.taken) == 3


def test_one_that_is_refused_leaves_the_order_of_the_rest(url: str, server: RecordingServer) -> None:
    store, there = _events_store(url), Destination(exporter="openlineage", url=server.url)
    for run in ("one", "two", "three"):
        store.register(make_record(run))
    server.answers = lambda body: REFUSED if body["run"]["facets"]["modelway_model"]["runId"] == "two" else 200
    (outcome,) = store.exports.flush([there], seconds=30)
    assert (outcome.sent, outcome.refused) == (2, 1)
    assert _order(server) == [1, 3]


def test_an_answer_that_is_lost_means_that_it_is_reported_again(url: str, server: RecordingServer) -> None:
    store, there = _events_store(url), Destination(exporter="openlineage", url=server.url)
    store.register(make_record())
    server.answers = lambda _body: "close"
    store.exports.flush([there], seconds=5)
    server.answers = lambda _body: 200
    assert store.exports.flush([there], seconds=5)[0].sent == 1
    first, second = (each["body"] for each in server.requests)
    assert first == second, "the same event, by which the other side knows it"


def test_two_senders_at_once_send_each_row_once_and_in_order(url: str, server: RecordingServer) -> None:
    store = _events_store(url)
    for number in range(1, 21):
        store.register(make_record(f"run-{number}"))
    there = Destination(exporter="openlineage", url=server.url)
    begin = threading.Barrier(4)
    failed = []

    def send() -> None:
        begin.wait()
        try:
            open_lineage(url).exports.flush([there], seconds=60)
        except Exception as error:
            failed.append(error)

    senders = [threading.Thread(target=send) for _ in range(4)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert failed == []
    store.exports.flush([there], seconds=60)
    assert _order(server) == list(range(1, 21))
    assert server.most_at_once == 1


def _claim_until(store: Lineage, moment: datetime) -> None:
    with writing(store.engine) as connection:
        connection.execute(update(rows).values(claimed_until=moment))


@pytest.mark.parametrize(
    ("left", "sent"),
    [
        (timedelta(seconds=60), 0),
        # Made on a machine whose clock is ten seconds ahead.
        (delivery.CLAIM + timedelta(seconds=10), 0),
        (timedelta(seconds=-1), 1),
        # Made before the clock was set back by a day.
        (timedelta(days=1), 1),
    ],
)
def test_the_claim_of_a_sender_that_was_killed_runs_out(
    url: str, server: RecordingServer, left: timedelta, sent: int
) -> None:
    store, there = _events_store(url), Destination(exporter="openlineage", url=server.url)
    store.register(make_record())
    _claim_until(store, datetime.now(UTC) + left)
    (outcome,) = store.exports.flush([there], seconds=5)
    assert (outcome.sent, outcome.error) == (sent, "")
    assert state(store).waiting == 1 - sent


def test_a_row_that_another_claimed_since_it_was_looked_at_is_left_alone(
    url: str, server: RecordingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, there = _events_store(url), Destination(exporter="openlineage", url=server.url)
    store.register(make_record())
    first = delivery._first
    seen = first(store.engine, "openlineage")
    # The other one's clock continues while this one waits for its turn at the database.
    _claim_until(store, datetime.now(UTC) + delivery.CLAIM + timedelta(seconds=1))
    monkeypatch.setattr(delivery, "_first", lambda *_: seen)
    (outcome,) = store.exports.flush([there], seconds=5)
    assert (outcome.sent, outcome.error, server.requests) == (0, "", [])


def test_a_sender_whose_claim_ran_out_notes_nothing_and_ends(
    url: str, server: RecordingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, there = _events_store(url), Destination(exporter="openlineage", url=server.url)
    store.register(make_record("one"))
    store.register(make_record("two"))
    another = datetime.now(UTC) + timedelta(seconds=50)

    def slow(_body: Any) -> int:
        _claim_until(store, another)
        return 200

    server.answers = slow
    store.exports.flush([there], seconds=5)
    assert len(server.taken) == 1, "it does not continue with the next one"
    assert [row.sent_at for row in facts(store)] == [None, None]


def test_one_exporter_that_hangs_holds_up_no_other(url: str, server: RecordingServer) -> None:
    store = open_lineage(url, exporters=["mlflow", "openlineage"])
    store.register(make_record())
    server.answers = lambda body: 200 if body and "eventType" in body else "hang"
    there = [Destination(exporter=name, url=server.url) for name in ("mlflow", "openlineage")]
    mlflow, openlineage = store.exports.flush(there, seconds=2)
    assert (openlineage.sent, openlineage.error) == (1, "")
    assert (mlflow.sent, bool(mlflow.error)) == (0, True)


def test_a_fact_that_an_exporter_cannot_tell_holds_up_nothing(
    url: str, server: RecordingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from modelway.lineage.exporters.openlineage import exporter as openlineage

    store, there = _events_store(url), Destination(exporter="openlineage", url=server.url)
    store.register(make_record("one"))
    store.register(make_record("two"))
    made: Callable[..., Any] = openlineage.run_event

    def broken(fact: Any, **options: Any) -> Any:
        if fact.run.run_id == "one":
            raise KeyError("no such thing")
        return made(fact, **options)

    monkeypatch.setattr(openlineage, "run_event", broken)
    (outcome,) = store.exports.flush([there], seconds=5)
    assert (outcome.sent, outcome.refused) == (1, 1)
    assert "KeyError" in state(store).error


def test_a_run_that_failed_is_reported_only_where_it_began_and_made_nothing(url: str, server: RecordingServer) -> None:
    store, there = _events_store(url), Destination(exporter="openlineage", url=server.url)
    for run_id in ("failed", "made", "other"):
        store.exports.record_run_started(model="digits", run=make_record(run_id).run)
    store.register(make_record("made"))
    for run_id in ("failed", "made", "unheard-of"):
        store.exports.record_run_failed(dag_id="digits", run_id=run_id)
    store.exports.flush([there], seconds=30)
    ends = [(each["eventType"], each["run"]["facets"]["modelway_model"]["runId"]) for each in server.taken[3:]]
    assert ends == [("COMPLETE", "made"), ("FAIL", "failed")]


def test_a_model_of_before_is_reported_as_a_whole_once(url: str, server: RecordingServer) -> None:
    old = open_lineage(url)
    old.register(make_record("one", alias="champion"))
    old.register(make_record("two", metrics={"loss": math.nan}))
    store, there = _events_store(url), Destination(exporter="openlineage", url=server.url)
    store.register(make_record("three"))
    assert store.exports.add_model("digits", exporters=["openlineage"]) == 2
    assert store.exports.add_model("digits", exporters=["openlineage"]) == 0
    assert store.exports.add_model("digits", exporters=["mlflow"]) == 4, "three versions and an alias"
    old.record_image(model="digits", version=1, builder="oci", digest=make_record().archive_digest, reference="r")
    old.record_weights(endpoint="digits", model="digits", weights={1: 100})
    old.record_weights(endpoint="digits", model="digits", weights={1: 0, 2: 100})
    old.register(make_record("four"))
    assert store.exports.add_model("digits", exporters=["mlflow"]) == 4, "a version, the alias, an image and a weight"
    store.exports.flush([there], seconds=30)
    assert _order(server) == [3, 1, 2]
    with pytest.raises(ModelwayError, match="no model 'digit'"):
        store.exports.add_model("digit", exporters=["mlflow"])


def test_what_a_begun_run_tells_is_read_again_as_it_was(url: str) -> None:
    store, run = _events_store(url), make_record().run
    store.exports.record_run_started(model="digits", run=run)
    (row,) = facts(store)
    outcome = run_from_dict(row.fact["run"])
    apart = {"spec": {}, "stages": (), "figures": (), "importances": (), "diff_digest": None, "seconds": None}
    assert outcome == replace(run, **apart, gpu_seconds=None)
    bare = RunRecord(dag_id="digits", run_id="bare")
    store.exports.record_run_started(model="digits", run=bare)
    assert run_from_dict(facts(store)[1].fact["run"]) == bare


def test_the_claim_outlives_what_it_is_for() -> None:
    assert delivery.CLAIM.total_seconds() >= delivery.FACT_SECONDS + 30


def test_what_a_command_writes_is_exported(
    server: RecordingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELWAY_HOME", str(tmp_path))
    monkeypatch.delenv("MODELWAY_LINEAGE_URL", raising=False)
    monkeypatch.setenv("MODELWAY_OPENLINEAGE_URL", server.url)
    lineage = lineage_from_environment()
    lineage.register(make_record())
    lineage.record_weights(endpoint="digits", model="digits", weights={1: 100})
    flush_exporters()
    assert [body.get("eventType", "weight") for body in server.taken] == ["COMPLETE", "weight"]
