"""MLflow gets the same facts: read back from a real server through MLflow's own client, and compared one by one."""

import json
import math
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from modelway.lineage.exporters.base import Destination
from modelway.lineage.exporters.mlflow.names import Keys, entity_key, model_name
from modelway.lineage.records.version import DatasetRecord, MetricPoint, VersionDetail
from modelway.lineage.store import Lineage, open_lineage

from tests.exporter_servers import doorway
from tests.lineage_samples import make_record
from tests.mlflow_server import MlflowServer, mlflow_server
from tests.sweep_samples import sweep_record


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as started:
        yield started


@pytest.fixture
def store(tmp_path: Path) -> Lineage:
    return open_lineage(f"sqlite:///{tmp_path}/lineage.db", exporters=["mlflow"])


def send(store: Lineage, url: str, *, seconds: float = 120) -> Any:
    (outcome,) = store.exports.flush([Destination(exporter="mlflow", url=url)], seconds=seconds)
    return outcome


def sent(store: Lineage, url: str) -> None:
    outcome = send(store, url)
    assert (outcome.error, outcome.refused) == ("", 0), store.exports.states()


def sent_at_last(store: Lineage, url: str) -> None:
    """Send as runs and their schedule do: whoever comes next tries what waits; a server that just started is slow."""
    until = time.monotonic() + 300
    while (outcome := send(store, url)).error and time.monotonic() < until:
        time.sleep(1)
    assert (outcome.error, outcome.refused) == ("", 0), store.exports.states()


def of_model(server: MlflowServer, model: str) -> tuple[list[Any], Any]:
    """Return the runs and the registered model that MLflow's own client finds."""
    found = server.read(model_name(model))
    (registered,) = found["models"]
    return found["runs"], registered


def milliseconds(moment: Any) -> int:
    return int(moment.timestamp() * 1000)


def as_read(value: float) -> str:
    """MLflow keeps infinity as the greatest number."""
    return repr(math.copysign(1.7976931348623157e308, value) if math.isinf(value) else float(value))


def wanted_metrics(version: VersionDetail) -> dict[str, list[tuple[int, str]]]:
    points: dict[str, list[tuple[int, str]]] = {}
    for series in version.series:
        key = f"{series.stage}.{series.name}"
        points[key] = [(s, as_read(v)) for s, v in zip(series.steps, series.values, strict=True)]
    for each in version.evaluations:
        for name, value in each.metrics.items():
            if value is not None:
                points.setdefault(f"evaluation.{each.stage}.{name}", []).append((each.step or 0, as_read(value)))
    points |= {name: [(0, as_read(value))] for name, value in version.summary.metrics.items() if value is not None}
    return points


def test_every_field_of_a_version_is_read_back(server: MlflowServer, store: Lineage) -> None:
    losses = [math.nan, math.inf, -math.inf, 1e-300, -0.5]
    points = tuple(MetricPoint(stage="fine", name="loss", step=s, value=v) for s, v in enumerate(losses, start=1))
    store.register(
        make_record(model="fields", points=points, alias="candidate", metrics={"loss": 0.125, "f1": math.nan})
    )
    store.register(make_record("manual__2", model="fields", alias="candidate"))
    store.set_alias(model="fields", alias="champion", version=1)
    sent(store, server.url)
    runs, registered = of_model(server, "fields")
    detail = store.version("fields", 1)
    (run,) = (run for run in runs if run["name"] == "manual__1")
    record, summary = detail.run, detail.summary
    assert (run["status"], run["start"]) == ("FINISHED", milliseconds(record.started_at))
    assert run["end"] == milliseconds(summary.created_at)
    assert run["params"] == {
        **{"coarse.layers": "[8, 16]", "coarse.lr": "0.01"},
        **{"fine.lr": "0.001", "fine.schedule": "null"},
    }
    history = {key: [(step, value) for step, value, _ in points] for key, points in run["history"].items()}
    assert history == {key: sorted(found) for key, found in wanted_metrics(detail).items()}
    assert {time for found in run["history"].values() for _, _, time in found} == {run["start"]}
    assert record.interval_start is not None
    assert (
        run["tags"].items()
        >= {
            "modelway.model": "fields",
            "modelway.version": "1",
            "modelway.dag_id": record.dag_id,
            "modelway.run_id": record.run_id,
            "modelway.actor": "mia",
            "modelway.reason": "the data of <February> is whole",
            "modelway.commit": "c0ffee",
            "modelway.branch": "main",
            "modelway.dirty": "true",
            "modelway.diff_digest": record.diff_digest,
            "modelway.code_digest": record.code_digest,
            "modelway.inputs_digest": record.inputs_digest,
            "modelway.archive_digest": summary.archive_digest,
            "modelway.model_digest": summary.model_digest,
            "modelway.checkpoint": "fine-3",
            "modelway.checkpoint_digest": summary.checkpoint_digest,
            "modelway.interval_start": record.interval_start.isoformat(),
            "modelway.seed": "7",
            "mlflow.user": "mia",
            "mlflow.source.git.commit": "c0ffee",
            "mlflow.note.content": "handwritten digits",
        }.items()
    )
    data = {each["name"]: each for each in run["inputs"]}
    assert json.loads(data["images"]["source"]) == {
        **{"uri": "/data/images", "digest": record.datasets[0].digest, "version": "7"}
    }
    assert (json.loads(data["images"]["profile"]), data["images"]["tags"]) == (
        {"num_rows": 60000},
        {"mlflow.data.context": "coarse"},
    )
    assert set(data) == {"images", "sales"}
    assert registered["aliases"] == {"candidate": "2", "champion": "1"}
    first, second = registered["versions"]
    assert (first["run"], second["run"]) == (run["id"], next(each["id"] for each in runs if each is not run))
    assert (first["source"], first["description"]) == ("modelway-file:///artifacts/a.zip", "handwritten digits")
    assert (
        first["tags"].items()
        >= {
            "modelway.version": "1",
            "modelway.archive": "file:///artifacts/a.zip",
            "modelway.archive_digest": summary.archive_digest,
            "modelway.model_digest": summary.model_digest,
        }.items()
    )


def test_images_and_weights_are_tags_of_the_version(server: MlflowServer, store: Lineage) -> None:
    store.register(make_record(model="served"))
    store.register(make_record("manual__2", model="served"))
    reference = {"digest": make_record().archive_digest, "reference": "registry/served:v1"}
    store.record_image(model="served", version=1, builder="oci", **reference)
    store.record_weights(endpoint="served", model="served", weights={1: 100})
    store.record_weights(endpoint="served", model="served", weights={1: 0, 2: 100})
    sent(store, server.url)
    _, registered = of_model(server, "served")
    first, second = (each["tags"] for each in registered["versions"])
    assert (first["modelway.image.oci"], first["modelway.weight.served"]) == ("registry/served:v1", "0")
    assert (second.get("modelway.image.oci"), second["modelway.weight.served"]) == (None, "100")


def test_a_data_set_is_shown_as_it_was_on_its_day_and_with_all_its_stages(server: MlflowServer, store: Lineage) -> None:
    day = DatasetRecord(stage="warmup", name="sales", uri="warehouse://sales", version="day 1", rows=10)
    known = {"digest": "sha256:" + "ab" * 32, "schema": {"price": "float64"}}
    for number, address in ((1, "s3://sales/1"), (2, "s3://sales/2")):
        sales = replace(day, version=f"day {number}", rows=10 * number)
        content = DatasetRecord(stage="warmup", name="prices", uri=address, **known)
        # The plan's record knows no rows, the code of the second stage does.
        datasets = (sales, replace(sales, stage="finetune", rows=None), content, replace(content, stage="finetune"))
        record = make_record(f"day {number}", model="days", alias="prod.eu")
        store.register(replace(record, run=replace(record.run, datasets=datasets)))
    sent(store, server.url)
    runs, registered = of_model(server, "days")
    assert [name for name in registered["aliases"] if name.startswith("prod_eu-")] == list(registered["aliases"])
    assert list(registered["aliases"].values()) == ["2"]
    for number, run in enumerate(sorted(runs, key=lambda run: run["name"]), start=1):
        data = {each["name"]: each for each in run["inputs"]}
        assert len(run["inputs"]) == 2
        assert json.loads(data["sales"]["source"])["version"] == f"day {number}"
        assert json.loads(data["sales"]["profile"]) == {"num_rows": 10 * number}
        assert json.loads(data["prices"]["source"]) == {
            **{"uri": f"s3://sales/{number}", "digest": known["digest"], "version": None}
        }
        assert data["prices"]["digest"].startswith("ab" * 12)
        assert {each["tags"]["mlflow.data.context"] for each in run["inputs"]} == {"warmup, finetune"}


def test_an_archive_on_an_object_store_is_the_source_as_it_is(server: MlflowServer, store: Lineage) -> None:
    store.register(make_record(model="elsewhere", archive_uri="s3://models/elsewhere/a.zip"))
    store.register(make_record("two", model="elsewhere", archive_uri="file:///a/../b.zip"))
    sent(store, server.url)
    _, registered = of_model(server, "elsewhere")
    assert registered["versions"][0]["source"] == "s3://models/elsewhere/a.zip"
    assert registered["versions"][1]["source"].startswith("modelway-archive:///")
    assert registered["versions"][1]["tags"]["modelway.archive"] == "file:///a/../b.zip"


STRANGE = [
    *(
        "a/b:c",
        "…/.. /",
        "../../etc",
        ".",
        "/",
        " ",
        "🦊 fox",
        "x" * 10_000,
        "tab\tnew\nline",
        "nul\0nul",
        "half\ud800",
    ),
    *("'quoted' `ticks` \"and\" %", "a//b", "UPPER", "upper"),
]


def test_names_that_mlflow_refuses_are_mapped_the_same_way_each_time(server: MlflowServer, store: Lineage) -> None:
    outcome = {name: number for number, name in enumerate(STRANGE)}
    plain = {name: number for name, number in outcome.items() if "\0" not in name and "\ud800" not in name}
    points = [MetricPoint(stage="fine", name=name, step=1, value=value) for name, value in plain.items()]
    for model in ("a/b: 🦊", "y" * 10_000, ".."):
        record = make_record(
            f"run of {model[:20]} '%", model=model, params={"st/a": plain}, points=points, alias="best"
        )
        store.register(record)
        sent(store, server.url)
        (run,), registered = of_model(server, model)
        assert registered["tags"]["modelway.model"] == model
        assert registered["aliases"] == {"best": "1"}
        assert sorted(run["params"].values(), key=int) == [str(number) for number in plain.values()]
        strange = [
            points[-1][1]
            for key, points in run["history"].items()
            if key[:10] != "evaluation" and key not in ("loss", "accuracy")
        ]
        assert sorted(map(float, strange)) == list(plain.values())


def test_mapped_names_stay_apart_and_fit() -> None:
    keys = [entity_key(name) for name in STRANGE]
    assert len(set(keys)) == len(STRANGE)
    assert max(map(len, keys)) <= 250
    assert (entity_key("fine.loss"), model_name("digits")) == ("fine.loss", "digits")
    assert len({model_name(name) for name in STRANGE}) == len(STRANGE)
    apart = Keys()
    assert apart.key("a.b", "c") != apart.key("a", "b.c")
    assert apart.key("a.b", "c") == apart.key("a.b", "c")
    assert apart.key("Loss") != apart.key("loss"), "some databases take them for the same"


def test_long_values_are_cut_with_a_mark_and_kept_whole_in_tags(server: MlflowServer, store: Lineage) -> None:
    long, longest = "é" * 20_000, "z" * 200_000
    record = make_record(model="long", params={"fine": {"text": long, "more": longest, "short": "s", "empty": ""}})
    store.register(replace(record, description="d" * 9000, run=replace(record.run, reason="r" * 9000)))
    sent(store, server.url)
    (run,), _ = of_model(server, "long")
    assert (run["params"]["fine.short"], run["params"]["fine.empty"]) == ("s", "")
    cut = run["params"]["fine.text"]
    assert len(cut) <= 6000
    assert cut.startswith("é" * 5000)
    assert "20000 characters" in cut
    assert "".join(run["tags"][f"modelway.param.fine.text.{part}"] for part in (1, 2, 3)) == long
    assert len(run["params"]["fine.more"]) <= 6000
    assert run["tags"]["modelway.reason"] == "r" * 8000


def test_many_params_points_and_values_at_one_step_go_in_batches(server: MlflowServer, store: Lineage) -> None:
    params = {"fine": {f"p{number}": number for number in range(1_050)}}
    points = [MetricPoint(stage="fine", name=f"m{m}", step=s, value=s / 7) for m in range(5) for s in range(500)]
    points += [MetricPoint(stage="fine", name="twice", step=1, value=value) for value in (1.0, 2.0)]
    store.register(make_record(model="many", params=params, points=points))
    sent(store, server.url)
    (run,), _ = of_model(server, "many")
    assert run["params"] == {f"fine.p{number}": str(number) for number in range(1_050)}
    history = {key: [(step, value) for step, value, _ in found] for key, found in run["history"].items()}
    assert {key: len(found) for key, found in history.items() if key.startswith("fine.m")} == {
        f"fine.m{m}": 500 for m in range(5)
    }
    assert history["fine.twice"] == [(1, "1.0"), (1, "2.0")]


def test_an_answer_lost_at_any_request_makes_nothing_twice(server: MlflowServer, store: Lineage) -> None:
    params = {"fine": {f"p{number}": number for number in range(150)}}
    points = [MetricPoint(stage="fine", name="loss", step=s, value=1.0) for s in range(1_000)]
    with doorway(server.url) as door:
        for lost in range(1, 20):
            model = f"lost-{lost}"
            store.register(make_record(model=model, params=params, points=points, alias="best"))
            first = door.passed + 1
            door.lose = lambda number, lost=lost, first=first: number == first + lost - 1
            outcome = send(store, door.url)
            door.lose = lambda _number: False
            sent(store, door.url)
            if not outcome.error:
                break
        else:
            pytest.fail("there are more requests than were lost")
    assert lost > 8
    found = server.read(*(f"lost-{number}" for number in range(1, lost + 1)))
    for number in range(1, lost + 1):
        model = f"lost-{number}"
        (run,) = (run for run in found["runs"] if run["experiment"] == model)
        (registered,) = (each for each in found["models"] if each["name"] == model)
        assert run["status"] == "FINISHED"
        assert len(run["params"]) == 150
        assert len(run["history"]["fine.loss"]) == 1_000
        assert [(each["number"], each["run"]) for each in registered["versions"]] == [("1", run["id"])]
        assert registered["aliases"] == {"best": "1"}
        assert {each["name"] for each in run["inputs"]} == {"images", "sales"}
        assert len(run["inputs"]) == 2


def test_the_candidates_of_a_sweep_are_runs_below_the_versions_run(server: MlflowServer, store: Lineage) -> None:
    store.register(sweep_record("manual__1", model="swept"))
    with doorway(server.url) as door:
        for lost in range(1, 40):
            first = door.passed + 1
            # Each attempt comes one request further than the one before: the creation of each candidate is lost, too.
            door.lose = lambda number, lost=lost, first=first: number == first + lost - 1
            if not send(store, door.url).error:
                break
    assert 5 < lost < 39
    sent(store, server.url)
    runs, registered = of_model(server, "swept")
    (parent,) = (run for run in runs if "modelway.run" in run["tags"])
    below = {run["name"]: run for run in runs if run["tags"].get("mlflow.parentRunId") == parent["id"]}
    assert len(runs) == 5, "each lost answer was sent again, and made nothing twice"
    assert {name: (run["status"], run["tags"]["modelway.state"]) for name, run in below.items()} == {
        **{"c01": ("FINISHED", "trained"), "c02": ("FINISHED", "selected")},
        **{"c03": ("KILLED", "stopped"), "c04": ("FAILED", "failed")},
    }
    assert parent["status"] == "FINISHED"
    assert [version["run"] for version in registered["versions"]] == [parent["id"]]
    two, three = below["c02"], below["c03"]
    assert (two["params"], two["last"]) == ({"rate": "0.25", "name": "x"}, {"loss": "0.25"})
    assert (three["last"], three["tags"]["modelway.reason"]) == ({"loss": "nan"}, "loss is nan")
    assert (two["end"] - two["start"], two["start"]) == (20_000, parent["start"])
    assert two["tags"].items() >= {"modelway.version": "1", "modelway.checkpoint": "c02-full-000002"}.items()
    assert below["c04"]["last"] == {}


def test_a_server_killed_in_the_midst_of_a_version_has_it_once_when_it_is_back(
    server: MlflowServer, store: Lineage
) -> None:
    params = {"fine": {f"p{number}": number for number in range(2_000)}}
    store.register(make_record(model="killed", params=params, alias="best"))
    with doorway(server.url) as door:
        reached = threading.Event()
        door.lose = lambda number: bool(number >= 8 and reached.set())
        sender = threading.Thread(target=send, args=(store, door.url), kwargs={"seconds": 30})
        sender.start()
        try:
            assert reached.wait(60)
        finally:
            server.kill()
            sender.join()
            found = store.exports.states()[0]
            server.start()
    assert (found.waiting, bool(found.error)) == (2, True)
    sent_at_last(store, server.url)
    (run,), registered = of_model(server, "killed")
    assert len(run["params"]) == 2_000
    assert [each["number"] for each in registered["versions"]] == ["1"]
    assert registered["aliases"] == {"best": "1"}


def test_an_alias_of_a_version_that_mlflow_has_not_brings_the_version(server: MlflowServer, tmp_path: Path) -> None:
    open_lineage(f"sqlite:///{tmp_path}/lineage.db").register(make_record(model="before"))
    store = open_lineage(f"sqlite:///{tmp_path}/lineage.db", exporters=["mlflow"])
    store.set_alias(model="before", alias="champion", version=1)
    sent(store, server.url)
    (run,), registered = of_model(server, "before")
    assert (run["status"], registered["aliases"]) == ("FINISHED", {"champion": "1"})


def test_what_is_no_mlflow_is_reported_and_waits(store: Lineage, server: MlflowServer) -> None:
    store.register(make_record(model="nowhere"))
    outcome = send(store, f"{server.url}/elsewhere", seconds=10)
    assert outcome.error
    assert store.exports.states()[0].waiting == 1
