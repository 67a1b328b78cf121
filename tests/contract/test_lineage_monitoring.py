"""The lineage of the monitor: one check at a time, labels that come late, twice and for requests nobody knows."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from modelway.errors import ModelwayError, UnknownModel
from modelway.lineage.records.monitoring import (
    AddedLabels,
    Check,
    MonitorSlice,
    MonitorState,
    Prediction,
    RetrainRequest,
    Unanswered,
)
from modelway.lineage.records.version import RolloutRecord
from modelway.lineage.store import Lineage, open_lineage

from tests.lineage_samples import make_record

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
EMPTY = MonitorState(endpoint="digits", model="digits")


@pytest.fixture
def lineage(url: str) -> Lineage:
    lineage = open_lineage(url)
    lineage.register(make_record("one"))
    return lineage


def counted(end: datetime = NOW, rows: int = 3) -> MonitorSlice:
    return MonitorSlice(
        endpoint="digits",
        version=1,
        begin=end - timedelta(minutes=15),
        end=end,
        rows=rows,
        tallies={"input x": [[1, 2], 0, 0, 0]},
        numbers={"psi": 0.5},
    )


def request(at: datetime = NOW) -> RetrainRequest:
    return RetrainRequest(
        model="digits",
        endpoint="digits",
        version=1,
        at=at,
        rule="drift",
        reason="drift of x",
        rebuild=False,
        numbers={"psi": 0.5},
    )


def test_a_check_is_written_whole_with_its_request(lineage: Lineage) -> None:
    monitoring = lineage.monitoring
    assert monitoring.state("digits") is None
    check = Check(before=EMPTY, at=NOW, counted=counted(), request=request())
    key = monitoring.save_check(check, state=lambda request: {"request": request})
    found = monitoring.state("digits")
    assert found is not None
    assert (found.revision, found.state, found.updated_at) == (1, {"request": key}, NOW)
    assert monitoring.slices("digits", 1, since=NOW - timedelta(hours=1)) == [counted()]
    assert monitoring.slices("digits", 1, since=NOW) == monitoring.slices("digits", 2, since=NOW) == []
    (requested,) = monitoring.requests("digits")
    assert requested == replace(request(), id=key)
    (event,) = [each for each in lineage.version("digits", 1).events if each.kind == "retrain-requested"]
    assert event.detail["reason"] == "drift of x"


def test_of_two_checks_at_once_one_is_refused_and_writes_nothing(lineage: Lineage) -> None:
    lineage.monitoring.save_check(Check(before=EMPTY, at=NOW), state=lambda _: {"by": "first"})
    second = Check(before=EMPTY, at=NOW, counted=counted(), request=request())
    with pytest.raises(ModelwayError, match="another check was faster"):
        lineage.monitoring.save_check(second, state=lambda _: {"by": "second"})
    found = lineage.monitoring.state("digits")
    assert found is not None
    assert found.state == {"by": "first"}
    assert lineage.monitoring.requests("digits") == []
    assert lineage.monitoring.slices("digits", 1, since=NOW - timedelta(days=1)) == []


def test_a_request_has_one_run_and_its_outcome(lineage: Lineage) -> None:
    monitoring = lineage.monitoring
    key = monitoring.save_check(Check(before=EMPTY, at=NOW, request=request()), state=lambda _: {})
    assert key is not None
    monitoring.record_sent(key, at=NOW)
    monitoring.record_answer(key, run="digits/first")
    monitoring.record_answer(key, run="digits/second")
    monitoring.record_outcome(key, outcome="version 2")
    (found,) = monitoring.requests("digits")
    assert (found.sent_at, found.run_id, found.outcome) == (NOW, "digits/first", "version 2")


def test_labels_come_late_twice_changed_and_for_requests_nobody_knows(lineage: Lineage) -> None:
    monitoring = lineage.monitoring
    predictions = (Prediction(request_id="a", value=1.0), Prediction(request_id="b", value=2.0))
    # One id twice: the first answer stays.
    twice = (*predictions, Prediction(request_id="a", value=9.0))
    monitoring.save_check(Check(before=EMPTY, at=NOW, counted=counted(), predictions=twice), state=lambda _: {})
    since = NOW - timedelta(days=1)
    assert monitoring.labelled("digits", 1, since=since) == (0, 0)
    assert monitoring.add_labels("digits", {"a": 1, "b": 3, "nobody": 1}) == AddedLabels(new=3, unknown=1)
    assert monitoring.labelled("digits", 1, since=since) == (2, 1)
    assert monitoring.errors("digits", 1, since=since) == (2, 1.0, 1.0)
    assert monitoring.errors("digits", 1, since=NOW) == (0, 0.0, 0.0)
    assert monitoring.add_labels("digits", {"a": 1, "b": 2}) == AddedLabels(same=1, changed=1)
    assert monitoring.labelled("digits", 1, since=since) == (2, 2)
    assert monitoring.labelled("digits", 1, since=NOW) == monitoring.labelled("digits", 2, since=since) == (0, 0)
    # The request becomes known later.
    state = monitoring.state("digits")
    assert state is not None
    later = (Prediction(request_id="nobody", value=1.0),)
    monitoring.save_check(Check(before=state, at=NOW, counted=counted(), predictions=later), state=lambda _: {})
    assert monitoring.labelled("digits", 1, since=since) == (3, 3)
    with pytest.raises(UnknownModel, match="no model 'digit'"):
        monitoring.add_labels("digit", {"a": 1})


def test_what_is_old_is_removed_and_the_requests_stay(lineage: Lineage) -> None:
    monitoring = lineage.monitoring
    old = Check(before=EMPTY, at=NOW, counted=counted(), predictions=(Prediction(request_id="a", value=1.0),))
    monitoring.save_check(replace(old, request=request()), state=lambda _: {})
    monitoring.add_labels("digits", {"a": 1})
    state = monitoring.state("digits")
    assert state is not None
    later = NOW + timedelta(days=40)
    check = Check(before=state, at=later, counted=counted(later), oldest=NOW + timedelta(days=1))
    monitoring.save_check(check, state=lambda _: {})
    assert [each.end for each in monitoring.slices("digits", 1, since=NOW - timedelta(days=9))] == [later]
    assert monitoring.labelled("digits", 1, since=NOW - timedelta(days=9)) == (0, 0)
    assert len(monitoring.requests("digits")) == 1


def test_the_last_check_of_many_endpoints_is_read_in_short(lineage: Lineage) -> None:
    monitoring = lineage.monitoring
    assert monitoring.last_checks([]) == monitoring.last_checks(["digits"]) == {}
    raised = {"streak": 2, "raised_at": NOW.timestamp(), "request": 4}
    alarms = {"drift": raised, "quality": {**raised, "request": None}, "volume": {**raised, "raised_at": None}}
    state = {"version": 1, "rows": 12, "alarms": alarms}
    monitoring.save_check(Check(before=EMPTY, at=NOW), state=lambda request: state)
    silent = [Unanswered(since=NOW + timedelta(hours=hours), reason=f"refused {hours}") for hours in (1, 2)]
    for each in silent:
        monitoring.record_unanswered("digits", model="digits", found=each)
        monitoring.record_unanswered("new", model="letters", found=each)
    found = monitoring.last_checks(["digits", "new", "unknown"])
    assert sorted(found) == ["digits", "new"]
    check, new = found["digits"], found["new"]
    assert (check.model, check.version, check.rows, check.at) == ("digits", 1, 12, NOW)
    assert (check.alarms, check.requested) == ({"drift": NOW, "quality": NOW}, {"drift"})
    assert check.unanswered == replace(silent[1], since=silent[0].since)
    assert (new.model, new.version, new.rows, new.alarms) == ("letters", None, 0, {})
    kept = monitoring.state("digits")
    assert kept is not None
    assert (kept.revision, kept.updated_at, kept.state["alarms"]) == (3, NOW, alarms)
    monitoring.save_check(Check(before=kept, at=NOW + timedelta(hours=3)), state=lambda request: state)
    assert monitoring.last_checks(["digits"])["digits"].unanswered is None


def test_the_newest_rollout_of_many_endpoints_is_read_at_once(lineage: Lineage) -> None:
    other = make_record("two")
    lineage.register(replace(other, run=replace(other.run, dag_id="lab")))
    for run, version in (("first", 1), ("second", 2), ("third", 1)):
        for endpoint in ("digits", "digits-dev"):
            if (endpoint, run) == ("digits", "third"):
                continue
            record = RolloutRecord(
                endpoint=endpoint, run_id=f"d/{run}", model="digits", version=version, state="done", detail={"n": run}
            )
            lineage.save_rollout(record)

    def newest(dags: set[str] | None) -> dict[str, tuple[str, int]]:
        found = lineage.newest_rollouts(["digits", "digits-dev", "unknown"], dags=dags)
        assert all(each.model == "digits" and each.updated_at for each in found.values())
        return {name: (each.detail["n"], each.version) for name, each in found.items()}

    assert newest(None) == {"digits": ("second", 2), "digits-dev": ("third", 1)}
    assert newest({"digits"}) == {"digits": ("first", 1), "digits-dev": ("third", 1)}
    assert newest({"lab"}) == {"digits": ("second", 2), "digits-dev": ("second", 2)}
    assert lineage.newest_rollouts([]) == newest({"nothing"}) == {}
