"""What ``modelway reproduce`` lays out before it runs anything; tests/system/test_reproduce.py runs it."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from modelway.artifacts.code_package import write_code_package
from modelway.artifacts.dataset import read_dataset
from modelway.artifacts.store import ArtifactStore
from modelway.cli import main
from modelway.cli._reproduction import Reproduction, prepare
from modelway.errors import DigestMismatch, InvalidDataset, ModelwayError
from modelway.hooks.settings import load_settings
from modelway.lineage.record import DatasetRecord, VersionDetail
from modelway.lineage.store import open_store
from modelway.spec.load import load_spec

from tests.lineage_samples import digest, make_record

SPEC = """
model: steady
params: {scale: {default: 1.0}}
datasets: {rows: {uri: "/data/{{ params.scale }}", version: "{{ params.scale }}"}}
train: {backend: local, base: champion, params: {lr: 0.1}, stages: [{name: first}, {name: second}]}
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MODELWAY_HOME", str(tmp_path / "home"))
    for name in ("MODELWAY_LINEAGE_URL", "MODELWAY_ARTIFACT_ROOT", "MODELWAY_MODELS"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "rows.csv").write_text("a\n1\n")
    folder = tmp_path / "models" / "steady"
    folder.mkdir(parents=True)
    (folder / "steady.py").write_text("def train(job): ...\ndef evaluate(job, c): ...\ndef export(job, c): ...\n")
    (folder / "model.yaml").write_text(SPEC)
    return tmp_path


def recorded(place: Path, **run: Any) -> VersionDetail:
    """Return the record of a version as a run of the model would have written it."""
    package, rows = place / "code.zip", (place / "rows.csv").as_uri()
    write_code_package(folder=place / "models" / "steady", to=package)
    code = ArtifactStore(load_settings().artifact_root).put(package, model="steady")
    data = read_dataset(name="rows", uri=rows)
    record = make_record("r1", model="steady", params={"second": {"scale": 0.5, "lr": 0.1}})
    own = {
        "spec": load_spec(place / "models" / "steady").to_dict(),
        "code_digest": code.digest,
        "code_uri": code.uri,
        "code_size": code.size,
        "seed": 11,
        "datasets": (DatasetRecord(stage="second", name="rows", uri=rows, digest=data.digest, version="v"),),
    }
    record = replace(record, run=replace(record.run, **own | run))
    store = open_store(load_settings().lineage_url)
    return store.version("steady", store.register(record))


def laid_out(place: Path, detail: VersionDetail, base: VersionDetail | None = None) -> Reproduction:
    return prepare(detail, base, settings=load_settings(), home=place / "again")


def test_code_spec_seed_parameters_stages_and_data_are_those_of_the_record(place: Path) -> None:
    detail = recorded(place)
    (place / "models" / "steady" / "steady.py").write_text("other code")
    plan = laid_out(place, detail)
    folder = place / "again" / "models" / "steady"
    assert (folder / "steady.py").read_text().startswith("def train")
    spec = load_spec(folder)
    assert spec.datasets["rows"].uri == (place / "rows.csv").as_uri()
    assert (spec.train.base, spec.schedule, spec.reuse) == (None, None, "never")
    assert plan.words == (
        *("steady", "--seed", "11", "--set", 'rollout="no"', "--set", 'base="none"', "--set", "scale=0.5"),
        *("--set", 'skip=["first"]', "--run-after", "2026-03-01T00:00:00+00:00"),
    )
    assert plan.environment["MODELWAY_HOME"] == str(place / "again")
    assert plan.lineage_url == f"sqlite:///{place}/again/lineage.db"


def test_a_data_set_that_changed_or_went_is_told_by_name(place: Path) -> None:
    detail = recorded(place)
    (place / "rows.csv").write_text("a\n2\n")
    with pytest.raises(InvalidDataset, match="data set 'rows' has changed"):
        laid_out(place, detail)
    (place / "rows.csv").unlink()
    with pytest.raises(InvalidDataset, match="rows"):
        laid_out(place, detail)
    with pytest.raises(InvalidDataset, match="the record does not tell what was read"):
        laid_out(place, replace(detail, run=replace(detail.run, datasets=())))
    assert not (place / "again").exists()


def test_code_that_is_gone_or_damaged_is_refused(place: Path) -> None:
    detail = recorded(place)
    store = ArtifactStore(load_settings().artifact_root)
    stored = Path(store.uri(str(detail.run.code_digest), model="steady").removeprefix("file://"))
    content = stored.read_bytes()
    stored.chmod(0o644)
    stored.write_bytes(content[:-1] + b"x")
    with pytest.raises(DigestMismatch):
        laid_out(place, detail)
    stored.unlink(missing_ok=True)
    with pytest.raises(DigestMismatch):
        prepare(detail, None, settings=load_settings(), home=place / "another")


def test_code_is_found_where_it_was_stored_then(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detail = recorded(place)
    monkeypatch.setenv("MODELWAY_ARTIFACT_ROOT", (place / "moved").as_uri())
    laid_out(place, detail)
    assert (place / "again" / "models" / "steady" / "steady.py").exists()


def test_a_version_that_began_from_another_begins_from_its_checkpoint(place: Path) -> None:
    weights = place / "weights"
    weights.write_bytes(b"weights")
    stored = ArtifactStore(load_settings().artifact_root).put(weights, model="steady")
    detail = recorded(place)
    summary = replace(detail.summary, checkpoint_digest=stored.digest, checkpoint_uri=stored.uri, number=41)
    plan = laid_out(place, detail, replace(detail, summary=summary))
    assert 'base="1"' in plan.words
    own = open_store(plan.lineage_url).version("steady", 1).summary
    assert (own.checkpoint_digest, own.checkpoint_uri) == (stored.digest, stored.uri)
    gone = replace(summary, checkpoint_digest=digest("gone"), checkpoint_uri=None)
    with pytest.raises(DigestMismatch, match="the checkpoint of version 41, which training began from, is gone"):
        prepare(detail, replace(detail, summary=gone), settings=load_settings(), home=place / "another")


def test_what_only_a_schedule_can_give_and_a_record_that_lacks_something_are_refused(place: Path) -> None:
    detail = recorded(place, interval_start=datetime(2026, 2, 28, tzinfo=UTC))
    spec = json.loads(json.dumps(detail.run.spec))
    spec["train"]["params"]["day"] = "{{ interval_start }}"
    with pytest.raises(ModelwayError, match="made from its interval_start, which a run by hand does not have"):
        laid_out(place, replace(detail, run=replace(detail.run, spec=spec)))
    for lacking in ({"spec": {}}, {"seed": None}, {"code_digest": None}):
        with pytest.raises(ModelwayError, match="no model spec, code or seed"):
            laid_out(place, replace(detail, run=replace(detail.run, **lacking)))
    assert not (place / "again").exists()


def test_unknown_versions_and_a_folder_in_use_are_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded(place)
    for words, answer in (
        (("stead", "1"), "Did you mean 'steady'?"),
        (("steady", "2"), "has no version '2'"),
        (("steady", "1", "--keep", str(place)), "the folder is not empty"),
    ):
        assert main(["reproduce", *words]) == 1
        assert answer in capsys.readouterr().err
