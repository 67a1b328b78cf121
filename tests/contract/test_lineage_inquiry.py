"""Points in time, what serves, who has a file, upstream and downstream: on SQLite and on PostgreSQL."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from modelway.errors import ModelwayError, UnknownModel, UnknownVersion
from modelway.lineage.read import models as model_lists
from modelway.lineage.records.answers import LineageGraph
from modelway.lineage.records.assets import NewAssetVersion
from modelway.lineage.records.version import DatasetRecord
from modelway.lineage.schema.engine import connect_engine, parse_url, writing
from modelway.lineage.schema.tables import alias_history, models, versions, weight_history
from modelway.lineage.store import Lineage, open_lineage
from sqlalchemy import Connection, event, insert, select

from tests.lineage_samples import digest, make_record

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ODD = "team/模型 🚀"


@pytest.fixture
def store(url: str) -> Lineage:
    return open_lineage(url)


@pytest.fixture
def lineage(store: Lineage, url: str) -> Lineage:
    """Opened read-only after ``store`` has made the database."""
    found = open_lineage(url, read_only=True)
    assert found is not None
    return found


def other_run(run_id: str, **changes: Any) -> Any:
    """Return a record whose run shares nothing with those of ``make_record``."""
    record = make_record(run_id, **changes)
    own = {"code_digest": digest("code" + run_id), "commit": "fade" * 10, "datasets": (), "stages": ()}
    files = [replace(file, digest=digest(file.path + run_id)) for file in record.files]
    return replace(record, run=replace(record.run, **own), files=files)


def write_lines(url: str, table: Any, lines: list[tuple[int | None, datetime]], **common: Any) -> None:
    """Write history as clocks of any kind would have."""
    with writing(connect_engine(parse_url(url))) as connection:
        model = connection.execute(select(models.c.id)).scalar_one()
        for number, at in lines:
            key = version_key(connection, number)
            row = {"version": key, "at": at, "actor": "mia", **common}
            connection.execute(insert(table), row | ({"model": model} if table is alias_history else {}))


def version_key(connection: Connection, number: int | None) -> int | None:
    if number is None:
        return None
    return connection.execute(select(versions.c.id).where(versions.c.number == number)).scalar_one()


def hours(count: float) -> datetime:
    return NOON + timedelta(hours=count)


def test_an_alias_is_found_where_it_pointed_at_a_time(store: Lineage, lineage: Lineage, url: str) -> None:
    for run in ("a", "b"):
        store.register(make_record(run))
    lines = [(1, hours(1)), (2, hours(3)), (None, hours(5))]
    write_lines(url, alias_history, lines, name="champion", reason="")
    assert lineage.aliases_at("digits", hours(0)) == {}
    assert lineage.aliases_at("digits", hours(1)) == {"champion": 1}
    assert lineage.find_at("digits", "champion", hours(2.9)) == 1
    assert lineage.find_at("digits", "champion", hours(4)) == 2
    assert lineage.aliases_at("digits", hours(5)) == {}, "it was taken away"
    assert lineage.aliases_at("digits", hours(4), dags=["another"]) == {}
    with pytest.raises(UnknownVersion, match="had no 'champion' at 2026-03-01T11:00"):
        lineage.find_at("digits", "champion", hours(-1))


def test_what_was_written_last_counts_when_a_clock_went_backwards(store: Lineage, lineage: Lineage, url: str) -> None:
    for run in ("a", "b", "c"):
        store.register(make_record(run))
    write_lines(url, alias_history, [(1, hours(1)), (2, hours(4)), (3, hours(2))], name="champion", reason="")
    reported = [lineage.aliases_at("digits", hours(at)).get("champion") for at in (0, 1, 2, 3, 4, 9)]
    assert reported == [None, 1, 3, 3, 3, 3]


def test_the_latest_at_a_time_is_the_highest_number_that_was_there(store: Lineage, lineage: Lineage) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    store.register(make_record("a"))
    between = store.version("digits", 1).summary.created_at
    store.register(make_record("b"))
    later = store.version("digits", 2).summary.created_at
    assert lineage.find_at("digits", "latest", later) == 2
    assert lineage.find_at("digits", "v1", between) == lineage.find_at("digits", "1", later) == 1
    if between < later:
        assert lineage.find_at("digits", "latest", between) == 1
    for wanted in ("latest", "1"):
        with pytest.raises(UnknownVersion):
            lineage.find_at("digits", wanted, before)
    with pytest.raises(UnknownVersion, match="Known: latest"):
        lineage.find_at("digits", "7", later)
    with pytest.raises(UnknownModel, match="Did you mean 'digits'"):
        lineage.find_at("digit", "latest", later)


def test_shares_of_traffic_are_reported_for_a_time_with_who_set_them(
    store: Lineage, lineage: Lineage, url: str
) -> None:
    for run in ("a", "b"):
        store.register(make_record(run))
    common = {"endpoint": ODD, "run_id": None}
    for number, weight, at in [(1, 100, 1), (2, 5, 2), (1, 95, 2), (2, 100, 3), (1, 0, 3)]:
        write_lines(url, weight_history, [(number, hours(at))], weight=weight, **common)
    assert lineage.serving(at=hours(0)) == []
    (only,) = lineage.serving(at=hours(1.5))
    assert (only.endpoint, only.model, only.version, only.weight, only.actor) == (ODD, "digits", 1, 100, "mia")
    shares = [(each.version, each.weight) for each in lineage.serving(at=hours(2), model="digits")]
    assert shares == [(1, 95), (2, 5)], "the greatest first"
    (last,) = lineage.serving(at=hours(9))
    assert (last.version, last.since, last.serving_since) == (2, hours(3), hours(2))
    assert lineage.serving(at=hours(9), dags=["another"]) == []


def test_a_stop_of_an_endpoint_counts_from_its_time_on_and_is_recorded_once(store: Lineage, lineage: Lineage) -> None:
    store.register(make_record("a"))
    store.record_weights(endpoint="digits", model="digits", weights={1: 100})
    place = {"endpoint": "digits", "model": "digits", "url": "http://127.0.0.1:1"}
    assert (store.record_endpoint(**place), store.record_endpoint(**place)) == (True, False)
    store.record_endpoint(endpoint="another", model="digits", url="http://127.0.0.1:2", is_stopped=True)
    serving = datetime.now(UTC)
    assert store.record_endpoint(**place, is_stopped=True)
    (then,), (now,) = lineage.serving(at=serving), lineage.serving()
    assert (then.url, then.stopped_at) == (now.url, None) == ("http://127.0.0.1:1", None)
    assert now.stopped_at is not None
    assert now.stopped_at >= serving
    store.record_endpoint(**place)
    assert lineage.serving()[0].stopped_at is None


def test_what_serves_now(store: Lineage, lineage: Lineage) -> None:
    assert lineage.serving() == []
    for run in ("a", "b"):
        store.register(make_record(run))
    store.register(make_record("c", model="words"))
    store.record_weights(endpoint="digits", model="digits", weights={1: 100}, actor="mia", run_id="a")
    store.record_weights(endpoint="digits", model="digits", weights={1: 0, 2: 100}, actor="ben", run_id="b")
    store.record_weights(endpoint="words", model="words", weights={1: 100})
    found = lineage.serving()
    reported = [(each.endpoint, each.version, each.weight, each.actor, each.run_id) for each in found]
    assert reported == [("digits", 2, 100, "ben", "b"), ("words", 1, 100, "airflow", None)]
    assert lineage.serving(model="words") == found[1:]
    with pytest.raises(UnknownModel, match="Did you mean 'words'"):
        lineage.serving(model="word")


def test_who_has_a_content_is_found_by_every_way_of_having_it(store: Lineage, lineage: Lineage, url: str) -> None:
    store.register(make_record("a"))
    store.record_image(model="digits", version=1, builder="oci", digest=digest("image"), reference="registry/digits")
    kinds = {
        digest("onnx"): [("version", "model/model.onnx", "model")],
        digest("archivea"): [("version", "file:///artifacts/a.zip", "archive")],
        digest("modela"): [("version", "", "model")],
        digest("checkpointa"): [("version", "fine-3", "checkpoint")],
        digest("code"): [("run", "", "code")],
        digest("images"): [("dataset", "/data/images", "coarse")],
        digest("image"): [("image", "registry/digits", "oci")],
        digest("nobody"): [],
    }
    for content, holders in kinds.items():
        found = lineage.graph.find_by_digest(content)
        # The version is an asset, too, whose files are the archive and the code.
        assert [(each.kind, each.path, each.role) for each in found if each.kind != "asset"] == holders
        assert lineage.graph.find_by_digest(content, dags=["another"]) == []
    assert lineage.graph.find_by_digest(digest("onnx").removeprefix("sha256:").upper()) == lineage.graph.find_by_digest(
        digest("onnx")
    )
    with pytest.raises(ModelwayError, match="is not a digest"):
        lineage.graph.find_by_digest("onnx")


def names(graph: LineageGraph) -> set[str]:
    return {node.id.removeprefix("sha256:") for node in graph.nodes}


def links(graph: LineageGraph) -> set[tuple[str, str, str]]:
    return {(edge.source, edge.relation, edge.target) for edge in graph.edges}


def test_upstream_of_a_version_reaches_code_data_environment_and_the_version_it_began_from(
    store: Lineage, lineage: Lineage
) -> None:
    store.register(make_record("a"))
    store.register(replace(other_run("b"), base=1))
    graph = lineage.graph.upstream("digits@2")
    assert graph.roots == ("version:digits@2",)
    assert {
        ("version:digits@2", "began from", "version:digits@1"),
        ("version:digits@2", "made by", "run:digits/b"),
        ("run:digits/b", "ran", f"code:{digest('codeb')}"),
        ("run:digits/a", "read", f"dataset:{digest('images')}"),
        ("run:digits/a", "read", "dataset:warehouse://sales"),
        ("run:digits/a", "ran in", f"environment:{digest('environment')}"),
        ("run:digits/a", "from commit", "commit:c0ffee"),
    } <= links(graph)
    assert graph.is_whole
    assert graph == lineage.graph.upstream("version:digits@latest"), "and in the same order"


def test_downstream_of_data_a_commit_code_and_an_image(store: Lineage, lineage: Lineage) -> None:
    store.register(make_record("a"))
    store.register(replace(other_run("b"), base=1))
    store.record_image(model="digits", version=1, builder="oci", digest=digest("image"), reference="registry/digits")
    store.record_weights(endpoint=ODD, model="digits", weights={1: 60, 2: 40})
    whole = {"run:digits/a", "version:digits@1", "version:digits@2", f"image:{digest('image')}", f"endpoint:{ODD}"}
    roots = ("images", "/data/images", digest("images"), "sales", "warehouse://sales", "c0ffee", digest("code"))
    for root in (*roots, f"code:{digest('code')}", "dataset:images", "commit:c0ffee", "run:digits/a"):
        assert whole <= names(lineage.graph.downstream(root)), root
    image = lineage.graph.downstream(f"image:{digest('image')}")
    assert links(image) == {(f"endpoint:{ODD}", "serves", f"image:{digest('image')}")}
    ran_in = lineage.graph.downstream(f"image:sha256:{'0' * 64}")
    assert whole <= names(ran_in), "what was trained in an image"
    assert ran_in.nodes[0].detail["image"] == "registry/train@sha256:" + "0" * 64
    endpoint = lineage.graph.upstream(ODD)
    assert {f"endpoint:{ODD}", "version:digits@1", "version:digits@2", "commit:c0ffee"} <= names(endpoint)
    file = lineage.graph.downstream(digest("onnx"))
    assert ("version:digits@1", "has", f"file:{digest('onnx')}") in links(file)
    assert ("file:" + digest("onnx"), "part of", "version:digits@1") in links(lineage.graph.upstream(digest("onnx")))


def test_assets_are_followed_over_their_references(store: Lineage, lineage: Lineage, url: str) -> None:
    from modelway.lineage.records.assets import AssetFile

    assets = open_lineage(url).assets
    file = AssetFile(path="images.bin", digest=digest("images"), size=3, uri="file:///images")
    assets.add(NewAssetVersion(name="data", files=(file,), references={}, actor="mia"))
    other = replace(file, path="b", digest=digest("b"))
    assets.add(NewAssetVersion(name="study", files=(other,), references={"data": "data@1"}, actor="mia"))
    store.register(make_record("a"))
    assert ("asset:study@1", "refers to", "asset:data@1") in links(lineage.graph.upstream("study"))
    below = lineage.graph.downstream("asset:data")
    assert {"asset:study@1", f"dataset:{digest('images')}", "version:digits@1"} <= names(below)
    assert ("asset", "data", 1, "images.bin") in [
        (each.kind, each.name, each.number, each.path) for each in lineage.graph.find_by_digest(digest("images"))
    ]
    shown = lineage.graph.downstream("asset:data", dags=["digits"])
    assert shown.nodes == (), "what people uploaded was made by no run that may be read"


def test_a_graph_is_bounded_in_steps_and_nodes_and_says_so(store: Lineage, lineage: Lineage) -> None:
    store.register(other_run("r0"))
    for number in range(1, 30):
        store.register(replace(other_run(f"r{number}"), base=number))
    chain = lineage.graph.upstream("digits", steps=100)
    assert chain.is_whole
    assert sum(node.kind == "version" for node in chain.nodes) == 30
    near = lineage.graph.upstream("digits", steps=2)
    assert not near.is_whole
    assert {node.id for node in near.nodes if node.kind == "version"} == {f"version:digits@{n}" for n in (28, 29, 30)}
    few = lineage.graph.upstream("digits", most=7)
    assert not few.is_whole
    assert len(few.nodes) == 7
    known = {node.id for node in few.nodes}
    assert all(edge.source in known and edge.target in known for edge in few.edges)


def test_what_other_dags_made_is_not_in_the_graph(store: Lineage, lineage: Lineage) -> None:
    store.register(make_record("a"))
    secret = make_record("b", model="secret")
    store.register(
        replace(
            secret,
            run=replace(
                secret.run,
                datasets=(
                    *secret.run.datasets,
                    DatasetRecord(stage="coarse", name="salaries", uri="warehouse://salaries", digest=digest("images")),
                ),
            ),
        )
    )
    store.record_weights(endpoint="secret-endpoint", model="secret", weights={1: 100})
    everything = lineage.graph.downstream("images")
    assert "version:secret@1" in names(everything)
    shown = lineage.graph.downstream("images", dags=["digits"])
    assert "version:digits@1" in names(shown)
    assert "secret" not in repr(shown)
    assert "salaries" not in repr(shown)
    assert lineage.graph.upstream("secret@1", dags=["digits"]).nodes == ()


def test_odd_names_are_found_and_unknown_ones_refused(store: Lineage, lineage: Lineage) -> None:
    long = "warehouse://" + "ü" * 10_000
    record = make_record("manual__2026-03-01T12:00:00+00:00 🌙", model=ODD)
    data = (DatasetRecord(stage="coarse", name="a/b 🗂", uri=long),)
    store.register(replace(record, run=replace(record.run, dag_id=ODD, datasets=data)))
    version = f"version:{ODD}@1"
    assert lineage.graph.upstream(f"{ODD}@v1").roots == lineage.graph.upstream(ODD).roots == (version,)
    for root in ("a/b 🗂", long, f"dataset:{long}"):
        assert version in names(lineage.graph.downstream(root))
    for wanted in (long + "x", "digits@1", f"{ODD}@2", f"{ODD}@nobody", "", "@", ":", "version:", "x" * 10_000, "%"):
        with pytest.raises(UnknownVersion, match="knows nothing"):
            lineage.graph.upstream(wanted)
    with pytest.raises(UnknownVersion, match=r"Did you mean 'team/模型 🚀'"):
        lineage.graph.upstream("version:team/模型")


def test_every_query_is_a_look_into_an_index(
    store: Lineage, lineage: Lineage, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As where the models have many versions: the DAGs of few are read at once.
    monkeypatch.setattr(model_lists, "_SCANNED", 0)
    store.register(make_record("a"))
    store.record_image(model="digits", version=1, builder="oci", digest=digest("image"), reference="registry/digits")
    store.record_weights(endpoint="digits", model="digits", weights={1: 100})
    scans: list[tuple[str, str]] = []

    def explain(connection: Any, cursor: Any, statement: str, values: Any, *_: Any) -> None:
        if not statement.lstrip().upper().startswith(("SELECT", "WITH")):
            return
        driver = connection.connection.driver_connection
        if url.startswith("sqlite"):
            lines = [line[3] for line in driver.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
            scans.extend((line, statement) for line in lines if line.startswith("SCAN"))
        else:
            # Small tables are read whole, unless that is forbidden: then only what has no index is.
            driver.execute("SET enable_seqscan = off")
            lines = [line[0] for line in driver.execute(f"EXPLAIN {statement}", values)]
            scans.extend((line, statement) for line in lines if "Seq Scan" in line)

    event.listen(lineage.engine, "before_cursor_execute", explain)
    lineage.graph.upstream("digits")
    for root in ("images", "/data/images", "c0ffee", digest("code"), digest("onnx"), f"image:{digest('image')}"):
        lineage.graph.downstream(root)
    lineage.graph.upstream("digits", dags=["digits"])
    lineage.graph.find_by_digest(digest("onnx"))
    lineage.serving()
    lineage.serving(at=datetime.now(UTC))
    lineage.aliases_at("digits", datetime.now(UTC))
    lineage.find_at("digits", "latest", datetime.now(UTC))
    lineage.models()
    # Of the few models there are, and of their aliases, all are looked at; the two indexes hold little, or are stepped
    # through; of a union, every part is a bounded look into an index of its own.
    allowed = (
        "models",
        "SCAN aliases",
        "on aliases",
        "SCAN steps",
        "CONSTANT ROW",
        "SCAN anon",
        "ix_deployments_serving",
        "ix_weight_history_endpoint",
    )
    found = [scan for scan in scans if not any(word in scan[0] for word in allowed)]
    assert not found, "\n\n".join(f"{what}: {statement}" for what, statement in found)
