"""The pages of endpoints and runs, the search, and versions side by side, over a real lineage database."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import pytest
from modelway.lineage.records.monitoring import Check, MonitorSlice, MonitorState
from modelway.lineage.records.version import FailureRecord, RolloutRecord, WeightChange
from modelway.lineage.store import open_lineage
from modelway.ui.charts.history import weights_over_time
from modelway.ui.endpoint_view import environments_by_endpoint
from modelway.ui.page import commit_page
from starlette.testclient import TestClient

from tests.lineage_samples import make_record
from tests.mounted_pages import MountedPages

HTML = {"accept": "text/html", "reader": "digits,letters"}
RUNNING = RolloutRecord(
    endpoint="digits", run_id="digits/r 3", model="digits", version=3, state="running", step=0, detail={"stable": 2}
)


@pytest.fixture(scope="module")
def module_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The lineage that each test gets a copy of."""
    filled = f"sqlite:///{tmp_path_factory.mktemp('lineage') / 'lineage.db'}"
    store = open_lineage(filled)
    for number in range(1, 4):
        store.register(make_record(f"run-{number}", metrics={"loss": 0.1 * number}))
    store.register(make_record("r", model="letters"))
    store.register(make_record("r", model="secret", description="only for its owners"))
    for version in (1, 2):
        done = replace(RUNNING, run_id=f"digits/r{version}", version=version, state="done", detail={"stable": None})
        store.save_rollout(done)
        store.record_weights(endpoint="digits", model="digits", weights={version: 100}, actor="mia")
    store.record_endpoint(endpoint="digits", model="digits", url="http://127.0.0.1:9000")
    store.record_weights(endpoint="secret", model="secret", weights={1: 100})
    return filled


@pytest.fixture
def url(copied_url: str) -> str:
    return copied_url


@pytest.fixture
def client(pages: MountedPages, url: str) -> TestClient:
    return pages.client(url, headers=HTML)


def actions(client: TestClient) -> dict[str, Any]:
    found = re.search('data-actions="([^"]*)"', client.get("/modelway/endpoints/digits").text)
    assert found
    given: dict[str, Any] = json.loads(unescape(found[1]))
    return given


def test_an_endpoint_shows_who_serves_since_when_and_what_happened(client: TestClient) -> None:
    text = client.get("/modelway/endpoints/digits").text
    for part in (
        "http://127.0.0.1:9000",
        "digits <strong>v2</strong>",
        "100 %",
        "by mia",
        "3 changes",
        "minutes before now",
    ):
        assert part in text, part
    assert actions(client) == {
        "dag": "digits",
        "release": {"rollout": "yes"},
        "rollback": {"rollout": "rollback", "version": "1"},
        "serves": 2,
    }


def test_a_rollout_that_runs_can_be_ended_and_nothing_else_be_returned(client: TestClient, url: str) -> None:
    open_lineage(url).save_rollout(RUNNING)
    offered = {"dag": "digits", "release": {"rollout": "yes"}, "run": {"dag": "digits", "run": "r 3"}, "busy": "wait"}
    # Where its run is over, as Airflow says, a run returns the traffic to the version that served.
    assert actions(client) == {**offered, "close": {"rollout": "rollback", "version": "2"}}
    text = client.get("/modelway/endpoints/digits").text
    assert 'data-action="end"' in text
    open_lineage(url).save_rollout(replace(RUNNING, detail={"stable": 2, "finishing": {"alias": "champion"}}))
    assert actions(client) == {**offered, "close": {"rollout": "yes", "version": "3"}}
    text = client.get("/modelway/endpoints/digits").text
    assert 'data-action="end"' not in text, "it has passed all steps, and takes over"


def test_the_dag_of_the_model_moves_the_traffic_whoever_rolled_out_last(client: TestClient, url: str) -> None:
    open_lineage(url).save_rollout(replace(RUNNING, run_id="approval/r"))
    assert actions(client)["dag"] == "digits"
    assert actions(client)["run"] == {"dag": "approval", "run": "r"}


def test_an_endpoint_that_the_spec_no_longer_has_offers_no_actions(client: TestClient, url: str) -> None:
    record = make_record("run-4")
    spec = {"endpoint": {"environments": {"dev": {}, "prod": {}}}}
    open_lineage(url).register(replace(record, run=replace(record.run, spec=spec)))
    assert "data-actions" not in client.get("/modelway/endpoints/digits").text


def test_a_rollout_of_a_version_that_one_may_not_read_is_not_shown(client: TestClient, url: str) -> None:
    store, record = open_lineage(url), make_record("run-4")
    store.register(replace(record, run=replace(record.run, dag_id="laser")))
    why = "the laser was too bright"
    hidden = replace(RUNNING, run_id="digits/hidden", version=4, state="aborted", detail={"stable": 2, "reason": why})
    store.save_rollout(hidden)
    assert why not in client.get("/modelway/endpoints/digits").text
    assert why not in client.get("/modelway/api/endpoints/digits").text
    store.save_rollout(replace(hidden, run_id="digits/done", state="done"))
    assert actions(client).get("rollback", {}).get("version") != "4"


@pytest.mark.parametrize(
    ("dag", "run", "to", "place"),
    [
        ("digits", "r2", "endpoint", "/team/modelway/endpoints/digits"),
        ("digits", "r2", "version", "/team/modelway/models/digits/versions/2"),
        ("digits", "run-3", "version", "/team/modelway/models/digits/versions/3"),
        # Nothing yet, or nothing that one may read: the run's own page.
        ("digits", "run-3", "endpoint", None),
        ("digits", "run-9", "version", None),
        ("secret", "r", "version", None),
        ("secret", "r", "endpoint", None),
    ],
)
def test_a_task_leads_to_what_its_run_has_made(
    client: TestClient, dag: str, run: str, to: str, place: str | None
) -> None:
    answer = client.get(f"/modelway/of-run?dag={dag}&run={run}&to={to}", follow_redirects=False)
    assert (answer.headers.get("location"), answer.status_code) == (place, 307 if place else 200)
    assert place or f"Run of {dag}" in answer.text
    assert client.get(f"/modelway/of-run?dag={dag}&run={run}&to=nowhere").status_code == 422


@pytest.mark.parametrize("wanted", ["nothing", "r", "secret"])
def test_how_a_run_went_names_nothing_that_one_may_not_read(client: TestClient, wanted: str) -> None:
    answer = client.get(f"/modelway/api/account?wanted={wanted}")
    assert answer.json().get("model", "letters") == "letters"
    assert "secret" not in answer.text.replace(f"'{wanted}'", "")


def test_an_endpoint_shows_what_each_version_answered_over_time(client: TestClient, url: str) -> None:
    store, at = open_lineage(url), datetime(2026, 3, 1, tzinfo=UTC)
    assert 'id="counts"' not in client.get("/modelway/endpoints/digits").text
    counts = {"3": {"requests": 200, "errors": 5}, "2": {"requests": 1800, "errors": 0, "invalid": 2}}
    slow = {"above_seconds": 0.25, "new": [41, 200], "stable": [9, 1800]}
    earlier = {"weight": 5, "counts": {"3": {"requests": 7, "errors": 0}}}
    steps = [earlier, {"weight": 10, "counts": counts, "since": at.timestamp(), "slow": slow}]
    plan = [{"weight": weight, "hold_seconds": 60.0, "requests": 0} for weight in (5, 10, 100)]
    evidence = {"canary_step": {"requests": 3, "errors": 0}, "stable_step": {}}
    detail = {"stable": 2, "plan": plan, "results": steps, "evidence": evidence, "since": at.timestamp() + 60}
    store.save_rollout(replace(RUNNING, step=2, detail=detail))
    counted = MonitorSlice(endpoint="digits", version=2, begin=at, end=at, rows=77, tallies={}, numbers={})
    before = MonitorState(endpoint="digits", model="digits")
    store.monitoring.save_check(Check(before=before, at=at, counted=counted), state=lambda key: {})
    text = client.get("/modelway/endpoints/digits").text
    section = text[text.index('id="counts"') :].partition("</section>")[0]
    for title in ("Requests of each step", "Failed requests of each step", "Rows between two checks"):
        assert f'aria-label="{title}"' in section
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", each, re.S) for each in section.split("<tr>")[2:]]
    texts = [[re.sub("<[^>]*>", "", cell) for cell in row[1:]] for row in rows]
    assert texts == [
        ["v3", "100 %", "3", "0", "0", "0", "–"],
        ["v3", "10 %", "200", "5", "2.5", "0", "41 of 200 took more than 250 ms"],
        ["v2", "90 %", "1,800", "0", "0", "2", "9 of 1,800 took more than 250 ms"],
        ["v3", "5 %", "7", "0", "0", "0", "–"],
    ]
    assert 'datetime="2026-03-01T00:00:00+00:00"' in rows[1][0]
    assert rows[3][0] == "–", "an earlier modelway did not record when the step began"
    found = client.get("/modelway/api/endpoints/digits").json()["steps"]
    assert [(each["version"], each["requests"]) for each in found] == [(3, 3), (3, 200), (2, 1800), (3, 7)]


@pytest.mark.parametrize("name", ["secret", "nowhere"])
def test_an_endpoint_of_what_one_may_not_read_does_not_exist(client: TestClient, name: str) -> None:
    for path in ("endpoints", "api/endpoints"):
        answer = client.get(f"/modelway/{path}/{name}")
        assert answer.status_code == 404
        assert f"there is no endpoint &#39;{name}&#39; that you may read" in answer.text.replace("'", "&#39;")


def test_what_an_endpoint_shows_is_there_for_programs(client: TestClient) -> None:
    found = client.get("/modelway/api/endpoints/digits").json()
    assert [(each["version"], each["weight"]) for each in found["serving"]] == [(2, 100)]
    assert [(each["version"], each["weight"]) for each in found["changes"]] == [(2, 100), (1, 0), (1, 100)]
    assert [each["version"] for each in found["rollouts"]] == [2, 1]


@pytest.mark.parametrize(
    ("environments", "found"),
    [
        (None, {"m": None}),
        (["prod"], {"m": "prod"}),
        (["dev", "prod"], {"m-dev": "dev", "m-prod": "prod"}),
    ],
)
def test_the_environments_of_endpoints_are_those_of_the_recorded_spec(
    environments: list[str] | None, found: dict[str, str | None]
) -> None:
    section = {} if environments is None else {"environments": dict.fromkeys(environments, {})}
    assert environments_by_endpoint({"endpoint": section}, "m") == found
    assert environments_by_endpoint({}, "m") == {"m": None}


def test_a_run_shows_what_failed_and_what_to_do(client: TestClient, url: str) -> None:
    failure = FailureRecord(
        model="digits",
        dag_id="digits",
        run_id="run-9",
        key="train",
        attempt=1,
        cause="the job used <more> than 2 GiB",
        at=datetime(2026, 3, 1, tzinfo=UTC),
        kind="out_of_memory",
        advice="Raise train.resources.memory",
        last_lines=("line one", "line two"),
    )
    open_lineage(url).record_failure(failure)
    text = client.get("/modelway/of-run", params={"dag": "digits", "run": "run-9"}).text
    for part in ("the job used &lt;more&gt; than 2 GiB", "Raise train.resources.memory", "line two", "no version"):
        assert part in text, part
    text = client.get("/modelway/of-run", params={"dag": "digits", "run": "run-2"}).text
    assert '/models/digits/versions/2">' in text
    for dag, run in (("digits", "unknown"), ("secret", "r")):
        assert "Nothing is recorded of this run yet" in client.get(f"/modelway/of-run?dag={dag}&run={run}").text


def test_the_failed_attempts_of_a_task_are_beside_one_another(client: TestClient, url: str) -> None:
    store = open_lineage(url)
    for attempt, (key, cause) in enumerate((("train", "no memory"), ("train", "<b>no disk</b>"), ("freeze", "a bug"))):
        failure = FailureRecord(
            model="digits",
            dag_id="digits",
            run_id="run-9",
            key=key,
            attempt=attempt + 1,
            cause=cause,
            at=datetime(2026, 3, 1, 0, attempt, tzinfo=UTC),
        )
        store.record_failure(failure)
    text = client.get("/modelway/of-run", params={"dag": "digits", "run": "run-9"}).text
    rows, columns = (part.partition("</table>")[0] for part in text.partition('id="failures"')[2].split("<table")[1:])
    assert "a bug" in rows
    assert "train" not in rows
    assert re.findall(r'scope="col">([^<]*)', columns) == ["Attempt 1", "Attempt 2"]
    assert re.search(r"Cause</th><td>no memory\s*</td><td>&lt;b&gt;no disk&lt;/b&gt;\s*</td>", columns)


def test_the_tab_of_a_dag_leads_to_its_model(client: TestClient, url: str) -> None:
    assert "<h1>digits" in client.get("/modelway/of-dag?dag=digits").text
    assert "No run of this DAG has registered a version yet" in client.get("/modelway/of-dag?dag=secret").text
    record = make_record("r-b", model="digits-b")
    open_lineage(url).register(replace(record, run=replace(record.run, dag_id="digits")))
    found = client.get("/modelway/of-dag?dag=digits").text
    assert 'value="digits"' in found
    assert 'models/digits-b"' in found


@pytest.mark.parametrize(
    ("query", "names"),
    [("q=LETT", ["letters"]), ("q=digits+images", []), ("sort=versions", ["digits", "letters"]), ("q=secret", [])],
)
def test_models_are_searched_and_sorted(client: TestClient, query: str, names: list[str]) -> None:
    text = client.get(f"/modelway/models?{query}").text
    assert re.findall(r'<h2><a href="[^"]*/models/([^"/]+)"', text) == names
    assert "secret</a>" not in text


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("alias=champion", ["digits"]),
        ("alias=nobody", []),
        ("serves=yes", ["digits"]),
        ("serves=no", ["letters"]),
        ("serves=yes&q=letters", []),
        ("health=not+watched", ["digits"]),
        ("health=does+not+serve&serves=no&q=lett", ["letters"]),
        ("health=drifts", []),
        ("q=&alias=&serves=&health=", ["digits", "letters"]),
    ],
)
def test_models_are_filtered_on_the_page_and_in_its_json(
    client: TestClient, url: str, query: str, names: list[str]
) -> None:
    open_lineage(url).set_alias(model="digits", alias="champion", version=2)
    text = client.get(f"/modelway/models?{query}&sort=name").text
    assert re.findall(r'<h2><a href="[^"]*/models/([^"/]+)"', text) == names
    assert "secret" not in text
    assert [each["name"] for each in client.get(f"/modelway/api/models?{query}").json()["models"]] == names
    for name, value in (each.split("=") for each in query.split("&") if not each.startswith("q=") and each[-1] != "="):
        assert re.search(f'<option(?: value="[^"]*")? selected>{value.replace("+", " ")}<', text), name
    # Each filter can be removed where nothing fits all of them.
    links = re.findall(r'<a href="/team/modelway/models[?]([^"]*)">remove', text)
    if not names:
        assert len(links) == len(query.split("&"))
        assert all(client.get("/modelway/models?" + each.replace("&amp;", "&")).status_code == 200 for each in links)


@pytest.mark.parametrize("query", ["serves=maybe", "health=fine", f"alias={'x' * 201}"])
def test_a_filter_that_there_is_not_is_refused_in_one_sentence(client: TestClient, query: str) -> None:
    for path in ("models", "api/models", "api/health"):
        answer = client.get(f"/modelway/{path}?{query}")
        assert answer.status_code == 422
        assert f"{query.partition('=')[0]}: " in answer.text


def test_the_links_of_a_part_keep_the_filters(client: TestClient, url: str) -> None:
    store = open_lineage(url)
    for number in range(23):
        record = make_record("r", model=f"many-{number:02}", description="a&b")
        store.register(replace(record, run=replace(record.run, dag_id="digits")))
        store.set_alias(model=record.model, alias="best", version=1)
    text = client.get("/modelway/models?alias=best&serves=no&q=a%26b").text
    assert "1 to 20 of 23" in text
    (later,) = re.findall('<a href="/team([^"]+)" rel="next">', text)
    text = client.get(later.replace("&amp;", "&")).text
    assert re.findall(r'<h2><a href="[^"]*/models/(many-[^"/]+)"', text) == ["many-20", "many-21", "many-22"]
    assert "<option selected>best<" in text
    assert 'value="a&amp;b"' in text


def test_versions_stand_side_by_side_with_what_differs_first(client: TestClient) -> None:
    text = client.get("/modelway/models/digits/side-by-side?v=3&v=v1&v=latest").text
    assert re.findall(r">v(\d)</a></th>", text)[:3] == ["1", "3", "1"], "latest is v3, and stands once"
    assert re.search(r"<td>loss</td>\s*<td class=\"number\">0.1</td>\s*<td class=\"number\">0.3", text)
    assert text.index("What differs besides") < text.index("The same in all")
    for query, status in (("v=1", 400), ("v=1&v=v1", 400), ("v=1&v=77", 404)):
        assert client.get(f"/modelway/models/digits/side-by-side?{query}").status_code == status


def test_a_metric_is_plotted_over_the_versions(client: TestClient) -> None:
    text = client.get("/modelway/models/digits?metric=loss").text
    assert 'aria-label="loss of each version"' in text
    assert "<title>v3: 0.3</title>" in text
    assert "of each version" in client.get("/modelway/models/digits?metric=unknown").text


def test_shares_of_traffic_are_steps_in_the_unit_that_fits() -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)

    def drawn(ago: timedelta) -> str:
        change = WeightChange(endpoint="e", model="m", version=1, weight=30, at=now - ago, actor="a", run_id=None)
        return weights_over_time([change], now=now)

    assert "minutes before now" in drawn(timedelta(minutes=5))
    assert "hours before now" in drawn(timedelta(hours=30))
    assert "days before now" in drawn(timedelta(days=300))
    assert "m v1" in drawn(timedelta(0))
    assert weights_over_time([]) == ""


@pytest.mark.parametrize(
    ("repository", "page"),
    [
        ("https://github.com/acme/models.git", "https://github.com/acme/models/commit/c0ffee0"),
        ("git@gitlab.acme.org:team/models.git", "https://gitlab.acme.org/team/models/-/commit/c0ffee0"),
        ("ssh://git@bitbucket.org/acme/models", "https://bitbucket.org/acme/models/commits/c0ffee0"),
        ("https://example.org/models.git", None),
        ("javascript://github.com/x", None),
        ("https://github.com/a b", None),
        ('https://github.com/"><script>', None),
        ("/srv/github/models", None),
        (None, None),
    ],
)
def test_a_commit_leads_to_its_page_on_hosts_whose_pages_are_known(repository: str | None, page: str | None) -> None:
    assert commit_page(repository, "c0ffee0") == page
    assert commit_page(repository, "c0ffee0; rm") is None


def test_many_models_are_listed_by_parts_that_begin_after_a_name(client: TestClient, url: str) -> None:
    store = open_lineage(url)
    for number in range(43):
        record = make_record("r", model=f"many-{number:02}")
        store.register(replace(record, run=replace(record.run, dag_id="digits")))

    def listed(path: str) -> tuple[list[str], str]:
        text = client.get(path).text
        return re.findall(r'<h2><a href="[^"]*/models/(many-[^"/]+)"', text), text

    first, text = listed("/modelway/models?q=many")
    assert first == [f"many-{number:02}" for number in range(20)]
    assert "1 to 20 of 43" in text
    (later,) = re.findall('<a href="/team([^"]+)" rel="next">', text)
    # A model that comes into the part before moves none of this one.
    store.register(replace(record, model="many-00-new", run=replace(record.run, dag_id="digits", run_id="n")))
    second, text = listed(later.replace("&amp;", "&"))
    assert second == [f"many-{number:02}" for number in range(20, 40)]
    third, _ = listed("/modelway/models?q=many&after=many-39")
    assert third == ["many-40", "many-41", "many-42"]
    (earlier,) = re.findall('<a href="/team([^"]+)" rel="prev">', text)
    assert len(listed(earlier.replace("&amp;", "&"))[0]) == 20
    assert listed("/modelway/models?q=many&after=gone")[0][0] == "many-00"


def test_many_versions_are_lines_across_what_differs(client: TestClient) -> None:
    text = client.get("/modelway/models/digits/parallel").text
    assert "v1 to v3" in text
    assert "differ in fewer than two" in text
    assert client.get("/modelway/models/digits/parallel?before=1").status_code == 200
    assert client.get("/modelway/models/secret/parallel").status_code == 404
