"""The page of drift: what the monitor found of each version over time, and the retrainings with their reasons."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from modelway.lineage.records.monitoring import Check, MonitorSlice, MonitorState, RetrainRequest
from modelway.lineage.store import Lineage, open_lineage
from modelway.ui.charts.history import values_over_time
from modelway.ui.drift import Monitored
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
