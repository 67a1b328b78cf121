"""Every event is one of OpenLineage's, by the classes that its project makes of its own JSON schema."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from modelway.lineage.exporters.base import Destination
from modelway.lineage.exporters.openlineage.event import _web_address, dataset_place
from modelway.lineage.exporters.run_key import run_key
from modelway.lineage.records.version import DatasetRecord, FailureRecord, RunRecord
from modelway.lineage.store import Lineage, open_lineage

from tests.exporter_servers import RecordingServer, recording_server
from tests.lineage_samples import make_record
from tests.openlineage_schema import problems
from tests.sweep_samples import sweep_record


@pytest.fixture
def server() -> Iterator[RecordingServer]:
    with recording_server() as started:
        yield started


@pytest.fixture
def store(tmp_path: Any) -> Lineage:
    return open_lineage(f"sqlite:///{tmp_path}/lineage.db", exporters=["openlineage"])


def sent(store: Lineage, server: RecordingServer, **options: str) -> list[Any]:
    there = Destination(exporter="openlineage", url=f"{server.url}/", password="key", options=options)
    (outcome,) = store.exports.flush([there], seconds=60)
    assert (outcome.error, outcome.refused) == ("", 0)
    for event in server.taken:
        assert problems(event) == []
    return server.taken


def test_the_schema_notices_what_is_wrong(store: Lineage, server: RecordingServer) -> None:
    store.register(make_record())
    (event,) = sent(store, server)
    for path, wrong in (
        ("eventType", "DONE"),
        ("eventTime", "yesterday"),
        ("producer", "us"),
        ("run.runId", "manual__1"),
        ("run.facets.nominalTime.nominalStartTime", 5),
        ("run.facets.modelway_model._schemaURL", None),
        ("job.namespace", None),
        ("job.facets.jobType.jobKind", "x"),
        ("inputs.0.facets.schema.fields.0.name", 5),
        ("inputs.0.inputFacets.dataQualityMetrics.rowCount", "many"),
        ("outputs.0.facets.version._schemaURL", "https://openlineage.io/spec/facets/9/X.json"),
    ):
        broken = json.loads(json.dumps(event))
        at, *inner = path.split(".")
        place: Any = broken
        while inner:
            place = place[int(at) if isinstance(place, list) else at]
            at, *inner = inner
        if wrong is None:
            del place[at]
        else:
            place[at] = wrong
        assert problems(broken), path


def test_a_version_is_reported_with_all_it_came_from(store: Lineage, server: RecordingServer) -> None:
    store.register(make_record(metrics={"loss": 0.125, "f1": math.nan}))
    (event,) = sent(store, server)
    version = store.version("digits", 1)
    summary, run = version.summary, version.run
    assert (event["eventType"], event["eventTime"]) == ("COMPLETE", version.events[-1].at.isoformat())
    assert event["run"]["runId"] == run_key("digits", run)
    facets = event["run"]["facets"]
    assert facets["nominalTime"]["nominalStartTime"] == "2026-02-28T00:00:00+00:00"
    assert facets["nominalTime"]["nominalEndTime"] == "2026-03-01T00:00:00+00:00"
    assert facets["processing_engine"]["name"] == "Airflow"
    model = facets["modelway_model"]
    assert (
        model.items()
        >= {
            "model": "digits",
            "version": 1,
            "dagId": "digits",
            "runId": "manual__1",
            "actor": "mia",
            "commit": "c0ffee",
            "dirty": True,
            "seed": 7,
            "codeDigest": run.code_digest,
            "inputsDigest": run.inputs_digest,
            "archiveDigest": summary.archive_digest,
            "modelDigest": summary.model_digest,
            "checkpoint": "fine-3",
            "metrics": {"loss": 0.125, "f1": "NaN"},
        }.items()
    )
    assert (event["job"]["namespace"], event["job"]["name"]) == ("modelway", "digits")
    code = event["job"]["facets"]["sourceCodeLocation"]
    assert (code["type"], code["url"], code["version"], code["branch"]) == ("git", run.repository, "c0ffee", "main")
    assert event["job"]["facets"]["jobType"]["processingType"] == "BATCH"
    images, sales = event["inputs"]
    assert (images["namespace"], images["name"]) == ("file", "/data/images")
    assert images["facets"]["version"]["datasetVersion"] == "7"
    assert images["facets"]["schema"]["fields"] == [
        {"name": "pixel", "type": "float"},
        {"name": "label", "type": "int"},
    ]
    quality = images["inputFacets"]["dataQualityMetrics"]
    assert (quality["rowCount"], quality["columnMetrics"]) == (60_000, {"pixel": {"nullCount": 0}})
    assert (sales["namespace"], sales["name"]) == ("warehouse", "sales")
    (output,) = event["outputs"]
    assert (output["namespace"], output["name"]) == ("modelway", "digits")
    assert output["facets"]["version"]["datasetVersion"] == "1"
    assert output["facets"]["dataSource"]["uri"] == summary.archive_uri
    assert (output["outputFacets"]["outputStatistics"]["size"], summary.archive_size) == (4321, 4321)


def test_a_run_begins_and_fails_under_one_id(store: Lineage, server: RecordingServer) -> None:
    run = make_record().run
    store.exports.record_run_started(model="digits", run=run)
    at = {"model": "digits", "dag_id": "digits", "run_id": "manual__1", "at": run.started_at}
    failed = {"kind": "out_of_memory", "advice": "Give it more memory."}
    store.record_failure(FailureRecord(key="train.fine", attempt=1, cause="It ran out of memory.", **at, **failed))
    store.exports.record_run_failed(dag_id="digits", run_id="manual__1")
    start, fail = sent(store, server)
    assert (start["eventType"], fail["eventType"]) == ("START", "FAIL")
    assert start["run"]["runId"] == fail["run"]["runId"] == run_key("digits", run)
    assert fail["run"]["facets"]["errorMessage"]["message"] == "It ran out of memory. Give it more memory."
    assert start["inputs"] == fail["inputs"]
    assert [each["name"] for each in start["inputs"]] == ["/data/images", "sales"]
    assert (start["outputs"], fail["outputs"]) == ([], [])
    assert start["job"] == fail["job"]


def test_a_run_that_takes_a_version_ends_without_an_output(store: Lineage, server: RecordingServer) -> None:
    store.register(make_record())
    taking = RunRecord(dag_id="nightly", run_id="two", actor="ben")
    store.exports.record_run_started(model="digits", run=taking)
    store.record_reuse(model="digits", version=1, dag_id="nightly", run_id="two", actor="ben", alias="candidate")
    _, start, taken = sent(store, server)
    assert (start["eventType"], taken["eventType"], taken["outputs"]) == ("START", "COMPLETE", [])
    assert start["run"]["runId"] == taken["run"]["runId"] == run_key("digits", taking)
    assert start["job"]["name"] == taken["job"]["name"] == "nightly.digits"
    assert taken["run"]["facets"]["modelway_model"]["version"] == 1


def test_a_bare_run_is_an_event_too(store: Lineage, server: RecordingServer) -> None:
    store.exports.record_run_started(model="…/🦊", run=RunRecord(dag_id="a", run_id="b"))
    data = DatasetRecord(stage="fine", name="…", uri="/data/ä b")
    strange = {"repository": "/srv/Ünï code", "commit": "c0ffee", "datasets": (data,)}
    store.register(make_record(model="…/🦊", run=RunRecord(dag_id="a", run_id="b", **strange), files=()))
    _, made = sent(store, server)
    assert made["inputs"][0]["facets"]["dataSource"]["uri"] == "file:///data/%C3%A4%20b"


def test_the_connection_says_where_and_as_whom(store: Lineage, server: RecordingServer) -> None:
    store.register(make_record())
    (event,) = sent(store, server, endpoint="/lineage/events", namespace="prod")
    assert event["job"]["namespace"] == event["outputs"][0]["namespace"] == "prod"
    (request,) = server.requests
    assert (request["path"], request["authorization"]) == ("/lineage/events", "Bearer key")
    store.register(make_record("two"))
    sent(store, server)
    assert server.requests[1]["path"] == "/api/v1/lineage"


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("s3://bucket/a/b.parquet", ("s3://bucket", "a/b.parquet")),
        ("file:///data/images", ("file", "/data/images")),
        ("/data/images", ("file", "/data/images")),
        ("warehouse://sales", ("warehouse", "sales")),
        ("postgres://mia:s3cret@db:5432/shop/public.orders", ("postgres://db:5432", "shop/public.orders")),
        ("https://mia:s3cret@example.com/x.csv?sig=s3cret", ("https://example.com", "x.csv")),
        ("sklearn://datasets/digits", ("sklearn://datasets", "digits")),
        ("", ("file", "the name")),
        ("urn:table:7", ("urn", "table:7")),
    ],
)
def test_data_sets_are_named_by_their_address(uri: str, place: tuple[str, str]) -> None:
    assert dataset_place(uri, "the name") == place


def test_a_repository_is_a_uri_however_git_writes_it() -> None:
    assert _web_address("https://example.org/a.git") == "https://example.org/a.git"
    assert _web_address("git@example.org:team/a.git") == "ssh://git@example.org/team/a.git"
    assert _web_address("/srv/git/a") == "file:///srv/git/a"


def test_each_candidate_of_a_sweep_is_a_run_below_the_versions_run(store: Lineage, server: RecordingServer) -> None:
    store.register(sweep_record("manual__1"))
    made, *candidates = sent(store, server)
    parent = {"run": {"runId": made["run"]["runId"]}, "job": {"namespace": "modelway", "name": "digits"}}
    found = [each["run"]["facets"]["modelway_candidate"] for each in candidates]
    assert [(each["name"], event["eventType"]) for each, event in zip(found, candidates, strict=True)] == [
        *(("c01", "COMPLETE"), ("c02", "COMPLETE"), ("c03", "ABORT"), ("c04", "FAIL"))
    ]
    for event in candidates:
        facets = event["run"]["facets"]
        assert facets["parent"].items() >= parent.items()
        assert event["job"]["name"] == "digits.candidate"
        assert event["eventTime"] == made["eventTime"]
    assert len({event["run"]["runId"] for event in [made, *candidates]}) == 5
    wanted = {"version": 1, "state": "selected", "params": {"rate": 0.25, "name": "x"}, "metrics": {"loss": 0.25}}
    assert found[1].items() >= (wanted | {"gpuSeconds": 40.0, "checkpoint": "c02-full-000002"}).items()
    assert found[2].items() >= {"metrics": {"loss": "NaN"}, "reason": "loss is nan"}.items()
    assert candidates[3]["run"]["facets"]["errorMessage"]["message"] == "the training failed"


def test_one_data_set_of_two_stages_is_one_input(store: Lineage, server: RecordingServer) -> None:
    record = make_record()
    twice = tuple(replace(each, stage=stage) for stage in ("coarse", "fine") for each in record.run.datasets)
    store.register(replace(record, run=replace(record.run, datasets=twice)))
    (event,) = sent(store, server)
    assert [each["name"] for each in event["inputs"]] == ["/data/images", "sales"]


def test_images_and_weights_are_states_of_the_version(store: Lineage, server: RecordingServer) -> None:
    store.register(make_record())
    store.register(make_record("manual__2"))
    image = {"builder": "oci", "digest": make_record().archive_digest, "reference": "registry/digits:v1"}
    store.record_image(model="digits", version=1, **image, actor="mia")
    store.record_weights(endpoint="digits", model="digits", weights={1: 100}, actor="mia", run_id="manual__1")
    store.record_weights(endpoint="digits", model="digits", weights={1: 90, 2: 10})
    store.record_weights(endpoint="digits", model="digits", weights={1: 90, 2: 10})
    _, _, built, *weights = sent(store, server)
    dataset = built["dataset"]
    assert (dataset["namespace"], dataset["name"]) == ("modelway", "digits")
    assert dataset["facets"]["version"]["datasetVersion"] == "1"
    assert dataset["facets"]["modelway_image"].items() >= {"version": "1", "actor": "mia", **image}.items()
    serving = [event["dataset"]["facets"]["modelway_serving"] for event in weights]
    assert [(each["endpoint"], each["version"], each["weight"]) for each in serving] == [
        *(("digits", "1", 100), ("digits", "1", 90), ("digits", "2", 10))
    ]
    assert (serving[0]["actor"], serving[0]["runId"], "runId" in serving[1]) == ("mia", "manual__1", False)
    broken = json.loads(json.dumps(built))
    broken["dataset"]["facets"]["modelway_image"].pop("_schemaURL")
    assert problems(broken)
