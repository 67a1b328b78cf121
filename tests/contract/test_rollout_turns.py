"""One rollout per endpoint at a time: of two that begin at once one does, and one that is over stays over."""

import multiprocessing
from dataclasses import replace

import pytest
from modelway.errors import RolloutAborted, RolloutChanged
from modelway.lineage.records.version import RolloutRecord
from modelway.lineage.store import Lineage, open_lineage

from tests.lineage_samples import make_record

FORK = multiprocessing.get_context("fork")
BEGINNERS = 4


def rollout(run: str, *, endpoint: str = "digits", version: int = 1) -> RolloutRecord:
    return RolloutRecord(
        endpoint=endpoint, run_id=run, model="digits", version=version, state="running", detail={"stable": None}
    )


@pytest.fixture
def store(url: str) -> Lineage:
    store = open_lineage(url)
    store.register(make_record())
    return store


def test_of_several_rollouts_that_begin_at_once_one_begins(url: str, store: Lineage) -> None:
    barrier, begun = FORK.Barrier(BEGINNERS), FORK.SimpleQueue()

    def begin(number: int) -> None:
        own = open_lineage(url)
        barrier.wait(60)
        running = own.begin_rollout(rollout(f"digits/{number}"))
        begun.put((number, [each.run_id for each in running]))
        own.engine.dispose()

    store.engine.dispose()
    children = [FORK.Process(target=begin, args=(number,)) for number in range(BEGINNERS)]
    for child in children:
        child.start()
    found = dict(begun.get() for _ in children)
    for child in children:
        child.join()
    (first,) = (number for number, running in found.items() if not running)
    assert [running for number, running in found.items() if number != first] == [[f"digits/{first}"]] * 3
    assert [(each.run_id, each.state) for each in store.rollouts("digits")] == [(f"digits/{first}", "running")]
    assert store.begin_rollout(rollout("digits/elsewhere", endpoint="digits-prod")) == ()


def test_a_rollout_that_began_begins_again_where_it_was(store: Lineage) -> None:
    assert store.begin_rollout(rollout("digits/1")) == ()
    reached = replace(rollout("digits/1"), step=1)
    store.save_rollout(reached)
    assert store.begin_rollout(rollout("digits/1")) == ()
    assert store.rollout("digits", "digits/1") == reached


def test_a_rollout_that_was_replaced_cannot_go_on(store: Lineage) -> None:
    store.begin_rollout(rollout("digits/1"))
    over = {"digits/1": "replaced by the rollout of run digits/2"}
    assert store.begin_rollout(rollout("digits/2"), over=over, actor="mia") == ()
    with pytest.raises(RolloutAborted, match="was closed: replaced by the rollout of run digits/2"):
        store.save_rollout(replace(rollout("digits/1"), step=0))
    states = {each.run_id: each.state for each in store.rollouts("digits")}
    assert states == {"digits/1": "aborted", "digits/2": "running"}
    event = next(event for event in store.events("digits") if event.kind == "rollout-aborted")
    assert (event.actor, event.run_id, event.detail["reason"]) == ("mia", "digits/1", over["digits/1"])


def test_only_the_rollouts_that_are_named_are_closed(store: Lineage) -> None:
    """Who replaces one has seen it: another one that began since is in the way as before."""
    store.begin_rollout(rollout("digits/1"))
    store.save_rollout(replace(rollout("digits/1"), state="done"))
    store.begin_rollout(rollout("digits/2"))
    (running,) = store.begin_rollout(rollout("digits/3"), over={"digits/1": "its run is over"})
    assert (running.run_id, store.rollout("digits", "digits/3")) == ("digits/2", None)
    assert running.updated_at is not None


def test_the_version_that_served_before_is_read_from_the_rollouts_that_are_done(store: Lineage) -> None:
    for run in ("manual__2", "manual__3"):
        store.register(make_record(run))
    assert store.served_before("digits") == (None, None)

    def done(run: str, version: int, **detail: object) -> None:
        record = rollout(f"digits/{run}", version=version)
        store.begin_rollout(record)
        store.save_rollout(replace(record, state="done", detail=detail))

    done("a", 1)
    assert store.served_before("digits") == (1, None)
    done("b", 2)
    done("c", 3)
    store.save_rollout(replace(rollout("digits/d", version=1), state="aborted"))
    assert store.served_before("digits") == (3, 2)
    done("e", 2, rollback={"from": 3})
    assert store.served_before("digits") == (2, 1), "what was rolled back is not returned to"
    done("f", 3)
    assert store.served_before("digits") == (3, 2)
    done("g", 1)
    assert store.served_before("digits") == (1, 3), "a release of an old version is no rollback"
    assert [each.version for each in store.rollouts_of_run("digits/f")] == [3]


def test_of_two_writes_of_one_record_that_was_read_the_first_counts(store: Lineage) -> None:
    store.begin_rollout(rollout("digits/1"))
    read = store.rollout("digits", "digits/1")
    written = store.save_rollout(replace(read, step=0))
    assert written.updated_at > read.updated_at
    for late in (replace(read, detail={"stable": None, "verdict": {}}), replace(read, state="aborted")):
        with pytest.raises(RolloutChanged, match="run digits/1 was changed by another process"):
            store.save_rollout(late)
    assert store.save_rollout(replace(read, step=0)) == written, "a write can be repeated"
    store.save_rollout(replace(written, step=1))
    assert store.rollout("digits", "digits/1").step == 1


def test_a_rollout_whose_version_takes_over_is_not_closed(store: Lineage) -> None:
    taking = replace(rollout("digits/1"), step=0, detail={"stable": None, "finishing": {"alias": None}})
    store.begin_rollout(taking)
    found = store.begin_rollout(rollout("digits/2"), over={"digits/1": "its run has ended"})
    assert [each.run_id for each in found] == ["digits/1"]
    assert store.rollout("digits", "digits/1") == taking


@pytest.mark.parametrize("step", [-1, 0])
def test_a_rollout_that_is_closed_with_traffic_says_so_until_that_is_returned(store: Lineage, step: int) -> None:
    store.begin_rollout(replace(rollout("digits/1"), step=step))
    assert store.begin_rollout(rollout("digits/2"), over={"digits/1": "its run has ended"}) == ()
    closed = store.rollout("digits", "digits/1")
    assert closed.detail.get("returning", False) == (step >= 0)
    events = store.events("digits")
    for _ in range(2):
        store.record_returned(closed)
        found = store.rollout("digits", "digits/1")
        assert (found.state, found.detail) == ("aborted", {"stable": None, "reason": "its run has ended"})
    assert store.events("digits") == events
