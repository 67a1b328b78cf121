"""What a new run takes from earlier ones."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from modelway.errors import ModelwayError, UnknownModel
from modelway.lineage.records.version import RunRecord
from modelway.lineage.store import Lineage, open_lineage

from tests.lineage_samples import digest, make_record


def day(number: int) -> datetime:
    return datetime(2026, 3, number, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Lineage:
    return open_lineage(f"sqlite:///{tmp_path}/lineage.db")


def register(store: Lineage, run_id: str, *, model: str = "digits", dag_id: str = "digits", **run: Any) -> int:
    record = make_record(run_id, model=model)
    return store.register(replace(record, run=RunRecord(dag_id=dag_id, run_id=run_id, **run)))


def test_the_record_of_a_run_comes_back_as_it_was_written(store: Lineage) -> None:
    record = make_record()
    store.register(record)
    found = store.version("digits", 1)
    assert found.run == record.run
    assert found.summary.checkpoint_uri == record.checkpoint_uri


def test_the_newest_version_of_the_same_inputs_is_found_but_not_the_asking_runs_own(store: Lineage) -> None:
    same, other = digest("same"), digest("other")
    me = {"dag_id": "digits", "run_id": "me"}
    assert store.version_of_inputs("digits", same, **me) is None
    register(store, "a", inputs_digest=same)
    register(store, "b", inputs_digest=other)
    register(store, "c", inputs_digest=same)
    register(store, "d")
    register(store, "me", inputs_digest=same)
    register(store, "x", model="letters", inputs_digest=same)
    assert store.version_of_inputs("digits", same, **me) == 3
    assert store.version_of_inputs("digits", same, dag_id="another", run_id="me") == 5
    assert store.version_of_inputs("digits", other, **me) == 2
    assert store.version_of_inputs("letters", same, **me) == 1
    assert store.version_of_inputs("digits", digest("unseen"), **me) is None


def test_the_version_of_the_latest_data_is_found_when_it_is_later(store: Lineage) -> None:
    def later(end: datetime, *, after: int = 20, with_start: bool = False, run_id: str = "me") -> Any:
        me = {"dag_id": "digits", "run_id": run_id}
        return store.later_version("digits", end=end, run_after=day(after), with_start=with_start, **me)

    assert later(day(1)) is None
    register(store, "a", interval_start=day(4), interval_end=day(5), run_after=day(15))
    register(store, "b", interval_start=day(2), interval_end=day(3))
    register(store, "c", interval_end=day(7))
    register(store, "d")
    assert later(day(4)) == (3, day(7))
    assert later(day(4), with_start=True) == (1, day(5))
    assert later(day(5), with_start=True) is None
    assert later(day(5), with_start=True, after=15) is None
    assert later(day(5), with_start=True, after=14) == (1, day(5))
    assert later(day(7)) is None
    assert later(day(6), run_id="c") is None


def test_what_training_took_is_the_mean_of_the_runs_that_tell_it(store: Lineage) -> None:
    assert store.training_cost("digits") is None
    register(store, "a")
    assert store.training_cost("digits") is None
    register(store, "b", seconds=10.0, gpu_seconds=0.0)
    register(store, "c", seconds=30.0, gpu_seconds=60.0)
    cost = store.training_cost("digits")
    assert cost is not None
    assert (cost.runs, cost.seconds, cost.gpu_seconds) == (2, 20.0, 30.0)
    for number in range(20):
        register(store, f"new-{number}", seconds=1.0, gpu_seconds=2.0)
    cost = store.training_cost("digits")
    assert cost is not None
    assert (cost.runs, cost.seconds, cost.gpu_seconds) == (20, 1.0, 2.0)


def test_the_versions_of_a_schedule_are_found_by_their_interval(store: Lineage) -> None:
    register(store, "a", run_type="scheduled", interval_start=day(1), interval_end=day(2))
    register(store, "b", run_type="backfill", interval_start=day(1), interval_end=day(2))
    register(store, "c", run_type="manual", interval_start=day(2), interval_end=day(3))
    register(store, "d", run_type="scheduled")
    assert store.versions_of_schedule("digits") == {day(1): 2}
    assert store.versions_of_schedule("letters") == {}


def test_a_run_that_takes_a_version_is_recorded_once(store: Lineage) -> None:
    store.register(make_record())
    reported = {"model": "digits", "version": 1, "dag_id": "digits", "run_id": "later", "reason": "the same inputs"}
    assert store.record_reuse(**reported, actor="mia") is True
    assert store.record_reuse(**reported, actor="mia") is False
    assert store.record_reuse(**{**reported, "dag_id": "another"}) is True
    assert store.aliases("digits") == {}
    assert store.record_reuse(**{**reported, "run_id": "last"}, alias="candidate") is True
    store.register(make_record("second", alias="candidate"))
    assert store.record_reuse(**{**reported, "run_id": "last"}, alias="candidate") is False
    assert store.aliases("digits") == {"candidate": 2}
    with pytest.raises(ModelwayError, match="'v3' cannot be an alias"):
        store.record_reuse(**{**reported, "run_id": "none"}, alias="v3")
    found = [event for event in store.version("digits", 1).events if event.kind == "version-reused"]
    assert [(event.run_id, event.detail["dag_id"], event.actor) for event in found] == [
        ("last", "digits", "airflow"),
        ("later", "another", "airflow"),
        ("later", "digits", "mia"),
    ]
    assert found[0].detail["reason"] == "the same inputs"
    # The run made no version of its own.
    assert store.version_of_run("digits", dag_id="digits", run_id="later") is None
    with pytest.raises(UnknownModel):
        store.record_reuse(**{**reported, "model": "letters"})
