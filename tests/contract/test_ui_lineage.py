"""The pages that compare versions and show the lineage graph, on both databases."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from urllib.parse import quote

import pytest
from modelway.lineage.records.version import DatasetRecord
from modelway.lineage.store import open_lineage
from starlette.testclient import TestClient

from tests.lineage_samples import make_record
from tests.mounted_pages import MountedPages

ODD = "模型/🚀 ?#"
HTML = {"accept": "text/html", "reader": "digits,odd"}


@pytest.fixture(scope="module")
def _filled(module_url: str) -> None:
    store = open_lineage(module_url)
    store.register(make_record("manual__1"))
    params = {"coarse": {"lr": "<script>"}}
    store.register(make_record("manual__2", params=params, metrics={"loss": float("nan")}, base=1))
    secret = make_record("r", model="secret")
    data = (*secret.run.datasets, DatasetRecord(stage="coarse", name="salaries", uri="warehouse://salaries"))
    store.register(replace(secret, run=replace(secret.run, datasets=data)))
    # A version of a readable model that a run of another DAG made.
    hidden = make_record("hidden-run", base=2)
    store.register(replace(hidden, run=replace(hidden.run, dag_id="other-dag")))
    odd = make_record("r/1", model=ODD)
    store.register(replace(odd, run=replace(odd.run, dag_id="odd")))
    store.record_weights(endpoint="digits", model="digits", weights={1: 90, 2: 10})
    store.record_weights(endpoint="secret-endpoint", model="secret", weights={1: 100})


@pytest.fixture
def url(_filled: None, copied_url: str) -> str:
    return copied_url


@pytest.fixture
def client(pages: MountedPages, url: str) -> TestClient:
    return pages.client(url, headers=HTML)


class Balanced(HTMLParser):
    """Sees that every list and item that is opened is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert "style" not in dict(attrs), "the pages' policy forbids it"
        if tag in ("ul", "li", "section"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("ul", "li", "section"):
            assert self.open.pop() == tag


def test_the_graph_of_a_version_is_nested_lists_that_link_to_the_others(client: TestClient) -> None:
    answer = client.get("/modelway/models/digits/versions/2/lineage")
    assert answer.status_code == 200
    parser = Balanced()
    parser.feed(answer.text)
    assert parser.open == []
    for reported in ("began from", "warehouse://sales", "manual__1", "Python 3.11.7", "c0ffee"):
        assert reported in answer.text
    assert 'href="/team/modelway/models/digits/versions/1"' in answer.text
    found = client.get("/modelway/api/models/digits/versions/2/lineage").json()
    edge = {"source": "version:digits@2", "target": "version:digits@1", "relation": "began from"}
    assert edge in found["upstream"]["edges"]
    assert "endpoint:digits" in [node["id"] for node in found["downstream"]["nodes"]]


@pytest.mark.parametrize("form", ["", "/api"])
@pytest.mark.parametrize("path", ["/versions/1/lineage", "/versions/2/lineage", "/compare?a=1&b=2"])
def test_what_runs_of_other_dags_made_does_not_show(client: TestClient, form: str, path: str) -> None:
    text = client.get(f"/modelway{form}/models/digits{path}").text
    for hidden in ("secret", "salaries", "hidden-run", "other-dag", "digits@3"):
        assert hidden not in text
    assert client.get(f"/modelway{form}/models/secret{path}").status_code == 404
    client.headers.pop("reader")
    assert client.get(f"/modelway{form}/models/digits{path}").status_code == 401


def test_a_version_that_may_not_be_read_is_not_compared(client: TestClient) -> None:
    for words in ("a=1&b=3", "a=3&b=1"):
        answer = client.get(f"/modelway/api/models/digits/compare?{words}")
        assert (answer.status_code, "has no version '3'" in answer.json()["detail"]) == (404, True)


def test_two_versions_are_compared_on_a_page_and_as_json(client: TestClient) -> None:
    text = client.get("/modelway/models/digits/compare?a=1&b=2").text
    for reported in ("digits v1 → v2", "&lt;script&gt;", "not known", "outputs/meta.yml", "a value is not finite"):
        assert reported in text, reported
    assert "<td><script>" not in text
    found = client.get("/modelway/api/models/digits/compare?a=1&b=latest").json()
    assert [each["name"] for each in found["params"]] == ["layers", "lr", "lr", "schedule"]
    assert {each["name"]: each["b"] for each in found["metrics"]} == {"accuracy": None, "loss": "NaN"}


def test_the_model_page_has_a_form_that_the_policy_allows(client: TestClient) -> None:
    answer = client.get("/modelway/models/digits")
    assert 'action="/team/modelway/models/digits/compare"' in answer.text
    assert "form-action 'self'" in answer.headers["content-security-policy"]
    assert 'action="/team/modelway/models" role="search"' in client.get("/modelway/models").text
    assert "/versions/1/lineage" in client.get("/modelway/models/digits/versions/1").text
    assert "digits v1 → v2" in client.get("/modelway/models/digits/compare").text, "the two newest"


def test_what_serves_is_shown_now_and_at_a_time(client: TestClient) -> None:
    text = client.get("/modelway/serving").text
    for reported in ("digits", "v1", "90 %", "10 %", 'href="/team/modelway/models/digits/versions/2"'):
        assert reported in text, reported
    assert "secret" not in text
    found = client.get("/modelway/api/serving").json()["serving"]
    assert [(each["endpoint"], each["version"], each["weight"]) for each in found] == [
        ("digits", 1, 90),
        ("digits", 2, 10),
    ]
    assert found[0]["url"] is None
    assert client.get("/modelway/api/serving?at=2020-01-01").json() == {"serving": []}
    assert "Nothing that you may read served then." in client.get("/modelway/serving?at=2020-01-01").text
    assert client.get("/modelway/api/serving?at=9999-01-01").json()["serving"] == found


def test_what_was_stopped_is_shown_as_stopped(client: TestClient, url: str) -> None:
    store, place = open_lineage(url), {"endpoint": "digits", "model": "digits", "url": "http://127.0.0.1:8123"}
    store.record_endpoint(**place)
    assert "http://127.0.0.1:8123" in client.get("/modelway/serving").text
    store.record_endpoint(**place, is_stopped=True, actor="mia")
    text = client.get("/modelway/serving").text
    assert 'stopped <time datetime="20' in text
    assert "http://127.0.0.1:8123" not in text
    assert client.get("/modelway/api/serving").json()["serving"][0]["stopped_at"]


def test_whoever_has_a_file_is_found_by_its_digest(client: TestClient, url: str) -> None:
    file = open_lineage(url).version("digits", 1).files[0]
    text = client.get(f"/modelway/who-has?content={file.digest.removeprefix('sha256:').upper()}").text
    for reported in (
        file.digest,
        file.path,
        'href="/team/modelway/models/digits/versions/1"',
        "/dags/digits/runs/manual__1",
    ):
        assert reported in text, reported
    found = client.get(f"/modelway/api/who-has?content={file.digest}").json()
    assert found["digest"] == file.digest
    assert {(each["kind"], each["name"]) for each in found["holders"]} >= {("version", "digits")}
    for hidden in ("secret", "hidden-run"):
        assert hidden not in text + str(found)
    nobody = "0" * 64
    assert (
        f"Nobody whom you may read has <code>sha256:{nobody}" in client.get(f"/modelway/who-has?content={nobody}").text
    )
    assert "Nobody" not in client.get("/modelway/who-has").text


def test_a_version_is_found_by_what_its_alias_was_at_a_time(client: TestClient, url: str) -> None:
    store = open_lineage(url)
    store.set_alias(model="digits", alias="champion", version=1)
    between = store.alias_history("digits")[0].at.isoformat()
    store.set_alias(model="digits", alias="champion", version=2)
    was = f"/modelway/api/models/digits/was?wanted=champion&at={quote(between)}"
    assert client.get(was).json() == {"model": "digits", "version": 1}
    answer = client.get(was.replace("/api", ""), follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/team/modelway/models/digits/versions/1")
    now = client.get("/modelway/models/digits/was?wanted=champion", follow_redirects=False)
    assert now.headers["location"].endswith("/versions/2")
    before = client.get("/modelway/api/models/digits/was?wanted=champion&at=2020-01-01")
    assert (before.status_code, "had no 'champion'" in before.json()["detail"]) == (404, True)
    assert client.get("/modelway/api/models/secret/was?at=2030-01-01").status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "serving?at=<b>",
        "serving?at=9999-12-31T23:59-23:00",
        "serving?at=99999-01-01",
        "models/digits/was?at=0001-01-01T00:00%2B14:00",
        "models/digits/was?at=yesterday",
        "who-has?content=<b>",
    ],
)
def test_what_is_no_time_or_digest_is_reported(client: TestClient, path: str) -> None:
    answer = client.get(f"/modelway/api/{path}")
    assert (answer.status_code, "Write " in answer.json()["detail"]) == (400, True)
    text = client.get(f"/modelway/{path}")
    assert (text.status_code, "Not understood" in text.text, "<b>" in text.text) == (400, True, False)


def test_an_odd_name_has_its_pages(client: TestClient) -> None:
    place = f"/modelway/models/{quote(ODD, safe='')}"
    for path in ("", "/versions/1", "/versions/1/lineage", "/compare?a=1&b=1"):
        for prefix in ("", "/api"):
            answer = client.get(f"{place.replace('/models', prefix + '/models', 1)}{path}")
            assert answer.status_code == 200
            assert ODD in answer.text
    assert f'href="/team{place}/versions/1"' in client.get(place).text


def test_what_differs_besides_is_compared_and_what_is_not_known_is_said(client: TestClient, url: str) -> None:
    store = open_lineage(url)
    record = make_record("manual__9", architecture=None)
    packages = {"numpy": "2.4.0", "torch": "2.13.0"}
    stages = tuple(
        replace(each, environment=each.environment and replace(each.environment, digest="sha256:9", packages=packages))
        for each in record.run.stages
    )
    run = replace(record.run, seed=8, seconds=3700.0, code_digest=None, commit="decaf0", stages=stages)
    number = store.register(replace(record, run=run))
    text = client.get(f"/modelway/models/digits/compare?a=1&b={number}").text
    for reported in (
        "Not known: a digest was not recorded.",
        "git log --stat c0ffee..decaf0",
        "Environment of coarse, fine",
        "<td>seed</td><td><code>7</code></td><td><code>8</code></td>",
        "<td>seconds</td><td>2 min 0 s</td><td>1 h 1 min</td>",
        "Not known: it was not recorded for both.",
        f'compare?a={number}&amp;b=1">Swap</a>',
    ):
        assert reported in text, reported
    same = re.search("<h2>No difference</h2>\n<p>([^<]*)</p>", text)
    assert same
    assert same[1] == "Parameters, Data sets"
    assert "compared with itself" in client.get("/modelway/models/digits/compare?a=1&b=1").text


def test_a_version_leads_to_what_it_can_be_compared_with(client: TestClient, url: str) -> None:
    open_lineage(url).set_alias(model="digits", alias="champion", version=1, actor="mia", reason="")
    number = open_lineage(url).register(make_record("manual__9"))
    text = client.get(f"/modelway/models/digits/versions/{number}").text
    # The version before was made by a run that this user may not read.
    assert number == 4
    assert re.findall("compare[?]a=([0-9]+)&amp;b=4", text) == ["2", "1"]
    assert "compare?" not in client.get("/modelway/models/digits/versions/1").text
