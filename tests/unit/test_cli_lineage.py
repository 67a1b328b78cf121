"""``modelway diff``, ``lineage``, ``serving`` and ``show --at`` over a real lineage database."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from modelway.cli import main
from modelway.lineage.store import open_lineage

from tests.lineage_samples import digest, make_record


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MODELWAY_HOME", str(tmp_path))
    monkeypatch.delenv("MODELWAY_LINEAGE_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lineage that each test gets a copy of."""
    path = tmp_path_factory.mktemp("lineage") / "lineage.db"
    store = open_lineage(f"sqlite:///{path}")
    store.register(make_record("manual__1"))
    store.register(make_record("manual__2", params={"coarse": {"lr": 0.5}}, metrics={"loss": 0.5}, base=1))
    store.set_alias(model="digits", alias="champion", version=1)
    store.record_weights(endpoint="digits", model="digits", weights={1: 90, 2: 10}, actor="mia")
    store.record_image(model="digits", version=1, builder="oci", digest=digest("image"), reference="oci-layout:/i@x")
    return path


@pytest.fixture
def lineage(filled: Path, empty: Path) -> None:
    shutil.copyfile(filled, empty / "lineage.db")


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    status = main(list(words))
    printed = capsys.readouterr()
    return status, printed.out + printed.err


COMMANDS = [
    ("diff", "digits", "1", "2"),
    ("lineage", "upstream", "digits"),
    ("lineage", "find", digest("onnx")),
    ("serving",),
    ("serving", "digits", "--at", "2026-03-01"),
]


@pytest.mark.parametrize("words", COMMANDS)
def test_an_empty_lineage_is_said_and_nothing_is_made(
    empty: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    status, printed = call(capsys, *words)
    assert status == 1
    assert "nothing was registered yet" in printed
    assert list(empty.iterdir()) == []


@pytest.mark.usefixtures("lineage")
def test_diff_tells_every_part_and_as_json_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    status, printed = call(capsys, "diff", "digits", "champion", "latest")
    assert status == 0
    assert "digits v1 → digits v2" in printed
    assert "  ~ coarse.lr: 0.01 → 0.5" in printed
    assert "  - fine.schedule: null" in printed
    assert "Code: no difference" in printed
    assert "  ~ outputs/meta.yml" in printed
    assert ["loss", "0.125", "0.5", "+0.375", "not", "known"] in [line.split()[:6] for line in printed.splitlines()]
    status, text = call(capsys, "diff", "digits@1", "digits@2", "--json")
    found: dict[str, Any] = json.loads(text)
    assert [each["name"] for each in found["params"]] == ["layers", "lr", "lr", "schedule"]
    assert found["b"] == {"model": "digits", "number": 2}


@pytest.mark.usefixtures("lineage")
def test_upstream_and_downstream_are_trees(capsys: pytest.CaptureFixture[str]) -> None:
    status, printed = call(capsys, "lineage", "upstream", "digits")
    assert status == 0
    lines = printed.splitlines()
    assert lines[0].startswith("version digits v2  ")
    assert "  made by: run digits/manual__2  by mia" in lines
    assert "    read: dataset images  /data/images  version 7  60,000 rows" in lines
    assert sum("began from: version digits v1" in line for line in lines) == 1
    status, printed = call(capsys, "lineage", "downstream", "sales")
    assert "    made by: version digits v1" in printed
    assert "serves: endpoint digits" in printed
    status, text = call(capsys, "lineage", "downstream", "sales", "--json")
    graph = json.loads(text)
    assert {"source": "run:digits/manual__1", "target": "dataset:warehouse://sales", "relation": "read"} in graph[
        "edges"
    ]
    status, printed = call(capsys, "lineage", "upstream", "digits", "--most", "2")
    assert printed.splitlines()[-1].startswith("… and more")


@pytest.mark.usefixtures("lineage")
@pytest.mark.parametrize("words", [("digits@1",), ("digits", "1"), ("digits", "v1")])
def test_a_version_is_named_as_everywhere(capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    status, printed = call(capsys, "lineage", "upstream", *words)
    assert (status, printed.splitlines()[0][:20]) == (0, "version digits v1  2")


def test_starting_all_endpoints_where_there_is_none_says_so(empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "endpoint", "start", "--all") == (0, "there is no endpoint here\n")


def test_a_database_that_does_not_answer_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODELWAY_LINEAGE_URL", "postgresql://mia:hidden@127.0.0.1:1/lineage")
    status, printed = call(capsys, "versions")
    assert (status, printed.count("\n"), "hidden" in printed) == (1, 1, False)
    assert "the lineage database does not answer (connection failed: " in printed


@pytest.mark.usefixtures("lineage")
def test_who_has_a_file_is_reported_by_its_content_under_another_name(
    empty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (empty / "another-name").write_text("onnx")
    status, printed = call(capsys, "lineage", "find", "another-name")
    assert (status, printed) == call(capsys, "lineage", "who-has", "another-name"), "its name before is an alias"
    assert status == 0
    head, *rows = printed.splitlines()[1:]
    assert [row.split()[:4] for row in rows if row.startswith("version")] == [
        ["version", "digits", "v2", "model"],
        ["version", "digits", "v1", "model"],
    ]
    (empty / "other").write_text("nobody's")
    assert call(capsys, "lineage", "who-has", "other") == (
        1,
        f"nothing has {digest(chr(110) + 'obody' + chr(39) + 's')}\n",
    )
    status, printed = call(capsys, "lineage", "who-has", "no/such/file")
    assert (status, "neither a file here nor a digest" in printed) == (1, True)


@pytest.mark.usefixtures("lineage")
def test_serving_tells_since_when_and_by_whom(capsys: pytest.CaptureFixture[str]) -> None:
    status, printed = call(capsys, "serving")
    assert [line.split()[:5] for line in printed.splitlines()[1:]] == [
        ["digits", "digits", "v1", "90", "%"],
        ["digits", "digits", "v2", "10", "%"],
    ]
    assert " mia " in printed.splitlines()[1]
    assert call(capsys, "serving", "digits", "--at", "2020-01-01") == (0, "nothing served at 2020-01-01\n")
    assert [each["weight"] for each in json.loads(call(capsys, "serving", "--json")[1])] == [90, 10]


@pytest.mark.usefixtures("lineage")
def test_show_tells_what_an_alias_meant_at_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    status, printed = call(capsys, "show", "digits", "champion", "--at", "2100-01-01T00:00+02:00")
    assert (status, "digits v1" in printed) == (0, True)
    status, printed = call(capsys, "show", "digits", "champion", "--at", "2020-01-01")
    assert (status, "had no 'champion'" in printed) == (1, True)


@pytest.mark.usefixtures("lineage")
@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (("diff", "digit", "1", "2"), "Did you mean 'digits'?"),
        (("diff", "digits", "1", "3"), "has no version '3'. Known: 1 to 2, latest, champion"),
        (("diff", "digits", "1"), "Write MODEL A B, or MODEL@A OTHER@B"),
        (("serving", "digit"), "Did you mean 'digits'?"),
        (("serving", "--at", "noon"), "'noon' is not a time"),
        (("lineage", "upstream", "digit"), "Did you mean 'digits'?"),
        (("lineage", "upstream", "digits", "1", "2"), "Write MODEL VERSION, or MODEL@VERSION"),
        (("show", "@1"), "the model of '@1' is missing. Write MODEL@1."),
        (("show", "digits", "champio", "--at", "2100-01-01"), "Did you mean 'champion'?"),
    ],
)
def test_what_is_not_there_is_refused_with_the_nearest(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], answer: str
) -> None:
    status, printed = call(capsys, *words)
    assert status == 1
    assert answer in printed
