"""What is written into the lineage comes out of it again, once."""

import json
import math
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from modelway.errors import ModelwayError, RolloutAborted, UnknownModel, UnknownVersion
from modelway.lineage.records.values import plain
from modelway.lineage.records.version import EvaluationRecord, MetricPoint, RolloutRecord
from modelway.lineage.store import Lineage, open_lineage
from sqlalchemy.exc import IntegrityError

from tests.lineage_samples import digest, make_record


@pytest.fixture
def store(tmp_path: Path) -> Lineage:
    return open_lineage(f"sqlite:///{tmp_path}/lineage.db")


def test_everything_that_was_registered_is_read_back(store: Lineage) -> None:
    record = make_record()
    assert store.register(record) == 1
    found = store.version("digits", 1)
    assert found.run == record.run
    assert found.params == record.params
    assert found.files == record.files
    assert found.summary.metrics == record.metrics
    assert found.summary.created_by == "mia"
    assert found.summary.archive_digest == record.archive_digest
    assert found.summary.description == "handwritten digits"
    assert [e.checkpoint for e in found.evaluations] == ["coarse-1", "fine-2", "fine-3"]
    assert found.evaluations[1].note == "diverged"
    assert [(s.stage, s.name, s.steps, s.values) for s in found.series] == [
        ("fine", "loss", (1, 2, 3), (1.0, 0.5, 1 / 3))
    ]
    assert [event.kind for event in found.events] == ["version-registered"]
    assert (found.architecture, found.base) == (record.architecture, None)
    assert store.register(make_record("later", base=1)) == 2
    assert store.version("digits", 2).base == 1
    # Two versions that were trained in one environment name one row.
    assert store.version("digits", 2).run.stages == record.run.stages


def test_registering_a_run_again_returns_the_first_number_and_changes_nothing(store: Lineage) -> None:
    assert store.register(make_record("run-a")) == 1
    assert store.register(make_record("run-b")) == 2
    before = store.version("digits", 1)
    assert store.register(make_record("run-a", metrics={"loss": 9.0}, description="other")) == 1
    assert store.version("digits", 1) == before
    assert [version.number for version in store.versions("digits")] == [2, 1]
    assert store.version_of_run("digits", dag_id="digits", run_id="run-b") == 2
    assert store.version_of_run("digits", dag_id="digits", run_id="run-c") is None


def test_a_version_and_its_alias_are_there_together(store: Lineage) -> None:
    for run_id in ("a", "b"):
        store.register(make_record(run_id, alias="candidate"))
    assert store.aliases("digits") == {"candidate": 2}
    assert [(c.version, c.actor, c.reason) for c in store.alias_history("digits")] == [
        (2, "mia", "registered"),
        (1, "mia", "registered"),
    ]
    kinds = [(event.kind, event.version, event.run_id) for event in store.events("digits", limit=2)]
    assert kinds == [("alias-set", 2, "b"), ("version-registered", 2, "b")]


def test_registering_again_leaves_the_alias_where_it_was_moved_to(store: Lineage) -> None:
    store.register(make_record("a", alias="candidate"))
    store.register(make_record("b"))
    store.set_alias(model="digits", alias="candidate", version=2)
    history, events = store.alias_history("digits"), store.events("digits")
    assert store.register(make_record("a", alias="candidate")) == 1
    assert store.register(make_record("b", alias="another")) == 2
    assert store.aliases("digits") == {"candidate": 2}
    assert (store.alias_history("digits"), store.events("digits")) == (history, events)


def test_a_version_whose_alias_cannot_be_written_is_not_registered(store: Lineage, tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "lineage.db")
    connection.execute("CREATE TRIGGER full BEFORE INSERT ON alias_history BEGIN SELECT RAISE(ABORT, 'no space'); END")
    connection.commit()
    with pytest.raises(IntegrityError, match="no space"):
        store.register(make_record(alias="candidate"))
    assert store.models() == []
    connection.execute("DROP TRIGGER full")
    connection.commit()
    connection.close()
    assert store.register(make_record(alias="candidate")) == 1
    assert store.aliases("digits") == {"candidate": 1}


def test_what_cannot_be_an_alias_is_refused_and_nothing_is_registered(store: Lineage) -> None:
    with pytest.raises(ModelwayError, match="'latest' cannot be an alias"):
        store.register(make_record(alias="latest"))
    assert store.models() == []


def test_two_models_count_by_themselves_and_share_files(store: Lineage) -> None:
    assert store.register(make_record("r", model="digits")) == 1
    assert store.register(make_record("r", model="letters")) == 1
    assert [(model.name, model.latest) for model in store.models()] == [("digits", 1), ("letters", 1)]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
def test_numbers_that_json_lacks_are_kept(store: Lineage, value: float | None) -> None:
    points = () if value is None else (MetricPoint(stage="s", name="loss", step=1, value=value),)
    evaluation = EvaluationRecord(checkpoint="c", metrics={"loss": value}, note="not finite: loss")
    params = {"s": {"limit": value}}
    store.register(make_record(metrics={"loss": value}, evaluations=[evaluation], points=points, params=params))
    found = store.version("digits", 1)
    assert repr(found.summary.metrics["loss"]) == repr(value)
    assert repr(found.evaluations) == repr((evaluation,))
    if value is not None:
        assert repr(found.series[0].values[0]) == repr(value)
    json.dumps(plain(found), allow_nan=False)


def test_two_values_at_one_step_are_both_kept(store: Lineage) -> None:
    points = [MetricPoint(stage="s", name="loss", step=1, value=value) for value in (0.5, 0.25)]
    store.register(make_record(points=points))
    assert store.version("digits", 1).series[0].values == (0.5, 0.25)


def test_an_unknown_model_is_named_with_the_known_ones(store: Lineage) -> None:
    store.register(make_record())
    with pytest.raises(UnknownModel, match=r"no model 'digts'.*Known: digits\. Did you mean 'digits'\?"):
        store.versions("digts")


def test_an_unknown_version_is_named_with_the_known_ones(store: Lineage) -> None:
    store.register(make_record("a"))
    store.register(make_record("b"))
    with pytest.raises(UnknownVersion, match=r"'digits' has no version '3'.*Known: 1 to 2, latest"):
        store.version("digits", 3)
    with pytest.raises(UnknownVersion):
        store.set_alias(model="digits", alias="champion", version=3)


@pytest.mark.parametrize(("wanted", "number"), [("1", 1), ("v2", 2), ("latest", 2), ("champion", 1)])
def test_a_version_is_found_by_number_tag_alias_or_latest(store: Lineage, wanted: str, number: int) -> None:
    store.register(make_record("a"))
    store.register(make_record("b"))
    store.set_alias(model="digits", alias="champion", version=1)
    assert store.find("digits", wanted) == number


@pytest.mark.parametrize("wanted", ["0", "3", "v3", "challenger", "", "1;--", "champoin"])
def test_what_names_no_version_is_refused(store: Lineage, wanted: str) -> None:
    store.register(make_record())
    store.set_alias(model="digits", alias="champion", version=1)
    with pytest.raises(UnknownVersion, match="Known: 1, latest, champion"):
        store.find("digits", wanted)


def test_an_alias_moves_and_remembers_where_it_was(store: Lineage) -> None:
    store.register(make_record("a"))
    store.register(make_record("b"))
    assert store.set_alias(model="digits", alias="champion", version=1, actor="mia", reason="first")
    assert store.set_alias(model="digits", alias="champion", version=2, actor="tom", reason="better")
    assert not store.set_alias(model="digits", alias="champion", version=2, actor="tom", reason="better")
    assert store.aliases("digits") == {"champion": 2}
    assert [(c.version, c.actor, c.reason) for c in store.alias_history("digits")] == [
        (2, "tom", "better"),
        (1, "mia", "first"),
    ]
    assert [v.aliases for v in store.versions("digits")] == [("champion",), ()]
    assert [e.kind for e in store.events("digits", limit=2)] == ["alias-set", "alias-set"]


@pytest.mark.parametrize("alias", ["latest", "3", "v3", "", "a b", "x" * 65])
def test_an_alias_that_could_mean_a_version_is_refused(store: Lineage, alias: str) -> None:
    store.register(make_record())
    with pytest.raises(ModelwayError, match="cannot be an alias"):
        store.set_alias(model="digits", alias=alias, version=1)


def test_weights_are_current_and_historic(store: Lineage) -> None:
    store.register(make_record("a"))
    store.register(make_record("b"))
    assert store.record_weights(endpoint="digits", model="digits", weights={1: 100})
    assert store.record_weights(endpoint="digits", model="digits", weights={1: 90, 2: 10}, run_id="b")
    assert not store.record_weights(endpoint="digits", model="digits", weights={1: 90, 2: 10}, run_id="b")
    assert store.record_weights(endpoint="digits", model="digits", weights={2: 100}, run_id="b")
    assert store.weights("digits") == {1: 0, 2: 100}
    assert [(c.version, c.weight) for c in store.weight_history("digits")] == [
        (2, 100),
        (1, 0),
        (2, 10),
        (1, 90),
        (1, 100),
    ]
    assert store.versions("digits")[0].weights == {"digits": 100}
    assert store.weights("elsewhere") == {}
    with pytest.raises(ModelwayError, match="within 0 and 100"):
        store.record_weights(endpoint="digits", model="digits", weights={1: 101})


def test_the_same_image_is_recorded_once(store: Lineage) -> None:
    store.register(make_record())
    for content in ("one", "one", "two"):
        image = digest(content)
        store.record_image(model="digits", version=1, builder="oci", digest=image, reference=f"r@{image}")
    found = store.version("digits", 1)
    assert [image.digest for image in found.images] == [digest("two"), digest("one")]
    assert found.summary.image is not None
    assert found.summary.image.digest == digest("two")


def test_a_rollout_is_found_again_where_it_stopped(store: Lineage) -> None:
    store.register(make_record())
    assert store.rollout("digits", "manual__1") is None
    begun = RolloutRecord(
        endpoint="digits", run_id="manual__1", model="digits", version=1, state="running", detail={"steps": [10, 100]}
    )
    for record in (begun, replace(begun, step=0), replace(begun, step=0), replace(begun, step=1, state="done")):
        store.save_rollout(record)
        assert store.rollout("digits", "manual__1") == record
        assert store.version("digits", 1).rollouts == (record,)
    assert [event.kind for event in store.events("digits")][:2] == ["rollout-done", "rollout-running"]
    with pytest.raises(ModelwayError, match="'finished' is not a state"):
        store.save_rollout(replace(begun, state="finished"))


@pytest.mark.parametrize("state", ["done", "aborted"])
def test_a_rollout_that_is_over_stays_as_it_is(store: Lineage, state: str) -> None:
    """Whoever read it before it was over, and writes after that, changes nothing."""
    store.register(make_record())
    begun = RolloutRecord(endpoint="digits", run_id="manual__1", model="digits", version=1, state="running")
    over = replace(begun, state=state, detail={"reason": "by hand", "evidence": {"looks": 1}})
    for record in (begun, over, over):
        store.save_rollout(record)
    for record in (replace(begun, step=1), replace(begun, state="aborted" if state == "done" else "done")):
        with pytest.raises(RolloutAborted, match="was closed: by hand"):
            store.save_rollout(record)
    assert store.rollout("digits", "manual__1") == over
    assert store.events("digits")[0].detail == {"endpoint": "digits", "step": -1, "reason": "by hand"}


@pytest.mark.parametrize("field", ["archive_digest", "model_digest", "checkpoint_digest"])
def test_what_is_no_digest_is_refused_and_nothing_is_written(store: Lineage, field: str) -> None:
    with pytest.raises(ModelwayError, match="'md5:1' is not a digest"):
        store.register(make_record(**{field: "md5:1"}))
    assert store.models() == []


def test_a_file_path_that_comes_twice_is_refused(store: Lineage) -> None:
    file = make_record().files[0]
    with pytest.raises(ModelwayError, match="'model/model.onnx' twice"):
        store.register(make_record(files=(file, file)))


def test_names_beyond_ascii_and_many_params_are_kept(store: Lineage) -> None:
    params = {"ступень/🚀": {f"p{number}": number for number in range(20_000)} | {"x" * 500: "'; DROP TABLE runs; --"}}
    store.register(make_record(params=params, metrics={"loss/val 🎯": 1.0}))
    found = store.version("digits", 1)
    assert found.params == params
    assert found.summary.metrics == {"loss/val 🎯": 1.0}


def test_two_dags_with_the_same_run_id_make_two_versions(store: Lineage) -> None:
    first = make_record()
    other = replace(first, run=replace(first.run, dag_id="another-dag"))
    assert [store.register(first), store.register(other), store.register(first)] == [1, 2, 1]


def test_of_a_model_only_the_versions_of_the_named_dags_are_there(store: Lineage) -> None:
    for run_id, dag in (("a", "digits"), ("b", "lab"), ("c", "lab"), ("d", "digits"), ("e", "other")):
        record = make_record(run_id, alias=f"by-{dag}", description=f"of {dag}")
        store.register(replace(record, run=replace(record.run, dag_id=dag)))
    (whole,), (part,) = store.models(), store.models(dags={"lab", "digits", "unused"})
    assert (whole.dags, whole.latest, whole.count, whole.description) == (("digits", "lab", "other"), 5, 5, "of other")
    assert (part.dags, part.latest, part.count, part.description) == (("digits", "lab"), 4, 4, "of digits")
    assert part.aliases == {"by-digits": 4, "by-lab": 3}
    assert store.models(dags=()) == []
    assert [version.number for version in store.versions("digits", dags=["digits"])] == [4, 1]
    assert [version.number for version in store.versions("digits", dags=["lab"], limit=1)] == [3]
    assert store.find("digits", "latest", dags=["lab"]) == 3
    for wanted in ("v4", "by-other", "5"):
        with pytest.raises(UnknownVersion, match="Known: 2 to 3, latest, by-lab"):
            store.find("digits", wanted, dags=["lab"])
    with pytest.raises(UnknownVersion, match="Known: 1, 4, latest, by-digits"):
        store.find("digits", "2", dags=["digits"])
