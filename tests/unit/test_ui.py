"""The pages over a real lineage database, mounted as Airflow mounts them; tests/system tests the login itself."""

import json
import re
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from modelway.lineage.records.readable import bytes_text, number_text
from modelway.lineage.records.version import EvaluationRecord, RolloutRecord
from modelway.lineage.store import open_lineage
from starlette.testclient import TestClient

from tests.lineage_samples import digest, make_record
from tests.mounted_pages import MountedPages

HTML = {"accept": "text/html", "reader": "digits,letters"}


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/lineage.db"


@pytest.fixture
def client(pages: MountedPages, url: str) -> TestClient:
    return pages.client(url, headers=HTML)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lineage that each test gets a copy of."""
    path = tmp_path_factory.mktemp("lineage") / "lineage.db"
    store = open_lineage(f"sqlite:///{path}")
    store.register(make_record("manual__2026-03-01T12:00:00+00:00"))
    store.register(make_record("manual__2", metrics={"loss": float("nan")}))
    store.register(make_record("r", model="letters", description="<script>alert(1)</script>"))
    store.register(make_record("r", model="secret"))
    store.set_alias(model="digits", alias="champion", version=1, actor="mia", reason="a & b")
    store.record_weights(endpoint="digits", model="digits", weights={1: 90, 2: 10})
    store.record_image(model="digits", version=1, builder="oci", digest=digest("image"), reference="registry/digits")
    return path


@pytest.fixture
def _lineage(filled: Path, tmp_path: Path) -> None:
    shutil.copyfile(filled, tmp_path / "lineage.db")


PATHS = [
    "",
    "/models",
    "/models/digits",
    "/models/digits/versions/1",
    "/api/models",
    "/api/models/digits",
    "/api/models/digits/versions/latest",
]


@pytest.mark.usefixtures("_lineage")
@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_shown_without_a_login(client: TestClient, path: str) -> None:
    client.headers.pop("reader")
    assert client.get(f"/modelway{path}", follow_redirects=True).status_code == 401
    assert client.get("/modelway/openapi.json").status_code == 404


@pytest.mark.usefixtures("_lineage")
def test_a_browser_without_a_login_is_led_to_it(client: TestClient) -> None:
    client.headers.pop("reader")
    text = client.get("/modelway/models/digits").text
    assert 'href="/team/api/v2/auth/login?next=/team/modelway/models/digits"' in text


@pytest.mark.usefixtures("_lineage")
def test_the_page_lists_versions_with_aliases_metrics_image_and_weight(client: TestClient) -> None:
    text = client.get("/modelway/models").text
    first, second = text.index("<strong>v2</strong>"), text.index("<strong>v1</strong>")
    assert first < second
    row = text[second : text.index("</tr>", second)]
    assert '<span class="tag good">champion</span>' in row
    assert '<progress max="100" value="90" aria-label="share of endpoint digits">' in row
    assert ">0.125</td>" in row
    assert f'title="{digest("image")}">{digest("image")[7:19]}</code>' in row
    assert 'href="/team/dags/digits/runs/manual__2026-03-01T12%3A00%3A00%2B00%3A00"' in row
    assert ">nan</td>" in text[first:second]


@pytest.mark.usefixtures("_lineage")
def test_a_version_tells_its_data_its_reason_and_who_took_it(client: TestClient, url: str) -> None:
    open_lineage(url).record_reuse(model="digits", version=1, dag_id="other", run_id="r/1", reason="the <same>")
    both = {"reader": "digits,other"}
    text = client.get("/modelway/models/digits/versions/1", headers=both).text
    for part in (
        "<dt>Reason</dt><dd>the data of &lt;February&gt; is whole</dd>",
        '<dt>Data</dt><dd><time datetime="2026-02-28T00:00:00+00:00" data-to="seconds">2026-02-28 00:00:00 UTC</time> ',
        f"<dt>Inputs</dt><dd><code>{digest('inputs')}</code></dd>",
        "<td>images</td><td>coarse</td><td>7</td><td>/data/images</td>",
        'href="/team/dags/other/runs/r%2F1">r/1</a>: the &lt;same&gt;</p>',
    ):
        assert part in text
    # Who may not read the other DAG does not learn of its run.
    for path in ("/modelway/models/digits/versions/1", "/modelway/api/models/digits/versions/1"):
        assert "the <same>" not in client.get(path).text.replace("&lt;", "<").replace("&gt;", ">")


@pytest.mark.usefixtures("_lineage")
def test_text_from_a_spec_is_never_markup(client: TestClient) -> None:
    text = client.get("/modelway/models").text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<script>alert" not in text


@pytest.mark.usefixtures("_lineage")
def test_the_record_of_a_version_has_every_part(client: TestClient) -> None:
    text = client.get("/modelway/models/digits/versions/champion").text
    record = make_record("manual__2026-03-01T12:00:00+00:00")
    for file in record.files:
        assert file.path in text
        assert file.digest.removeprefix("sha256:") in text
    parts = [digest("image"), "registry/digits", "c0ffee", "diverged", "[8, 16]", "alias-set", "a &amp; b", "<polyline"]
    for part in [*parts, record.archive_digest, record.model_digest, "90 % of digits by airflow"]:
        assert part in text
    chosen = re.findall(r'<tr class="chosen">\s*<td><code>([^<]*)', text)
    assert chosen == ["fine-3"]


@pytest.mark.usefixtures("_lineage")
def test_a_version_shows_what_its_rollout_found(client: TestClient, url: str) -> None:
    counts = {"1": {"requests": 900, "errors": 9}, "2": {"requests": 100, "errors": 40}}
    tests = {"errors": {"e": 1234.5, "limit": 66.667}}
    why = "40 of 100 requests to the new version failed <b>"
    step = {"weight": 10, "counts": counts, "action": "rollback", "reason": why, "tests": tests}
    record = RolloutRecord(endpoint="digits", run_id="digits/r", model="digits", version=2, state="aborted", step=0)
    detail = {"stable": 1, "results": [step], "reason": why, "evidence": {}}
    open_lineage(url).save_rollout(replace(record, detail=detail))
    page = client.get("/modelway/models/digits/versions/2").text
    shown = re.search(r'<section id="rollouts">.*?</section>', page, re.S)
    assert shown
    for text in ("aborted", "10 %", "100 requests, 40 failed", "900 requests, 9 failed", "errors 1.23e+03 of 66.67"):
        assert text in shown[0], text
    assert "rollback: 40 of 100 requests to the new version failed &lt;b&gt;" in shown[0]
    assert 'id="rollouts"' not in client.get("/modelway/models/digits/versions/1").text
    done = replace(record, run_id="digits/of-one", version=1, state="done", detail={"stable": None, "results": [step]})
    open_lineage(url).save_rollout(done)
    assert 'id="rollouts"' in client.get("/modelway/models/digits/versions/1").text


@pytest.mark.usefixtures("_lineage")
def test_a_version_shows_charts_importances_stages_environment_data_and_architecture(client: TestClient) -> None:
    text = client.get("/modelway/models/digits/versions/1").text
    for part in (
        'role="img" aria-label="ROC"',
        '<polyline class="guide"',
        '<th scope="row">height</th>',
        '<td class="number">0.4 ± 0.1</td>',
        "<td>fine</td><td>kubernetes</td>",
        '<td class="number">1 min 40 s</td><td class="number">1 min 30 s</td><td class="number">4 min 0 s</td>',
        '<td class="number">2.0 GiB</td>',
        '<span class="tag">skipped</span>',
        "numpy==2.3.1 torch==2.13.0",
        "<summary>Environment of coarse, fine</summary>",
        "<summary>images: 60,000 rows, 2 columns</summary>",
        "<td>pixel</td><td>float</td>",
        "24 parameters",
        "<td><code>dense.weight</code></td><td>[4, 6]</td><td>FP32</td>",
        "https://example.org/models.git",
    ):
        assert part in text, part


class _Sources(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.others: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "href", "style") or name.startswith("on"):
                (self.links if (tag, name) == ("a", "href") else self.others).append(str(value))


@pytest.mark.usefixtures("_lineage")
@pytest.mark.parametrize("path", ["/models", "/models/digits", "/models/digits/versions/1", "/models/nothing"])
def test_a_page_loads_nothing_and_its_links_stay_behind_the_base_url(client: TestClient, path: str) -> None:
    answer = client.get(f"/modelway{path}")
    sources = _Sources()
    sources.feed(answer.text)
    # Of its own files alone, whose names change with their content.
    assert [
        other
        for other in sources.others
        if not re.fullmatch(r"/team/modelway/static/\w+\.[0-9a-f]{16}\.(css|js)", other)
    ] == []
    assert all(client.get(other.removeprefix("/team")).status_code == 200 for other in sources.others)
    assert sources.links
    assert [link for link in sources.links if not link.startswith(("/team/modelway/", "/team/dags/", "#"))] == []
    within = [link for link in sources.links if link.startswith("#")]
    assert [link for link in within if f'id="{link[1:]}"' not in answer.text] == []
    nonce = re.search(r"script-src 'nonce-([^']+)'", answer.headers["content-security-policy"])
    assert nonce
    assert answer.text.count(f'nonce="{nonce[1]}"') == len(sources.others) >= 3


@pytest.mark.usefixtures("_lineage")
def test_a_model_whose_dag_one_may_not_read_does_not_exist(client: TestClient) -> None:
    assert "secret" not in client.get("/modelway/models").text
    assert [m["name"] for m in client.get("/modelway/api/models").json()["models"]] == ["digits", "letters"]
    for path in ("/models/secret", "/models/secret/versions/1", "/api/models/secret", "/api/models/secret/versions/1"):
        answer = client.get(f"/modelway{path}")
        assert answer.status_code == 404
        assert "Known: digits, letters" in answer.text


def _register_by(url: str, dag: str, run_id: str, **changes: Any) -> int:
    record = make_record(run_id, **changes)
    return open_lineage(url).register(replace(record, run=replace(record.run, dag_id=dag)))


@pytest.mark.usefixtures("_lineage")
def test_who_may_read_the_dag_that_made_a_version_sees_it_and_no_other(client: TestClient, url: str) -> None:
    assert _register_by(url, "lab", "r", alias="candidate", description="from the laboratory") == 3
    client.headers["reader"] = "lab"
    text = client.get("/modelway/models").text
    assert re.findall("<strong>(v.)</strong>", text) == ["v3"]
    assert 'href="/team/dags/lab"' in text
    assert 'href="/team/dags/digits"' not in text
    (model,) = client.get("/modelway/api/models").json()["models"]
    assert (model["name"], model["dags"], model["count"], model["aliases"]) == ("digits", ["lab"], 1, {"candidate": 3})
    assert [each["number"] for each in client.get("/modelway/api/models/digits").json()["versions"]] == [3]
    for prefix in ("", "/api"):
        for wanted in ("3", "latest", "candidate"):
            assert "fine-3" in client.get(f"/modelway{prefix}/models/digits/versions/{wanted}").text
        for wanted in ("1", "v2", "champion"):
            answer = client.get(f"/modelway{prefix}/models/digits/versions/{wanted}")
            assert answer.status_code == 404
            assert "Known: 3, latest, candidate" in answer.text


@pytest.mark.usefixtures("_lineage")
def test_nothing_of_a_version_that_one_may_not_read_is_shown(client: TestClient, url: str) -> None:
    assert _register_by(url, "laser", "laser-run", alias="laser-alias", description="laser words") == 3
    for path in ("/models", "/models/digits", "/models/digits/versions/latest"):
        for prefix in ("", "/api"):
            text = client.get(f"/modelway{prefix}{path}").text
            assert "laser" not in text
            assert "v3" not in text
    assert client.get("/modelway/models/digits/versions/3").status_code == 404
    assert client.get("/modelway/api/models/digits/versions/latest").json()["summary"]["number"] == 2
    assert client.get("/modelway/api/models").json()["models"][0]["description"] == "handwritten digits"


@pytest.mark.usefixtures("_lineage")
def test_who_may_read_both_dags_sees_both_versions_and_links_to_both(client: TestClient, url: str) -> None:
    _register_by(url, "lab", "r")
    client.headers["reader"] = "digits,lab"
    text = client.get("/modelway/models/digits").text
    assert re.findall("<strong>(v.)</strong>", text) == ["v3", "v2", "v1"]
    assert 'href="/team/dags/lab">DAG lab<' in text
    assert 'href="/team/dags/digits">DAG<' in text


@pytest.mark.parametrize(
    ("value", "cell", "text"), [("nan", "nan", "NaN"), ("inf", "inf", "Infinity"), ("-inf", "-inf", "-Infinity")]
)
def test_metrics_that_are_not_finite_are_shown_by_name(
    client: TestClient, url: str, value: str, cell: str, text: str
) -> None:
    wrong = EvaluationRecord(checkpoint="c-1", metrics={"loss": float(value)}, note="loss is not finite")
    open_lineage(url).register(make_record(evaluations=[wrong], metrics={"loss": float(value)}))
    assert f"{cell}</td>" in client.get("/modelway/models").text
    page = client.get("/modelway/models/digits/versions/1").text
    assert f'<td class="number">{cell}</td>' in page
    assert "loss is not finite" in page
    strict = json.loads(client.get("/modelway/api/models/digits/versions/1").text, parse_constant=pytest.fail)
    assert [each["metrics"] for each in strict["evaluations"]] == [{"loss": text}]
    assert strict["summary"]["metrics"] == {"loss": text}


@pytest.mark.usefixtures("_lineage")
@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        (
            "/models/digts",
            "there is no model 'digts' that you may read. Known: digits, letters. Did you mean 'digits'?",
        ),
        ("/models/digits/versions/9", "model 'digits' has no version '9'. Known: 1 to 2, latest, champion."),
    ],
)
def test_what_is_not_there_is_said_in_one_sentence(client: TestClient, path: str, sentence: str) -> None:
    page = client.get(f"/modelway{path}")
    assert page.status_code == 404
    assert page.headers["content-type"].startswith("text/html")
    assert sentence.replace("'", "&#39;") in page.text
    twin = client.get(f"/modelway/api{path}")
    assert twin.status_code == 404
    assert twin.json()["detail"] == sentence
    assert twin.json()["error"] in ("UnknownModel", "UnknownVersion")


@pytest.mark.usefixtures("_lineage")
def test_the_json_twins_say_what_the_pages_say(client: TestClient) -> None:
    versions = client.get("/modelway/api/models/digits").json()["versions"]
    assert [version["number"] for version in versions] == [2, 1]
    assert versions[0]["metrics"] == {"loss": "NaN"}
    detail = client.get("/modelway/api/models/digits/versions/1").json()
    assert detail["summary"]["weights"] == {"digits": 90}
    assert len(detail["evaluations"]) == 3


def test_before_the_first_version_the_page_says_so_and_makes_no_database(client: TestClient, tmp_path: Path) -> None:
    answer = client.get("/modelway/models")
    assert answer.status_code == 200
    assert "No model version is registered yet" in answer.text
    assert client.get("/modelway/models/digits").status_code == 404
    assert list(tmp_path.iterdir()) == []


def test_a_lineage_that_cannot_be_read_is_said_in_one_sentence(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "lineage.db").write_text("not a database" * 1000)
    answer = client.get("/modelway/models")
    assert answer.status_code == 503
    assert "not a usable lineage database" in answer.text


@pytest.mark.usefixtures("_lineage")
def test_a_lineage_that_a_newer_modelway_has_migrated_is_said_in_one_sentence(
    client: TestClient, tmp_path: Path
) -> None:
    """As while a deployment is upgraded, and its api-server is not yet."""
    with closing(sqlite3.connect(tmp_path / "lineage.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    answer = client.get("/modelway/models")
    assert answer.status_code == 503
    assert "newer modelway" in answer.text


def test_the_list_of_a_model_has_pages_and_that_of_all_models_has_the_newest(client: TestClient, url: str) -> None:
    store = open_lineage(url)
    for number in range(51):
        store.register(make_record(f"run-{number}"))
    store.set_alias(model="digits", alias="champion", version=1, actor="mia", reason="")
    text = client.get("/modelway/models").text
    assert re.findall("<strong>v([0-9]+)<", text) == ["51", "50", "49", "48", "47"]
    assert '<a href="/team/modelway/models/digits">All 51 versions</a>' in text
    # What an alias points at is found wherever it is in the list.
    assert '>champion</span>  <a href="/team/modelway/models/digits/versions/1">v1</a>' in text
    first = client.get("/modelway/models/digits").text
    assert "v2 to v51" in first
    assert re.findall("<strong>v([0-9]+)<", first) == [str(number) for number in range(51, 1, -1)]
    (older,) = re.findall('<a href="/team([^"]+)" rel="next">', first)
    second = client.get(older).text
    assert re.findall("<strong>v([0-9]+)<", second) == ["1"]
    assert 'rel="next"' not in second
    # A version that is registered meanwhile moves none of the others to another page.
    store.register(make_record("later"))
    assert re.findall("<strong>v([0-9]+)<", client.get(older).text) == ["1"]
    (newer,) = re.findall('<a href="/team([^"]+)" rel="prev">', client.get(older).text)
    assert re.findall("<strong>v([0-9]+)<", client.get(newer).text) == [str(number) for number in range(51, 1, -1)]
    assert "none is before v1" in client.get("/modelway/models/digits?before=1").text
    listed = client.get("/modelway/api/models/digits").json()
    assert listed["before"] == listed["versions"][-1]["number"] == 3
    further = client.get("/modelway/api/models/digits?before=3").json()
    assert ([each["number"] for each in further["versions"]], further["before"]) == ([2, 1], None)
    for wrong in ("0", "x", "99999999999999999999"):
        assert client.get(f"/modelway/models/digits?before={wrong}").status_code == 422
    _register_by(url, "lab", "r")
    client.headers["reader"] = "lab"
    text = client.get("/modelway/models/digits").text
    assert 'rel="next"' not in text
    assert text.count("<strong>v") == 1


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (0.1234567, "0.1235"), (3.0, "3"), (float("nan"), "nan"), (float("-inf"), "-inf")]
)
def test_numbers_are_written_short(value: float | None, text: str) -> None:
    assert number_text(value, none="–") == text


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB")])
def test_sizes_are_written_short(size: int, text: str) -> None:
    assert bytes_text(size) == text
