"""What the lineage keeps of failed tries, and the account of a run that is made of it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from modelway.errors import UnknownRun
from modelway.failures import FailureKind
from modelway.lineage.records.version import FailureRecord
from modelway.lineage.store import Lineage, open_lineage

from tests.lineage_samples import make_record

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Lineage:
    return open_lineage(f"sqlite:///{tmp_path}/lineage.db")


def failed(attempt: int = 1, *, key: str = "train.fine", run_id: str = "manual__1", **changes: Any) -> FailureRecord:
    known: dict[str, Any] = {
        "model": "digits",
        "dag_id": "digits",
        "run_id": run_id,
        "key": key,
        "attempt": attempt,
        "kind": FailureKind.EVICTED.value,
        "stage": "fine",
        "job": f"mw-digits-{attempt}",
        "cause": "evicted: the node is low on disk",
        "advice": "Set resources.disk",
        "rule": "retry",
        "last_lines": ("step 1", "step 2"),
        "tried_again": True,
        "at": NOON + timedelta(minutes=attempt),
    }
    return FailureRecord(**known | changes)


def test_what_is_written_is_read_again(store: Lineage) -> None:
    store.record_failure(failed())
    account = store.account("manual__1")
    assert (account.model, account.dag_id, account.run_id, account.version) == ("digits", "digits", "manual__1", None)
    assert account.failures == (failed(),)


def test_an_attempt_reported_twice_is_one_line_with_the_later_words(store: Lineage) -> None:
    store.record_failure(failed(cause="something"))
    store.record_failure(failed())
    assert store.account("manual__1").failures == (failed(),)


def test_the_try_that_succeeded_mends_those_before_it_alone(store: Lineage) -> None:
    for record in (failed(1), failed(2), failed(4), failed(1, key="train.coarse"), failed(1, run_id="manual__2")):
        store.record_failure(record)
    mended = {"dag_id": "digits", "run_id": "manual__1", "key": "train.fine", "attempt": 3}
    assert store.record_resolved(**mended) == 2
    assert store.record_resolved(**mended) == 0
    found = store.account("manual__1").failures
    assert {(one.key, one.attempt): one.resolved_by for one in found} == {
        ("train.fine", 1): 3,
        ("train.fine", 2): 3,
        ("train.fine", 4): None,
        ("train.coarse", 1): None,
    }
    assert [one.resolved_by for one in store.account("manual__2").failures] == [None]


def test_the_tries_of_a_task_stand_together_and_tasks_in_the_order_of_their_first(store: Lineage) -> None:
    for record in (
        failed(2, at=NOON + timedelta(minutes=9)),
        failed(1, key="evaluate.checkpoint/fine-2", at=NOON + timedelta(minutes=5)),
        failed(1, at=NOON),
    ):
        store.record_failure(record)
    found = [(one.key, one.attempt) for one in store.account("manual__1").failures]
    assert found == [("train.fine", 1), ("train.fine", 2), ("evaluate.checkpoint/fine-2", 1)]


def test_a_models_name_is_its_last_run_be_it_failed_or_registered(store: Lineage) -> None:
    store.record_failure(failed(run_id="manual__0"))
    store.register(make_record("manual__1"))
    assert store.account("digits").run_id == "manual__1"
    store.record_failure(failed(run_id="manual__2", at=datetime.now(UTC) + timedelta(minutes=1)))
    assert store.account("digits").run_id == "manual__2"
    assert store.account("digits", model="digits").run_id == "manual__2"


def test_the_account_of_a_run_that_made_a_version_tells_the_evaluations_that_failed(store: Lineage) -> None:
    store.register(make_record("manual__1"))
    account = store.account("manual__1")
    assert (account.version, account.failures) == (1, ())
    assert [(each.checkpoint, each.note) for each in account.evaluations] == [("fine-2", "diverged")]


def test_a_run_that_took_a_version_has_that_one(store: Lineage) -> None:
    store.register(make_record("manual__1"))
    store.record_failure(failed(run_id="manual__2"))
    assert store.account("manual__2").version is None
    store.record_reuse(model="digits", version=1, dag_id="digits", run_id="manual__2")
    assert store.account("manual__2").version == 1


def test_a_run_id_of_several_models_asks_for_the_model(store: Lineage) -> None:
    store.record_failure(failed())
    store.register(make_record("manual__1", model="letters"))
    with pytest.raises(UnknownRun, match="several models have a run 'manual__1'. Known: digits, letters"):
        store.account("manual__1")
    assert store.account("manual__1", model="letters").version == 1
    assert store.account("manual__1", model="digits").failures


def test_an_unknown_run_is_refused_with_the_models_that_are_known(store: Lineage) -> None:
    store.record_failure(failed())
    with pytest.raises(UnknownRun, match="no run and no model is called 'digit'. Known: digits. Did you mean 'digits'"):
        store.account("digit")
    with pytest.raises(UnknownRun, match="model 'letters' has no run 'manual__1'. Known: digits"):
        store.account("manual__1", model="letters")


def test_what_a_database_cannot_hold_of_a_log_is_left_out(store: Lineage) -> None:
    store.record_failure(failed(cause="a\0b \udc80", last_lines=("#" * 10_000, "x\0\udc80")))
    (found,) = store.account("manual__1").failures
    assert found.cause == "ab ?"
    assert found.last_lines == ("#" * 2000, "x?")
