"""What ``modelway reproduce`` lays out before it runs anything; tests/system/test_reproduce.py runs it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from modelway.artifacts.code_package import write_code_package
from modelway.artifacts.dataset import read_dataset
from modelway.artifacts.store import ArtifactStore
from modelway.cli import main
from modelway.cli.reproduce import print_outcome
from modelway.cli.reproduction.preparation import Reproduction, prepare
from modelway.cli.reproduction.recorded_data import check_data
from modelway.cli.reproduction.this_machine import here
from modelway.errors import CapabilityMissing, DigestMismatch, InvalidDataset, ModelwayError
from modelway.hooks.settings import load_settings
from modelway.lineage.records.version import (
    CandidateRecord,
    DatasetRecord,
    EnvironmentRecord,
    StageRecord,
    VersionDetail,
)
from modelway.lineage.store import open_lineage
from modelway.spec.load import load_spec

from tests.lineage_samples import ENVIRONMENT, digest, make_record

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
        "stages": (StageRecord(name="first", skipped=True), StageRecord(name="second", environment=ENVIRONMENT)),
        "datasets": (DatasetRecord(stage="second", name="rows", uri=rows, digest=data.digest, version="v"),),
    }
    record = replace(record, run=replace(record.run, **own | run))
    store = open_lineage(load_settings().lineage_url)
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
    assert plan.arguments == (
        *("steady", "--seed", "11", "--set", 'rollout="no"', "--set", 'base="none"', "--set", "scale=0.5"),
        *("--set", 'skip=["first"]', "--interval", "2026-02-28T00:00:00+00:00", "2026-03-01T00:00:00+00:00"),
        "--partition=2026-02-28T00:00:00",
    )
    assert plan.environment["MODELWAY_HOME"] == str(place / "again")
    assert plan.lineage_url == f"sqlite:///{place}/again/lineage.db"


def test_of_a_sweep_the_selected_candidate_trains_the_stages_that_it_had(place: Path) -> None:
    """It ended early in the first stage: a second one, even one to skip, would have no candidate."""
    candidates = (
        CandidateRecord(name="c01", params={"lr": 0.1}, state="trained", stage="second"),
        CandidateRecord(name="c02", params={"lr": 0.5}, state="selected", stage="first", reason="loss is 9, above 3"),
    )
    stages = (StageRecord(name="first"), StageRecord(name="second", skipped=True))
    plan = laid_out(place, recorded(place, candidates=candidates, stages=stages))
    spec = load_spec(place / "again" / "models" / "steady")
    assert [stage.name for stage in spec.stages()] == ["first"]
    assert spec.search is not None
    assert {name: each.values for name, each in spec.search.params.items()} == {"lr": (0.5,)}
    assert "skip" not in " ".join(plan.arguments)


def test_the_exporters_are_reported_nothing_of_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("MODELWAY_MLFLOW_URL", "MODELWAY_OPENLINEAGE_URL", "AIRFLOW_CONN_MODELWAY_MLFLOW")
    for name in (*names, "OWN"):
        monkeypatch.setenv(name, "http://localhost:1")
    plan = laid_out(place, recorded(place))
    assert not plan.environment.keys() & set(names)
    assert plan.environment["OWN"] == "http://localhost:1"


def test_a_run_without_an_interval_of_its_own_has_the_data_up_to_its_end(place: Path) -> None:
    plan = laid_out(place, recorded(place, interval_start=None, partition=None))
    assert plan.arguments[-2:] == ("--run-after", "2026-03-01T00:00:00+00:00")


def test_a_stage_without_parameters_is_none_that_was_left_out(place: Path) -> None:
    stages = (StageRecord(name="first"), StageRecord(name="second"))
    plan = laid_out(place, recorded(place, stages=stages))
    assert "skip" not in " ".join(plan.arguments)


def test_a_data_set_that_changed_or_went_is_reported_by_name(place: Path) -> None:
    detail = recorded(place)
    (place / "rows.csv").write_text("a\n2\n")
    with pytest.raises(InvalidDataset, match="data set 'rows' has changed"):
        laid_out(place, detail)
    (place / "rows.csv").unlink()
    with pytest.raises(InvalidDataset, match="rows"):
        laid_out(place, detail)
    with pytest.raises(InvalidDataset, match="the record does not say what was read"):
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
    assert 'base="1"' in plan.arguments
    own = open_lineage(plan.lineage_url).version("steady", 1).summary
    assert (own.checkpoint_digest, own.checkpoint_uri) == (stored.digest, stored.uri)
    gone = replace(summary, checkpoint_digest=digest("gone"), checkpoint_uri=None)
    with pytest.raises(DigestMismatch, match="the checkpoint of version 41, which training began from, is gone"):
        prepare(detail, replace(detail, summary=gone), settings=load_settings(), home=place / "another")


def test_a_record_that_lacks_something_is_refused(place: Path) -> None:
    detail = recorded(place)
    for lacking in ({"spec": {}}, {"seed": None}, {"code_digest": None}):
        with pytest.raises(ModelwayError, match="no model spec, code or seed"):
            laid_out(place, replace(detail, run=replace(detail.run, **lacking)))
    assert not (place / "again").exists()


def checked(place: Path, *reported: DatasetRecord) -> tuple[str, ...]:
    """Return what could not be checked of the data sets that the run's code reported."""
    own = DatasetRecord(stage="second", name="rows", uri=(place / "rows.csv").as_uri(), version="v")
    digest = read_dataset(name="rows", uri=own.uri).digest
    run = replace(make_record().run, datasets=(replace(own, digest=digest), *reported))
    return check_data(run, declared={"rows": {}}, jobs=place / "home" / "jobs")


def test_data_that_the_code_reported_is_checked_too(place: Path) -> None:
    (place / "more").mkdir()
    (place / "more" / "a").write_text("a")
    (place / "one").write_text("1")
    one, more = (read_dataset(name="x", uri=str(place / name)).digest or "" for name in ("one", "more"))
    reported = DatasetRecord(stage="second", name="rows", uri=str(place / "one"), digest=one)
    folder = replace(reported, name="folder", uri=(place / "more").as_uri(), digest=more)
    bare = replace(reported, name="bare", digest=one.removeprefix("sha256:").upper())
    assert checked(place, reported, replace(reported, stage="third"), folder, bare) == ()
    with pytest.raises(InvalidDataset, match="data set 'rows' has changed"):
        checked(place, replace(reported, digest=digest("other")))
    (place / "more" / "b").write_text("b")
    with pytest.raises(InvalidDataset, match="data set 'folder' has changed"):
        checked(place, reported, folder)
    (place / "one").unlink()
    for known in (one, None, "md5:0123"):
        with pytest.raises(InvalidDataset, match="data set 'rows' is not there"):
            checked(place, replace(reported, digest=known))


def test_what_cannot_be_checked_is_reported(place: Path) -> None:
    (place / "one").write_text("1")
    reported = DatasetRecord(stage="second", name="rows", uri=str(place / "one"))
    own = replace(reported, uri=str(place / "home" / "jobs" / "m" / "out"), digest=digest("gone by now"))
    for data, why in (
        (reported, "the run reported no SHA-256 of it"),
        (replace(reported, digest="md5:0123"), "the run reported no SHA-256 of it"),
        (replace(reported, uri="sklearn://datasets/digits"), "the run reported no digest of it"),
        (replace(reported, uri="sklearn://datasets/digits", digest=digest("d")), "its store has no such digest of it"),
        (replace(reported, uri="memory://nowhere", digest=None), "the run reported no digest of it"),
        (replace(reported, uri="", digest=digest("d")), "its address is not a URI"),
        (replace(reported, uri="data/rows.csv", digest=digest("d")), "its address is not a URI"),
        (own, "it is in the folder of a job, which makes it again"),
    ):
        assert checked(place, data, replace(data, stage="third")) == (
            f"data set 'rows' ({data.uri or 'without an address'}) was not checked: {why}",
        )
    # Its own data set is checked, whatever more the code reports of it.
    assert checked(place, replace(reported, name="rows", uri=(place / "rows.csv").as_uri(), rows=5)) == ()


def test_a_given_data_set_of_which_nothing_tells_the_content_is_reported(place: Path) -> None:
    data = DatasetRecord(stage="second", name="rows", uri="sklearn://datasets/digits", version="1")
    run = replace(make_record().run, datasets=(data,))
    reported = check_data(run, declared={"rows": {}}, jobs=place / "jobs")
    assert reported == ("data set 'rows' (sklearn://datasets/digits) was not checked: nothing identifies its content",)


CLUSTER = """
model: steady
storage: {nfs: {server: files, path: /x}}
kubernetes: {env: {TOKEN: {secret: s, key: k}, LEVEL: high}}
retry_rules: {out_of_memory: more-memory}
train:
  backend: kubernetes
  resources: {disk: 20Gi, memory: 4Gi, cpu: 500}
  nodes: 3
  stages:
    - {name: first, processes_per_node: 2}
    - {name: second, nodes: 100, resources: {gpu: 64, gpu_type: amd.com/gpu}}
evaluate: {resources: {memory: 1Gi}}
"""


def cluster_spec(place: Path) -> dict[str, Any]:
    (place / "models" / "steady" / "model.yaml").write_text(CLUSTER)
    spec: dict[str, Any] = json.loads(json.dumps(load_spec(place / "models" / "steady").to_dict()))
    return spec


def test_what_a_cluster_gave_becomes_what_this_machine_gives_or_is_reported(place: Path) -> None:
    spec = cluster_spec(place)
    variables, cores = here(spec, skipped={"second"})
    assert variables.startswith("the run had the environment variables of kubernetes.env: LEVEL, TOKEN;")
    assert cores.startswith("stage 'first' had 1500 CPU cores, this machine has ")
    (place / "models" / "steady" / "model.yaml").write_text(json.dumps(spec))
    train = load_spec(place / "models" / "steady").train
    assert train.backend == "local"
    assert [(stage.nodes, stage.processes_per_node) for stage in train.stages] == [(1, 6), (1, 1)]


def test_what_this_machine_does_not_have_is_refused_by_name(place: Path) -> None:
    with pytest.raises(
        CapabilityMissing, match="stage 'second' had 100 processes on 100 nodes, a machine has at most 64"
    ):
        here(cluster_spec(place))
    spec = cluster_spec(place)
    spec["train"]["stages"][1]["nodes"] = 2
    with pytest.raises(CapabilityMissing, match="stage 'second' had 128 GPUs, this machine has "):
        here(spec)


def test_what_was_different_where_it_was_made_is_reported_where_bytes_differ(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    detail = recorded(place)
    own = replace(
        ENVIRONMENT,
        digest=digest("own"),
        image=None,
        python="3.12.1",
        platform="Linux aarch64, Neoverse-N1",
        packages={"numpy": "2.4.0", "torch": "2.13.0"},
    )
    plan = Reproduction(
        model="steady", environment={}, arguments=(), lineage_url="", unchecked=("data set 'x'",), lacking=("no GPUs",)
    )

    def reported(made: VersionDetail, backend: str, environment: EnvironmentRecord | None) -> list[str]:
        stage = StageRecord(name="second", backend=backend, environment=environment)
        made = replace(made, run=replace(made.run, stages=(stage,)))
        again = replace(detail, run=replace(detail.run, stages=(replace(stage, backend="local", environment=own),)))
        print_outcome(made, again, plan=plan)
        return capsys.readouterr().out.splitlines()

    other = replace(detail, summary=replace(detail.summary, model_digest=digest("other")))
    lines = reported(other, "kubernetes", ENVIRONMENT)
    for line in (
        "steady v1: not reproduced; what was recorded, and what came out now:",
        "  This machine is not the place where it was made, which alone can change the bytes:",
        "  ! no GPUs",
        "  ! its jobs ran with the backend kubernetes, here with local",
        f"  ! it ran in the image {ENVIRONMENT.image}, here in none",
        "  ! it ran on Linux x86_64, here on Linux aarch64, Neoverse-N1",
        "  ! it ran with Python 3.11.7, here with Python 3.12.1",
        "  ! 1 package is not the recorded one, see below",
        "  ! data set 'x'",
        "      ~ numpy: 2.3.1 → 2.4.0",
        f"      ~ image: {ENVIRONMENT.image} → -",
    ):
        assert line in lines
    assert "  ! the record does not say in which environment second ran" in reported(other, "docker", None)
    same = reported(detail, "kubernetes", ENVIRONMENT)
    assert same[0] == "steady v1: reproduced, byte for byte"
    assert "  data set 'x'" in same
    assert not [line for line in same if "!" in line]


def test_unknown_versions_and_a_folder_in_use_are_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded(place)
    for words, answer in (
        (("stead", "1"), "Did you mean 'steady'?"),
        (("steady", "2"), "has no version '2'"),
        (("steady", "1", "--keep", str(place)), "the folder is not empty"),
    ):
        assert main(["reproduce", *words]) == 1
        assert answer in capsys.readouterr().err
