"""``modelway versions`` and ``modelway show`` over a real lineage database."""

import argparse
import json
import math
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from modelway.cli import main, versions
from modelway.cli._lineage import read_version, read_versions
from modelway.errors import ModelwayError, UnknownModel, UnknownVersion
from modelway.lineage.records.version import EvaluationRecord, RunRecord
from modelway.lineage.store import open_lineage

from tests.lineage_samples import digest, make_record

MARCH = datetime(2026, 3, 1, tzinfo=UTC)


def call(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    versions.add_commands(parser.add_subparsers(required=True))
    args = parser.parse_args(arguments)
    status: int = args.run(args)
    return status


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lineage that each test gets a copy of."""
    path = tmp_path_factory.mktemp("lineage") / "lineage.db"
    store = open_lineage(f"sqlite:///{path}")
    store.register(make_record("manual__1"))
    store.register(make_record("manual__2", metrics={"loss": math.nan}))
    store.set_alias(model="digits", alias="champion", version=1)
    store.record_weights(endpoint="digits", model="digits", weights={1: 90, 2: 10})
    store.record_image(model="digits", version=1, builder="oci", digest=digest("image"), reference="oci-layout:/i@x")
    return path


@pytest.fixture
def lineage(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELWAY_HOME", str(tmp_path))
    monkeypatch.delenv("MODELWAY_LINEAGE_URL", raising=False)
    shutil.copyfile(filled, tmp_path / "lineage.db")


@pytest.mark.usefixtures("lineage")
def test_versions_are_listed_newest_first_in_aligned_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("versions", "digits") == 0
    head, second, first = capsys.readouterr().out.splitlines()
    assert head.split()[:5] == ["VERSION", "ALIASES", "WEIGHT", "METRICS", "VERIFIED"]
    assert second.split()[:6] == ["v2", "-", "10", "%", "digits", "loss"]
    assert "nan" in second
    assert first.startswith("v1")
    assert first.index("champion") == head.index("ALIASES")
    assert first.index("fine-3") == second.index("fine-3") == head.index("CHECKPOINT")
    assert digest("image")[7:19] in first
    assert "accuracy 0.97  loss 0.125" in first


@pytest.mark.usefixtures("lineage")
@pytest.mark.parametrize(
    ("order", "expected"),
    [("--lowest", ["v4", "v1", "v5", "v3", "v2"]), ("--highest", ["v1", "v4", "v5", "v3", "v2"])],
)
def test_sorted_by_a_metric_what_is_no_number_comes_last(
    order: str, expected: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_lineage(f"sqlite:///{tmp_path}/lineage.db")
    for number, metrics in enumerate(({"accuracy": 1.0}, {"loss": 0.01}, {"loss": -math.inf}), start=3):
        store.register(make_record(f"manual__{number}", metrics=metrics))
    assert call("versions", "digits", order, "loss") == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == expected
    with pytest.raises(ModelwayError, match=r"no version has the metric 'los'. Known: accuracy, loss.*'loss'"):
        call("versions", "digits", order, "los")


@pytest.mark.usefixtures("lineage")
def test_versions_as_json_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("versions", "digits", "--json") == 0
    second, first = json.loads(capsys.readouterr().out)
    assert (second["number"], second["metrics"]) == (2, {"loss": "NaN"})
    assert (first["aliases"], first["weights"]) == (["champion"], {"digits": 90})


@pytest.mark.usefixtures("lineage")
@pytest.mark.parametrize("wanted", ["1", "v1", "champion"])
def test_a_version_is_shown_whole(wanted: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("show", "digits", wanted) == 0
    out = capsys.readouterr().out
    for part in ("digits v1", "champion", "c0ffee (main) with changes", "90 % of digits", "diverged", "[8, 16]"):
        assert part in out
    for line in (
        "Reason        the data of <February> is whole",
        "Data          2026-02-28 00:00Z to 2026-03-01 00:00Z",
        f"Inputs        {digest('inputs')}",
        "Training      120.0 s, 0.0667 GPU-hours",
        "Parameters    24",
    ):
        assert line in out.splitlines()
    rows = [line.split() for line in out.splitlines()]
    for row in (
        ["height", "0.4", "0.1", "loss"],
        ["fine", "kubernetes", "100", "90", "240", "2048"],
        ["polish", "-", "-", "-", "-", "-", "skipped"],
    ):
        assert row in rows
    for file in make_record("manual__1").files:
        assert f"{file.path}" in out
        assert file.digest.removeprefix("sha256:") in out
    assert [line.split()[-1] for line in out.splitlines() if line.startswith("fine-3")] == ["chosen"]


@pytest.mark.usefixtures("lineage")
def test_data_sets_and_the_runs_that_took_a_version_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_lineage(f"sqlite:///{tmp_path}/lineage.db")
    store.record_reuse(model="digits", version=1, dag_id="digits", run_id="manual__9", actor="ann", reason="the same")
    assert call("show", "digits", "1") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["images", "coarse", "7", digest("images"), "/data/images"] in lines
    assert ["sales", "coarse", "-", "-", "warehouse://sales"] in lines
    (event,) = [line for line in lines if line[:1] == ["version-reused"]]
    assert event[3:] == ["ann", "manual__9", "the", "same"]


@pytest.mark.usefixtures("lineage")
@pytest.mark.parametrize(
    ("times", "text"),
    [
        ({}, "-"),
        ({"interval_end": MARCH}, "up to 2026-03-01 00:00Z"),
        ({"interval_end": MARCH, "partition": "north"}, "up to 2026-03-01 00:00Z (north)"),
        (
            {"interval_start": MARCH, "interval_end": MARCH, "partition": "north"},
            "2026-03-01 00:00Z to 2026-03-01 00:00Z (north)",
        ),
    ],
)
def test_a_runs_data_interval_is_written_as_far_as_it_is_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], times: dict[str, Any], text: str
) -> None:
    run = RunRecord(dag_id="digits", run_id="other", **times)
    open_lineage(f"sqlite:///{tmp_path}/lineage.db").register(make_record("other", run=run))
    assert call("show", "digits", "3") == 0
    assert f"Data          {text}" in capsys.readouterr().out.splitlines()


@pytest.mark.usefixtures("lineage")
def test_the_latest_version_as_json_has_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("show", "digits", "latest", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["summary"]["number"] == 2
    assert shown["params"]["fine"] == {"lr": 0.001, "schedule": None}
    assert shown["run"]["started_at"] == "2026-03-01T12:00:00+00:00"


@pytest.mark.usefixtures("lineage")
@pytest.mark.parametrize(("value", "name"), [("nan", "NaN"), ("inf", "Infinity"), ("-inf", "-Infinity")])
def test_evaluations_that_are_not_finite_are_shown_by_name(
    value: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = EvaluationRecord(checkpoint="c-1", metrics={"loss": float(value)}, note="loss is not finite")
    open_lineage(f"sqlite:///{tmp_path}/lineage.db").register(make_record("wrong", evaluations=[wrong]))
    assert call("show", "digits", "3") == 0
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("c-1")]
    assert row.split() == ["c-1", "loss", value, "loss", "is", "not", "finite"]
    assert call("show", "digits", "3", "--json") == 0
    shown = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert shown["evaluations"][0]["metrics"] == {"loss": name}


@pytest.mark.usefixtures("lineage")
def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownModel, match="Did you mean 'digits'"):
        call("versions", "digit")
    with pytest.raises(UnknownVersion, match="no version 'v9'.*Known: 1 to 2, latest, champion"):
        call("show", "digits", "v9")


def test_a_lineage_that_was_never_written_is_not_made_by_looking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELWAY_HOME", str(tmp_path / "none"))
    monkeypatch.delenv("MODELWAY_LINEAGE_URL", raising=False)
    with pytest.raises(ModelwayError, match="the lineage is empty: nothing was registered yet"):
        call("versions", "digits")
    assert not (tmp_path / "none").exists()


@pytest.mark.usefixtures("lineage")
@pytest.mark.parametrize(
    "words",
    [["digits", "1"], ["digits", "v1"], ["digits@1"], ["digits@v1"], ["digits@champion"], ["digits", "champion"]],
)
def test_a_version_is_read_alike_however_it_is_written(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert call("show", *words, "--json") == 0
    assert json.loads(capsys.readouterr().out)["summary"]["number"] == 1
    assert read_version(words)[0] == "digits"


@pytest.mark.usefixtures("lineage")
def test_what_names_no_version_is_refused() -> None:
    with pytest.raises(ModelwayError, match="the version of 'digits' is missing. Write digits 3, digits@3"):
        call("show", "digits")
    with pytest.raises(ModelwayError, match="the version of 'digits' is missing"):
        call("show", "digits@")
    with pytest.raises(ModelwayError, match="one version is named"):
        call("show", "digits", "1", "2")


def test_several_versions_are_read_by_one_rule() -> None:
    two = [("digits", "1"), ("digits", "2")]
    for words in ("digits 1 2", "digits@1 digits@2", "digits@1 2", "digits@1 @2"):
        assert read_versions(words.split()) == two
    assert read_versions(["digits@1", "other@champion"]) == [("digits", "1"), ("other", "champion")]


@pytest.mark.usefixtures("lineage")
def test_without_a_model_the_versions_of_all_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    open_lineage(f"sqlite:///{tmp_path}/lineage.db").register(make_record("manual__3", model="another"))
    assert call("versions") == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split()[:2] == ["MODEL", "VERSION"]
    assert [row.split()[:2] for row in rows] == [["another", "v1"], ["digits", "v2"], ["digits", "v1"]]


@pytest.mark.parametrize("below", ["", "/below"])
def test_a_home_that_is_a_file_is_refused_in_one_line(
    below: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("MODELWAY_HOME", f"{tmp_path}/file{below}")
    monkeypatch.delenv("MODELWAY_LINEAGE_URL", raising=False)
    for words in (["versions"], ["asset", "list"], ["explain", "digits"], ["serving"], ["gc"], ["run", "digits"]):
        assert main(words) == 1
        printed = capsys.readouterr().err
        home = f"{tmp_path}/file{below}"
        assert (
            printed
            == f"modelway: the home {home} is not a folder: {tmp_path}/file is a file. Set MODELWAY_HOME to a folder.\n"
        )
