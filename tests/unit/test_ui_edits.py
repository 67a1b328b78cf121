"""What the pages write: acts on a running rollout, and a version's description and tags; and who is refused."""

import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from modelway.errors import ChangedMeanwhile, NotWritable
from modelway.lineage.records.version import RolloutRecord
from modelway.lineage.store import open_lineage
from sqlalchemy import Engine
from starlette.testclient import TestClient

from tests import mounted_pages
from tests.lineage_samples import make_record
from tests.mounted_pages import MountedPages

PLAN = [{"weight": weight, "hold_seconds": 600.0, "requests": 0} for weight in (10, 50, 100)]
DETAIL = {"stable": 1, "plan": PLAN, "since": 1000.0, "target": "local"}
RUNNING = RolloutRecord(
    endpoint="digits", run_id="digits/r2", model="digits", version=2, state="running", step=0, detail=DETAIL
)
MIA, EVE = "mia:digits", "eve:digits"


@pytest.fixture(scope="module")
def module_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The lineage that each test gets a copy of."""
    filled = f"sqlite:///{tmp_path_factory.mktemp('lineage') / 'lineage.db'}"
    store = open_lineage(filled)
    for number in (1, 2):
        store.register(make_record(f"run-{number}", description="as trained"))
    store.register(make_record("r", model="secret"))
    store.record_weights(endpoint="digits", model="digits", weights={1: 90, 2: 10})
    store.save_rollout(RUNNING)
    return filled


@pytest.fixture
def url(copied_url: str) -> str:
    return copied_url


@pytest.fixture
def client(pages: MountedPages, url: str) -> TestClient:
    return pages.client(url, headers={"reader": "digits"})


def steer(client: TestClient, act: str, *, writer: str = MIA, **more: Any) -> httpx.Response:
    wish = {"run": "digits/r2", "step": 0, "act": act, "reason": "a talk", **more}
    return client.post("/modelway/api/endpoints/digits/rollout", json=wish, headers={"writer": writer})


def describe(client: TestClient, writer: str = MIA, version: str = "2", **more: Any) -> httpx.Response:
    note = {"description": " the <best> so far ", "tags": ["eu", " eu ", "gpu", ""], "since": None, **more}
    path = f"/modelway/api/models/digits/versions/{version}/note"
    return client.post(path, json=note, headers={"writer": writer})


def endpoint_page(client: TestClient) -> str:
    return client.get("/modelway/endpoints/digits", headers={"accept": "text/html"}).text


def offered(client: TestClient) -> list[str]:
    return re.findall(r'data-action="(\w+)"', endpoint_page(client))


def test_a_rollout_is_held_continued_and_promoted_and_the_page_offers_what_fits(client: TestClient, url: str) -> None:
    assert offered(client) == ["close", "hold", "weight", "promote", "end", "release"]
    answer = steer(client, "hold")
    assert (answer.status_code, answer.json()["rollout"]["detail"]["held"]["by"]) == (200, "mia")
    assert offered(client) == ["close", "continue", "weight", "promote", "end", "release"]
    assert "by mia: a talk" in endpoint_page(client)
    assert steer(client, "continue").status_code == 200
    assert steer(client, "promote").status_code == 200
    record = open_lineage(url).rollout("digits", "digits/r2")
    assert record is not None
    assert record.detail["leaves"] == {"by": "mia", "reason": "a talk"}
    happened = open_lineage(url).events("digits", limit=3)
    kinds = [(each.kind, each.actor, each.detail["reason"]) for each in happened]
    assert kinds == [(f"rollout-{act}", "mia", "a talk") for act in ("promote", "continue", "hold")]
    history = client.get("/modelway/models/digits/versions/2", headers={"accept": "text/html"}).text
    assert "rollout-promote by mia: a talk" in history


def test_the_second_of_two_people_is_refused_with_the_name_of_the_first(client: TestClient) -> None:
    assert steer(client, "hold").status_code == 200
    answer = steer(client, "hold", writer=EVE)
    assert (answer.status_code, "mia holds it already: a talk" in answer.json()["detail"]) == (409, True)
    steer(client, "continue", writer=EVE)
    assert steer(client, "weight", weight=30).status_code == 200
    answer = steer(client, "promote", writer=EVE)
    assert (answer.status_code, "mia ended this step a moment ago" in answer.json()["detail"]) == (409, True)


def test_what_does_not_fit_the_rollout_any_more_is_refused(client: TestClient, url: str) -> None:
    later = steer(client, "hold", step=1)
    assert (later.status_code, "is at 10 % by now" in later.json()["detail"]) == (409, True)
    other = steer(client, "hold", run="digits/another")
    assert (other.status_code, "that rollout is over by now" in other.json()["detail"]) == (409, True)
    store = open_lineage(url)
    store.save_rollout(replace(RUNNING, detail={**DETAIL, "waits_for": "approval"}))
    waits = steer(client, "promote")
    assert (waits.status_code, "Approve or reject it at the task" in waits.json()["detail"]) == (409, True)
    assert "It waits for a person" in endpoint_page(client)
    store.save_rollout(replace(RUNNING, state="aborted", detail={**DETAIL, "reason": "by hand"}))
    assert steer(client, "hold").status_code == 409


def test_who_may_not_edit_the_dag_writes_nothing(client: TestClient, url: str) -> None:
    for answer in (steer(client, "hold", writer="vic:"), describe(client, writer="vic:letters")):
        assert (answer.status_code, "right to edit the DAG digits" in answer.json()["detail"]) == (403, True)
    assert open_lineage(url).rollout("digits", "digits/r2") == RUNNING
    client.headers.pop("reader")
    assert {steer(client, "hold").status_code, describe(client).status_code} == {401}
    client.headers["reader"] = "letters"
    assert {steer(client, "hold").status_code, describe(client).status_code} == {404}


@pytest.mark.parametrize(
    "wish",
    [
        {"act": "weight"},
        {"act": "hold", "weight": 5},
        {"act": "weight", "weight": 100},
        {"act": "weight", "weight": 0},
        {"act": "explode"},
        {"reason": "   "},
        {"reason": "x" * 501},
        {"step": "<b>"},
        {"by": "somebody else"},
    ],
)
def test_a_wish_that_makes_no_sense_is_refused(client: TestClient, url: str, wish: dict[str, Any]) -> None:
    assert steer(client, **{"act": "hold", **wish}).status_code in (400, 422)
    assert open_lineage(url).rollout("digits", "digits/r2") == RUNNING


def test_what_is_wrong_with_a_wish_is_said_in_one_sentence(client: TestClient) -> None:
    answer = steer(client, "hold", reason="   ")
    said = {"detail": "reason: String should have at least 1 character", "error": "RequestValidationError"}
    assert (answer.status_code, answer.json()) == (422, said)
    half = client.post(
        "/modelway/api/endpoints/digits/rollout",
        content=b'{"run": "digits/r2", "step": 0, "act": "hold", "reason": "\\ud800"}',
        headers={"writer": MIA, "content-type": "application/json"},
    )
    assert (half.status_code, "reason: " in half.json()["detail"]) == (422, True)
    page = client.get("/modelway/models/digits?before=many", headers={"accept": "text/html"})
    assert (page.status_code, "before: Input should be a valid integer" in page.text) == (422, True)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-type": "application/json", "sec-fetch-site": "cross-site"}, 403),
        ({"content-type": "application/json", "sec-fetch-site": "same-site"}, 403),
    ],
)
def test_what_a_page_of_another_site_sends_is_refused(
    client: TestClient, url: str, headers: dict[str, str], status: int
) -> None:
    body = b'{"run": "digits/r2", "step": 0, "act": "hold", "reason": "a trick"}'
    answer = client.post("/modelway/api/endpoints/digits/rollout", content=body, headers={**headers, "writer": MIA})
    assert answer.status_code == status
    assert open_lineage(url).rollout("digits", "digits/r2") == RUNNING


def test_description_and_tags_are_edited_and_what_they_were_stays_in_the_history(client: TestClient, url: str) -> None:
    first = describe(client)
    assert first.status_code == 200
    note = first.json()["note"]
    assert (note["description"], note["tags"], note["actor"]) == ("the <best> so far", ["eu", "gpu"], "mia")
    assert describe(client, since=None).json()["note"] == note, "the same again is no change"
    page = client.get("/modelway/models/digits/versions/2", headers={"accept": "text/html"}).text
    assert "the &lt;best&gt; so far" in page
    assert '<span class="tag">gpu</span>' in page
    second = describe(client, EVE, description="", tags=[], since=note["at"])
    assert second.status_code == 200
    found = open_lineage(url).version("digits", 2)
    assert (found.description, found.note and found.note.tags) == ("", ())
    assert found.summary.description == "as trained"
    edits = [each.detail["description"] for each in found.events if each.kind == "version-edited"]
    assert edits == ["", "the <best> so far"]


def test_whoever_saves_over_what_they_have_not_seen_is_refused(client: TestClient, url: str) -> None:
    assert describe(client).status_code == 200
    answer = describe(client, EVE, description="mine")
    assert (answer.status_code, "mia has changed description and tags" in answer.json()["detail"]) == (409, True)
    assert open_lineage(url).version("digits", 2).description == "the <best> so far"
    with pytest.raises(ChangedMeanwhile):
        open_lineage(url).describe(model="digits", version=2, description="x", tags=(), actor="eve", since=None)


@pytest.mark.parametrize(
    "note",
    [
        {"description": "x" * 10_001},
        {"description": "x" * 50_000},
        {"description": "a\0b"},
        {"tags": ["x" * 101]},
        {"tags": ["eu, gpu"]},
        {"tags": [str(number) for number in range(51)]},
        {"tags": "eu"},
        {"since": "yesterday"},
    ],
)
def test_a_description_or_a_tag_that_cannot_be_stored_is_refused(
    client: TestClient, url: str, note: dict[str, Any]
) -> None:
    assert describe(client, **note).status_code in (400, 422)
    assert open_lineage(url).version("digits", 2).note is None


def test_a_description_of_ten_thousand_characters_is_stored(client: TestClient, url: str) -> None:
    assert describe(client, description="ü" * 10_000).status_code == 200
    assert len(open_lineage(url).version("digits", 2).description) == 10_000
    assert client.get("/modelway/models/digits/versions/2", headers={"accept": "text/html"}).status_code == 200


def test_a_note_that_many_events_followed_is_found(client: TestClient, url: str) -> None:
    describe(client)
    store = open_lineage(url)
    for number in range(101):
        store.set_alias(model="digits", alias=f"a{number}", version=2)
    assert store.version("digits", 2).description == "the <best> so far"


def test_a_version_that_is_not_there_any_more_is_not_described(client: TestClient) -> None:
    assert describe(client, version="7").status_code == 404


def test_a_lineage_that_cannot_be_written_is_said_in_one_sentence(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(url: str) -> None:
        raise NotWritable("the lineage cannot be written", do="Let this user write it")

    monkeypatch.setattr(mounted_pages, "open_lineage", refuse)
    for answer in (steer(client, "hold"), describe(client)):
        assert (answer.status_code, answer.json()["detail"]) == (
            503,
            "the lineage cannot be written. Let this user write it.",
        )


def test_what_is_opened_to_write_is_closed(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[Engine] = []
    monkeypatch.setattr(Engine, "dispose", lambda engine: closed.append(engine))
    assert [steer(client, "hold").status_code, steer(client, "hold").status_code] == [200, 409]
    assert describe(client).status_code == 200
    assert len(closed) == len(set(closed)) == 3


@pytest.mark.parametrize("schema", ["0007", "9999"])
def test_a_lineage_of_another_schema_is_said_in_one_sentence(client: TestClient, tmp_path: Path, schema: str) -> None:
    with closing(sqlite3.connect(tmp_path / "lineage.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = ?", (schema,))
    for path in ("models", "models/digits/versions/2", "endpoints/digits"):
        answer = client.get(f"/modelway/{path}", headers={"accept": "text/html"})
        assert (answer.status_code, "Not available" in answer.text, "Traceback" in answer.text) == (503, True, False)
    assert steer(client, "hold").status_code == 503


def test_a_version_that_vanished_while_its_page_was_open_is_not_found(client: TestClient, url: str) -> None:
    seen = endpoint_page(client)
    assert "digits v2" in seen or "digits <strong>v2" in seen
    for path in ("/modelway/models/digits/versions/3", "/modelway/models/digits/compare?a=1&b=3"):
        answer = client.get(path, headers={"accept": "text/html"})
        assert (answer.status_code, "has no version" in answer.text) == (404, True)
    assert client.get("/modelway/api/models/digits/versions/3/archive").status_code == 404


def test_names_of_ten_thousand_characters_have_their_pages(client: TestClient, url: str) -> None:
    name = "n" * 10_000
    record = make_record("run-9", model=name, metrics={"m" * 10_000: 0.5})
    open_lineage(url).register(replace(record, run=replace(record.run, dag_id="digits")))
    for path in ("models", f"models/{name}", f"models/{name}/versions/1", f"models/{name}/versions/1/lineage"):
        answer = client.get(f"/modelway/{path}", headers={"accept": "text/html"})
        assert (answer.status_code, name in answer.text) == (200, True), path


def test_what_writes_is_described_for_programs(client: TestClient) -> None:
    paths = client.get("/modelway/api/openapi.json").json()["paths"]
    described = {path: list(found) for path, found in paths.items() if "post" in found}
    assert described == {
        "/api/endpoints/{endpoint}/rollout": ["post"],
        "/api/models/{model}/versions/{version}/note": ["post"],
    }
    assert {"/api/models/{model}/versions/{version}/archive", "/api/models/{model}/versions/{version}/file"} <= set(
        paths
    )
