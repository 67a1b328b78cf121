"""``modelway explain`` over a real lineage database."""

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from modelway.cli import explain
from modelway.errors import ModelwayError, UnknownRun
from modelway.lineage.records.version import FailureRecord
from modelway.lineage.store import Lineage, open_lineage

from tests.lineage_samples import make_record

OUT_OF_MEMORY = FailureRecord(
    model="digits",
    dag_id="digits",
    run_id="manual__1",
    key="train.fine",
    attempt=1,
    kind="out_of_memory",
    stage="fine",
    job="mw-digits-train-fine-1",
    cause="out of memory: 2.1 GiB, the limit is 2 GiB",
    advice="The next attempt, if one is left, gets 4Gi of memory; resources.memory can begin with it",
    rule="more-memory",
    last_lines=("step 1", "\x1b[31mKilled"),
    tried_again=True,
    at=datetime(2026, 3, 1, 12, 3, tzinfo=UTC),
)
RAISED: dict[str, Any] = {
    **{name: getattr(OUT_OF_MEMORY, name) for name in ("model", "dag_id", "run_id")},
    "key": "evaluate.checkpoint/fine-2",
    "attempt": 1,
    "kind": "bad_exit",
    "cause": "ValueError: no digits",
    "advice": "Read the last lines of the job's log",
    "at": datetime(2026, 3, 1, 12, 9, tzinfo=UTC),
}


def call(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    explain.add_commands(parser.add_subparsers(required=True))
    args = parser.parse_args(["explain", *arguments])
    status: int = args.run(args)
    return status


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lineage:
    monkeypatch.setenv("MODELWAY_HOME", str(tmp_path))
    monkeypatch.delenv("MODELWAY_LINEAGE_URL", raising=False)
    return open_lineage(f"sqlite:///{tmp_path}/lineage.db")


def then(store: Lineage, capsys: pytest.CaptureFixture[str], *records: FailureRecord) -> list[str]:
    """Return how each attempt continued, as it is printed."""
    for record in records:
        store.record_failure(record)
    assert call("manual__1") == 0
    lines = capsys.readouterr().out.splitlines()
    return [line.split(None, 1)[1] for line in lines if line.startswith("  then")]


def test_a_mended_failure_is_reported_whole(store: Lineage, capsys: pytest.CaptureFixture[str]) -> None:
    store.record_failure(OUT_OF_MEMORY)
    store.record_resolved(dag_id="digits", run_id="manual__1", key="train.fine", attempt=2)
    store.register(make_record("manual__1"))
    assert call("digits") == 0
    assert capsys.readouterr().out.splitlines() == [
        "digits, run manual__1: version v1; 1 failed attempt",
        "",
        "train.fine, attempt 1, 2026-03-01 12:03:00Z",
        "  failed   out of memory: 2.1 GiB, the limit is 2 GiB",
        "  to do    The next attempt, if one is left, gets 4Gi of memory; resources.memory can begin with it",
        "  job      mw-digits-train-fine-1",
        "  log      | step 1",
        "           |  [31mKilled",
        "  then     tried again with more memory: attempt 2 succeeded",
        "",
        "Evaluations that something was noted about:",
        "  fine-2   diverged",
    ]


def test_how_it_continued_is_reported_of_each_attempt(store: Lineage, capsys: pytest.CaptureFixture[str]) -> None:
    evicted: dict[str, Any] = {**RAISED, "key": "train.fine", "kind": "evicted", "rule": "retry", "tried_again": True}
    tries = [FailureRecord(**evicted | {"attempt": number}) for number in (1, 2)]
    assert then(store, capsys, tries[0]) == ["tried again; that attempt has not ended yet, or was stopped"]
    assert then(store, capsys, tries[1])[0] == "tried again"
    last = FailureRecord(**evicted | {"attempt": 3, "tried_again": False})
    assert then(store, capsys, last)[2] == "not tried again: it had no attempt left"
    assert then(store, capsys, FailureRecord(**RAISED))[3] == "not tried again: the same would happen again"
    store.record_resolved(dag_id="digits", run_id="manual__1", key="train.fine", attempt=4)
    assert then(store, capsys)[2] == "not tried again: it had no attempt left; cleared since, attempt 4 succeeded"


def test_a_try_that_a_mark_ended_is_reported_as_that(store: Lineage, capsys: pytest.CaptureFixture[str]) -> None:
    marked = {**RAISED, "key": "train.fine", "kind": None, "rule": "marked", "cause": "the task was marked success"}
    record = FailureRecord(**marked | {"attempt": 1, "resolved_by": 1})
    assert then(store, capsys, record) == ["its job was stopped"]
    assert call("manual__1") == 0
    printed = capsys.readouterr().out
    assert "no version yet; 1 failed attempt" in printed
    assert "  ended    the task was marked success" in printed
    failed = FailureRecord(**marked | {"attempt": 2, "cause": "the task was marked failed"})
    store.record_failure(failed)
    store.record_resolved(dag_id="digits", run_id="manual__1", key="train.fine", attempt=3)
    assert then(store, capsys)[1] == "its job was stopped; cleared since, attempt 3 succeeded"


@pytest.mark.parametrize(
    ("made", "head"),
    [
        (False, "digits, run manual__1: failed in evaluate.checkpoint/fine-2; 1 failed attempt"),
        (True, "digits, run manual__1: version v1, without evaluate.checkpoint/fine-2; 1 failed attempt"),
    ],
)
def test_a_failed_evaluation_is_reported_once_whatever_became_of_the_run(
    store: Lineage, capsys: pytest.CaptureFixture[str], made: bool, head: str
) -> None:
    store.record_failure(FailureRecord(**RAISED))
    if made:
        store.register(make_record("manual__1"))
    assert call("manual__1") == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == head
    assert "  failed   bad exit: ValueError: no digits" in out
    assert "diverged" not in out


def test_a_task_that_failed_without_a_job_is_reported_as_well(
    store: Lineage, capsys: pytest.CaptureFixture[str]
) -> None:
    store.record_failure(FailureRecord(**RAISED | {"key": "package", "kind": None, "cause": "there is no file 'x.py'"}))
    assert call("digits") == 0
    assert "  failed   there is no file 'x.py'" in capsys.readouterr().out.splitlines()


def test_a_run_in_which_nothing_failed_says_so(store: Lineage, capsys: pytest.CaptureFixture[str]) -> None:
    store.register(make_record("manual__1", evaluations=()))
    assert call("manual__1") == 0
    assert capsys.readouterr().out == "digits, run manual__1: version v1; nothing failed\n"


def test_the_account_is_there_as_json(store: Lineage, capsys: pytest.CaptureFixture[str]) -> None:
    store.record_failure(OUT_OF_MEMORY)
    assert call("manual__1", "--json") == 0
    account = json.loads(capsys.readouterr().out)
    assert (account["model"], account["version"]) == ("digits", None)
    (failure,) = account["failures"]
    assert failure["last_lines"] == ["step 1", "\x1b[31mKilled"]
    assert (failure["kind"], failure["at"]) == ("out_of_memory", "2026-03-01T12:03:00+00:00")


def test_a_run_id_of_two_models_needs_the_model(store: Lineage, capsys: pytest.CaptureFixture[str]) -> None:
    store.record_failure(OUT_OF_MEMORY)
    store.register(make_record("manual__1", model="letters"))
    with pytest.raises(UnknownRun, match="Name one of them with --model"):
        call("manual__1")
    assert call("manual__1", "--model", "letters") == 0
    assert capsys.readouterr().out.startswith("letters, run manual__1: version v1")


def test_an_empty_lineage_is_refused_and_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELWAY_HOME", str(tmp_path))
    monkeypatch.delenv("MODELWAY_LINEAGE_URL", raising=False)
    with pytest.raises(ModelwayError, match="the lineage is empty: nothing was registered yet"):
        call("digits")
    assert not list(tmp_path.iterdir())
