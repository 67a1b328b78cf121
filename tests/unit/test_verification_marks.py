"""On what a version was verified stands wherever the version is shown."""

import pytest
from modelway.cli import main
from modelway.lineage.records.verification import verified_text
from modelway.lineage.store import Lineage, open_lineage
from modelway.ui.app import create_app
from starlette.testclient import TestClient

from tests.lineage_samples import make_record

ON_ROWS = {
    "rows": 397,
    "rows_of": 397,
    "rows_from": "evaluate",
    "metric": {"name": "loss", "evaluated": 0.125, "served": 0.12500001},
    "batches": True,
    "batches_reason": "each row alone",
    "max_abs_difference": 4.8e-06,
}
ON_EXAMPLES = {**ON_ROWS, "rows": 0, "rows_of": 0, "rows_from": None, "metric": None}
MARK = 'class="tag warn" title="on example rows alone'


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A lineage that the tests only read."""
    url = f"sqlite:///{tmp_path_factory.mktemp('lineage')}/lineage.db"
    store = open_lineage(url)
    for number, verification in enumerate((ON_EXAMPLES, ON_ROWS, None), start=1):
        store.register(make_record(f"manual__{number}", verification=verification))
    store.record_weights(endpoint="digits", model="digits", weights={1: 60, 2: 40})
    return url


@pytest.fixture
def store(url: str, monkeypatch: pytest.MonkeyPatch) -> Lineage:
    monkeypatch.setenv("MODELWAY_LINEAGE_URL", url)
    monkeypatch.setenv("COLUMNS", "300")
    return open_lineage(url)


@pytest.fixture(scope="module")
def client(url: str) -> TestClient:
    app = create_app(store_url=lambda: url, readable_dags=lambda: frozenset(["digits"]))
    return TestClient(app, headers={"accept": "text/html"})


def test_the_record_says_what_a_version_was_verified_on(store: Lineage) -> None:
    assert [each.verification for each in store.versions("digits")] == [None, ON_ROWS, ON_EXAMPLES]
    assert store.version("digits", 2).summary.verification == ON_ROWS
    names = [("digits", 1), ("digits", 3), ("digits", 9), ("other", 1)]
    assert store.verifications(names) == {("digits", 1): ON_EXAMPLES, ("digits", 3): None}
    assert store.verifications([]) == {}


@pytest.mark.parametrize(
    "path",
    [
        "/models",
        "/models/digits",
        "/models/digits/versions/1",
        "/models/digits/versions/1/lineage",
        "/models/digits/compare?a=1&b=2",
        "/serving",
        f"/who-has?content={make_record().archive_digest}",
    ],
)
def test_every_page_with_a_version_verified_on_examples_alone_marks_it(client: TestClient, path: str) -> None:
    assert MARK in client.get(path).text


def test_pages_say_on_how_many_rows_served_is_evaluated(client: TestClient) -> None:
    said = "served = evaluated on 397 rows, loss 0.125 (evaluated 0.125), differs by at most 4.8e-06"
    assert said in client.get("/models/digits/versions/2").text
    assert MARK not in client.get("/models/digits/versions/2").text
    assert "not known what it was verified on" in client.get("/models/digits/versions/3").text
    assert client.get("/api/models/digits/versions/2").json()["summary"]["verification"]["rows"] == 397


@pytest.mark.usefixtures("store")
def test_the_command_line_says_so_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["versions", "digits"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    place = head.index("VERIFIED")
    assert [row[place:].partition("  ")[0].strip() for row in rows] == ["-", "397 rows", "examples only"]
    assert main(["show", "digits", "1"]) == 0
    assert "Verified      on example rows alone, differs by at most 4.8e-06" in capsys.readouterr().out


def test_what_is_left_out_and_why_requests_are_not_joined_is_said() -> None:
    found = {**ON_ROWS, "rows_of": 50_000, "batches": False, "batches_reason": "output 'y' is a single number"}
    assert verified_text(found) == (
        "served = evaluated on 397 rows, of 50,000 that were evaluated, loss 0.125 (evaluated 0.125), differs by at "
        "most 4.8e-06, requests are not joined: output 'y' is a single number"
    )


def test_a_metric_of_other_rows_than_evaluates_is_shown_beside_it() -> None:
    returned = {**ON_ROWS, "metric": {**ON_ROWS["metric"], "returned": 0.5}}
    assert "loss 0.125 (evaluated 0.125), evaluate returned 0.5 on its own rows" in verified_text(returned)
    same = {**ON_ROWS, "metric": {**ON_ROWS["metric"], "returned": 0.1250001}}
    assert "returned" not in verified_text(same)
