"""The page of drift: what the monitor found of each version over time, and the retrainings with their reasons."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from modelway.lineage.records.answers import ServingRecord
from modelway.lineage.records.monitoring import (
    Check,
    LastCheck,
    MonitorSlice,
    MonitorState,
    RetrainRequest,
    Unanswered,
)
from modelway.lineage.records.version import RolloutRecord
from modelway.lineage.store import Lineage, open_lineage
from modelway.ui.charts.history import values_over_time
from modelway.ui.drift import Monitored
from modelway.ui.health import health_by_model
from sqlalchemy import Engine, event
from starlette.testclient import TestClient

from tests.lineage_samples import make_record
from tests.mounted_pages import MountedPages
from tests.page_samples import HOSTILE, check

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    url = f"sqlite:///{tmp_path_factory.mktemp('lineage') / 'lineage.db'}"
    store = open_lineage(url)
    for number in range(6):
        store.register(make_record(f"r{number}"))
    store.register(make_record("r", model="letters"))
    check(store)
    return MountedPages().client(url, headers={"accept": "text/html", "reader": "digits,letters"})


def test_drift_and_quality_of_each_version_are_drawn_over_time(client: TestClient) -> None:
    text = client.get("/modelway/models/digits/drift").text
    for title in ("Drift of each version", "PSI of each version", "Quality of each version", "Rows of each check"):
        assert f'aria-label="{title}"' in text
    assert "days before now" in text
    assert text.count("v5 at digits") >= 4
    assert "96.0% at freezing" in text
    assert "1 of 75 features" in text
    assert HOSTILE not in text


def test_a_retraining_says_why_and_what_came_of_it(client: TestClient) -> None:
    for path in ("/models/digits/drift", "/models/digits/versions/5", "/models/digits/versions/6"):
        text = client.get(f"/modelway{path}").text
        section = text[text.index('id="retrainings"') :].partition("</section>")[0]
        assert "drift of 9 of 75 features on 900 rows" in section
        assert re.search(r'href="[^"]*/models/digits/versions/6">v6</a>', section)
        assert "/dags/digits/runs/scheduled__2026-03-06T00%3A00%3A00%2B00%3A00" in section
    assert 'id="retrainings"' not in client.get("/modelway/models/digits/versions/1").text


def test_a_model_that_is_not_watched_says_how_it_is(client: TestClient) -> None:
    text = client.get("/modelway/models/letters/drift").text
    assert "The monitor has not checked this model yet" in text
    assert "section “monitor”" in text


def test_the_json_has_the_same_checks_and_requests(client: TestClient) -> None:
    found = client.get("/modelway/api/models/digits/drift").json()
    assert len(found["checks"]) == 40
    assert [each["outcome"] for each in found["requests"]] == ["version 6"]
    # A version that somebody else's DAG made is not shown: of digits this reader may read nothing.
    assert client.get("/modelway/models/digits/drift", headers={"reader": "letters"}).status_code == 404


@pytest.mark.parametrize("numbers", [{}, {"drift": None}, {"drift": {"effects": ["x"], "psi": "NaN"}}, {"drift": []}])
def test_what_an_older_monitor_recorded_is_no_error(numbers: dict[str, object]) -> None:
    old = MonitorSlice(endpoint="e", version=1, begin=NOW, end=NOW, rows=3, tallies={}, numbers=numbers)
    found = Monitored(checks=(old,), requests=())
    assert found.drift() == found.psi() == found.quality() == ""
    assert "Rows of each check" in found.rows()


def test_a_version_without_rows_to_compare_with_has_its_page(tmp_path: Path) -> None:
    """Its rules are undecided, and record no numbers of their own."""
    url = f"sqlite:///{tmp_path}/lineage.db"
    store = open_lineage(url)
    store.register(make_record("r"))
    numbers = {rule: {"over": False, "undecided": True} for rule in ("drift", "quality")}
    counted = MonitorSlice(endpoint="e", version=1, begin=NOW, end=NOW, rows=3, tallies={}, numbers=numbers)
    before = MonitorState(endpoint="e", model="digits")
    store.monitoring.save_check(Check(before=before, at=NOW, counted=counted, request=None), state=lambda key: {})
    client = MountedPages().client(url, headers={"accept": "text/html", "reader": "digits"})
    text = client.get("/modelway/models/digits/drift").text
    assert text.count('<span class="tag">undecided</span>') == 2


def watch(store: Lineage, *, versions: int) -> None:
    """Let the monitor have checked each of some versions, and requested to retrain for it."""
    for number in range(1, versions + 1):
        store.register(make_record(f"r{number}"))
        request = RetrainRequest(
            model="digits",
            endpoint="digits",
            version=number,
            at=NOW,
            rule="drift",
            reason="drift",
            rebuild=False,
            numbers={},
        )
        counted = MonitorSlice(endpoint="digits", version=number, begin=NOW, end=NOW, rows=1, tallies={}, numbers={})
        before = store.monitoring.state("digits") or MonitorState(endpoint="digits", model="digits")
        found = Check(before=before, at=NOW, counted=counted, request=request)
        store.monitoring.save_check(found, state=lambda key: {})


def test_the_page_takes_as_many_statements_for_many_versions_as_for_few(tmp_path: Path) -> None:
    pages = MountedPages()
    counts: list[int] = []
    for versions in (2, 12):
        url = f"sqlite:///{tmp_path}/{versions}.db"
        statements: list[object] = []
        watch(open_lineage(url), versions=versions)
        client = pages.client(url, headers={"accept": "text/html", "reader": "digits"})
        assert client.get("/modelway/models/digits/drift").status_code == 200

        def count(*found: object, statements: list[object] = statements) -> None:
            statements.append(found[2])

        event.listen(Engine, "before_cursor_execute", count)
        try:
            text = client.get("/modelway/models/digits/drift").text
        finally:
            event.remove(Engine, "before_cursor_execute", count)
        assert f"{versions} requests" in text
        counts.append(len(statements))
    assert counts[0] == counts[1] > 0


def test_values_over_time_have_the_unit_that_fits() -> None:
    points = {"a": [(NOW - timedelta(hours=30), 1.0), (NOW, 2.0)]}
    assert "hours before now" in values_over_time(points, title="t", y_label="y", now=NOW)
    assert values_over_time({}, title="t", y_label="y") == ""


SERVING = ServingRecord(
    endpoint="digits",
    model="digits",
    version=2,
    weight=100,
    since=NOW,
    serving_since=NOW,
    actor="mia",
    run_id=None,
    url="http://127.0.0.1:9000",
)
CHECKED = LastCheck(
    endpoint="digits",
    model="digits",
    version=2,
    at=NOW + timedelta(hours=2),
    rows=1200,
    alarms={},
    requested=frozenset(),
    unanswered=None,
)
PLAN = [{"weight": weight, "hold_seconds": 60.0, "requests": 0} for weight in (10, 100)]
ROLLOUT = RolloutRecord(
    endpoint="digits",
    run_id="digits/r",
    model="digits",
    version=3,
    state="running",
    step=0,
    detail={"plan": PLAN, "stable": 2},
    updated_at=NOW,
)
SILENT = replace(CHECKED, unanswered=Unanswered(since=NOW, reason="the gateway does not answer"))
COUNTED = {"verdict": {"numbers": {"new": {"requests": 200, "errors": 3}}}}


def rollout(**detail: object) -> RolloutRecord:
    return replace(ROLLOUT, detail={**ROLLOUT.detail, **detail})


def closed(**detail: object) -> RolloutRecord:
    return replace(rollout(reason="5 of 90 failed", **detail), state="aborted")


@pytest.mark.parametrize(
    ("share", "check", "newest", "word", "reason"),
    [
        (None, None, None, "does not serve", "no version has traffic"),
        (SERVING, None, None, "not watched", "no check of what serves is recorded"),
        (SERVING, replace(CHECKED, version=1), None, "not watched", ""),
        (SERVING, replace(CHECKED, model="another"), None, "not watched", ""),
        (SERVING, CHECKED, None, "serves", "v2 has answered 1,200 rows"),
        (
            SERVING,
            replace(CHECKED, alarms={"volume": NOW}, requested=frozenset({"volume"})),
            None,
            "serves",
            "(volume)",
        ),
        (SERVING, SILENT, ROLLOUT, "does not answer", "the gateway does not answer"),
        (SERVING, replace(SILENT, version=None), None, "does not answer", ""),
        (
            SERVING,
            replace(CHECKED, unanswered=Unanswered(since=NOW, reason="v3", in_part=True)),
            None,
            "answers in part",
            "",
        ),
        (replace(SERVING, stopped_at=NOW), SILENT, ROLLOUT, "stopped", "somebody stopped"),
        (
            SERVING,
            replace(CHECKED, alarms={"drift": NOW}, requested=frozenset({"drift"})),
            None,
            "drifts",
            "retraining",
        ),
        (SERVING, replace(CHECKED, alarms={"schema": NOW}), None, "drifts", "the rule schema"),
        (SERVING, replace(CHECKED, alarms={"quality": NOW}), closed(), "does worse", "the rule quality"),
        (SERVING, CHECKED, ROLLOUT, "rolling out", "v3 at 10 %"),
        (SERVING, CHECKED, rollout(**COUNTED), "rolling out", "200 requests, 1.5% failed"),
        (SERVING, CHECKED, rollout(moving=True), "rolling out", "traffic to v3 is pending"),
        (SERVING, CHECKED, replace(ROLLOUT, step=-1), "rolling out", "pending"),
        (SERVING, CHECKED, rollout(finishing={}), "rolling out", "takes over"),
        (SERVING, CHECKED, rollout(waits_for="approval"), "waits for a person", "approved or rejected"),
        (SERVING, CHECKED, rollout(held={"by": "mia", "reason": "lunch", "since": 0.0}), "held", "by mia: lunch"),
        (SERVING, CHECKED, closed(returning=True), "returning", "not back yet: 5 of 90 failed"),
        (SERVING, CHECKED, closed(), "rolled back", "v3: 5 of 90 failed"),
        (None, None, closed(), "rolled back", "5 of 90 failed"),
        (SERVING, CHECKED, replace(closed(), step=-1), "serves", ""),
        (SERVING, CHECKED, replace(ROLLOUT, state="done"), "serves", ""),
        (SERVING, CHECKED, replace(closed(), model="another"), "serves", ""),
    ],
)
def test_health_is_the_most_urgent_that_is_recorded(
    share: ServingRecord | None, check: LastCheck | None, newest: RolloutRecord | None, word: str, reason: str
) -> None:
    (found,) = health_by_model(
        ["digits"],
        {"digits": [share]} if share else {},
        checks={"digits": check} if check else {},
        rollouts={"digits": newest} if newest else {},
    )["digits"]
    assert (found.word, reason in found.reason) == (word, True), found
    is_seen = word != "not watched" and share and check and check.version
    assert found.seen == (CHECKED.at if is_seen else None)


def test_a_rollout_that_begins_held_is_held_since_it_was_recorded() -> None:
    newest = rollout(held={"by": "mia", "reason": "lunch", "since": 0.0})
    (found,) = health_by_model(
        ["digits"], {"digits": [SERVING]}, checks={"digits": CHECKED}, rollouts={"digits": newest}
    )["digits"]
    assert (found.word, found.at) == ("held", NOW)


def test_the_list_of_models_says_how_each_is_where_it_serves(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/lineage.db"
    store = open_lineage(url)
    for model in ("digits", "letters", "secret"):
        store.register(make_record("r", model=model))
        store.record_weights(endpoint=model, model=model, weights={1: 100})
    store.record_weights(endpoint="digits-dev", model="digits", weights={1: 100})
    alarms = {"drift": {"streak": 2, "raised_at": NOW.timestamp(), "request": 7}}
    state = {"version": 1, "rows": 1200, "alarms": alarms}
    before = MonitorState(endpoint="digits", model="digits")
    store.monitoring.save_check(Check(before=before, at=NOW), state=lambda key: state)
    hidden = replace(ROLLOUT, endpoint="secret", model="secret", version=1, run_id="secret/r", updated_at=None)
    store.save_rollout(hidden)
    unanswered = Unanswered(since=NOW, reason="no <b>route</b>")
    store.monitoring.record_unanswered("letters", model="letters", found=unanswered)
    client = MountedPages().client(url, headers={"accept": "text/html", "reader": "digits,letters"})
    text = client.get("/modelway/models").text
    assert re.findall(r'"health"><span class="tag([^"]*)">([^<]+)', text) == [
        (" warn", "drifts"),
        ("", "not watched"),
        (" warn", "does not answer"),
    ]
    assert "the rule drift is over its limit; a retraining is requested (drift)" in text
    assert "no &lt;b&gt;route" in text
    found = client.get("/modelway/api/health").json()["health"]
    assert [(each["endpoint"], each["word"]) for each in found] == [
        ("digits", "drifts"),
        ("digits-dev", "not watched"),
        ("letters", "does not answer"),
    ]
    assert found[0]["at"] == found[0]["seen"] == "2026-03-01T00:00:00+00:00"
    (one,) = client.get("/modelway/api/health?health=drifts&q=digits&serves=yes").json()["health"][:1]
    assert one == found[0]
    everyone = client.get("/modelway/api/health?q=secret", headers={"reader": "secret"}).json()["health"]
    assert [each["word"] for each in everyone] == ["rolling out"]


@pytest.mark.parametrize("query", ["", "?health=not+watched"])
def test_the_list_of_models_takes_as_many_statements_for_many_as_for_few(tmp_path: Path, query: str) -> None:
    pages = MountedPages()
    counts: list[int] = []
    for models in (2, 12):
        url = f"sqlite:///{tmp_path}/{models}.db"
        store = open_lineage(url)
        for number in range(models):
            store.register(make_record("r", model=f"m{number}"))
            store.record_weights(endpoint=f"m{number}", model=f"m{number}", weights={1: 100})
        client = pages.client(url, headers={"accept": "text/html", "reader": ",".join(f"m{n}" for n in range(12))})
        path = f"/modelway/models{query}"
        assert client.get(path).text.count(">not watched</span>") == models
        statements: list[object] = []

        def count(*found: object, statements: list[object] = statements) -> None:
            statements.append(found[2])

        event.listen(Engine, "before_cursor_execute", count)
        try:
            client.get(path)
        finally:
            event.remove(Engine, "before_cursor_execute", count)
        counts.append(len(statements))
    assert counts[0] == counts[1] > 0
