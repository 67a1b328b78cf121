"""Writers and databases that are killed, cut off or out of space: what was acknowledged is there and whole."""

import multiprocessing
import os
import random
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from modelway.errors import LineageUnavailable, ModelwayError, NotWritable
from modelway.lineage.schema.engine import connect_engine, parse_url, reading, writing
from modelway.lineage.store import Lineage, open_lineage
from modelway.lineage.write import events as log
from modelway.lineage.write import register
from modelway.lineage.write.register import register_version

from tests.lineage_samples import make_record
from tests.postgres_server import PostgresServer, postgres_server

FORK = multiprocessing.get_context("fork")
WRITERS = 16
KILLS = 100
SERVER_KILLS = 20


def _start(work: Callable[[], Any]) -> Any:
    child = FORK.Process(target=work)
    child.start()
    return child


def _kill(child: Any) -> None:
    os.kill(child.pid, signal.SIGKILL)
    child.join()


def _reported(pipe: Any) -> list[tuple[str, Any]]:
    """Return what was acknowledged before the writer's end."""
    reported = []
    try:
        while pipe.poll(0):
            reported.append(pipe.recv())
    except (EOFError, OSError):
        pass
    return reported


def check_whole(url: str, reported: dict[str, int]) -> int:
    """Hold the database to what was acknowledged, and return how many versions it has."""
    store = open_lineage(url)
    found = store.versions("digits")
    numbers = [version.number for version in found]
    assert numbers == list(range(len(numbers), 0, -1))
    by_run = {version.run_id: version.number for version in found}
    assert len(by_run) == len(numbers)
    assert {run: by_run.get(run) for run in reported} == reported
    assert store.aliases("digits") == {"candidate": len(numbers)}
    assert [change.version for change in store.alias_history("digits")] == numbers
    _check_rows(url, versions=len(numbers))
    sample = make_record()
    for number in random.Random(len(numbers)).sample(numbers, min(20, len(numbers))):
        detail = store.version("digits", number)
        assert detail.params == sample.params
        assert len(detail.evaluations) == len(sample.evaluations)
    return len(numbers)


def _check_rows(url: str, *, versions: int) -> None:
    """No table has more or fewer rows than that many whole versions."""
    record = make_record()
    each = {
        "runs": 1,
        "versions": 1,
        "version_files": len(record.files),
        "evaluations": len(record.evaluations),
        "params": sum(map(len, record.params.values())),
        "stages": len(record.run.stages),
        "figures": len(record.run.figures),
        "alias_history": 1,
        "events": 2,
    }
    with reading(connect_engine(parse_url(url))) as connection:
        for table, count in each.items():
            found = connection.execute(sqlalchemy.text(f"SELECT count(*) FROM {table}")).scalar_one()
            assert (table, found) == (table, count * versions)


def _at_once(work: Callable[[int], Any]) -> list[Any]:
    """Return what ``work(index)`` gives in sixteen processes that start together."""
    barrier, replies = FORK.Barrier(WRITERS), FORK.SimpleQueue()

    def run(index: int) -> None:
        barrier.wait()
        replies.put(work(index))

    children = [FORK.Process(target=run, args=(index,)) for index in range(WRITERS)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * WRITERS
    return [replies.get() for _ in children]


def test_sixteen_writers_of_one_model_leave_no_gap_even_where_there_is_no_schema_yet(new_url: str) -> None:
    def write(index: int) -> dict[str, int]:
        store = open_lineage(new_url)
        return {
            f"{index}-{turn}": store.register(make_record(f"{index}-{turn}", alias="candidate")) for turn in range(3)
        }

    reported = {run: number for each in _at_once(write) for run, number in each.items()}
    assert sorted(reported.values()) == list(range(1, 3 * WRITERS + 1))
    assert check_whole(new_url, reported) == 3 * WRITERS


def test_sixteen_writers_of_one_run_make_one_version(url: str) -> None:
    assert (
        _at_once(lambda _index: open_lineage(url).register(make_record("the-run", alias="candidate"))) == [1] * WRITERS
    )
    assert check_whole(url, {"the-run": 1}) == 1


def test_writers_that_are_killed_lose_nothing_that_was_acknowledged(url: str) -> None:
    open_lineage(url)
    chance = random.Random(7)
    reported: dict[str, int] = {}
    for turn in range(KILLS):
        here, there = FORK.Pipe(duplex=False)

        def write(turn: int = turn, there: Any = there) -> None:
            store, count = open_lineage(url), 0
            there.send(("begun", 0))
            while True:
                run = f"{turn}-{count}"
                there.send((run, store.register(make_record(run, alias="candidate"))))
                count += 1

        child = _start(write)
        there.close()
        assert here.poll(60)
        assert here.recv() == ("begun", 0)
        for _ in range(turn % 3):
            assert here.poll(60)
            run, number = here.recv()
            reported[run] = number
        time.sleep(chance.uniform(0, 0.06))
        _kill(child)
        reported |= dict(_reported(here))
        here.close()
    assert len(reported) >= KILLS - 1
    count = check_whole(url, reported)
    # Of each writer the last may have been written and not yet reported.
    assert len(reported) <= count <= len(reported) + KILLS


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """A PostgreSQL that no other test needs."""
    with postgres_server() as server:
        yield server


@pytest.mark.database
def test_writers_go_on_when_a_killed_postgresql_is_back(own_server: PostgresServer) -> None:
    url = own_server.new_database()
    open_lineage(url)
    done, chance = threading.Event(), random.Random(11)
    reported: dict[str, int] = {}
    refused: list[LineageUnavailable] = []

    def write(index: int) -> None:
        store, count = open_lineage(url), 0
        while not done.is_set():
            run = f"{index}-{count}"
            try:
                reported[run] = store.register(make_record(run, alias="candidate"))
                count += 1
            except LineageUnavailable as error:
                refused.append(error)
                time.sleep(0.02)

    writers = [threading.Thread(target=write, args=(index,)) for index in range(4)]
    for writer in writers:
        writer.start()
    for _ in range(SERVER_KILLS):
        before = len(reported)
        while len(reported) < before + 4:
            assert all(writer.is_alive() for writer in writers)
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.05))
        own_server.kill()
        own_server.start()
    done.set()
    for writer in writers:
        writer.join(60)
    assert refused
    assert all(error.retryable for error in refused)
    # A writer whose commit was not answered tries the same run again: it gets the number that was written.
    assert check_whole(url, reported) == len(reported)


@pytest.mark.database
@pytest.mark.parametrize("there", ["before", "within"])
def test_a_connection_that_is_lost_in_a_transaction_leaves_nothing(
    lineage_server: PostgresServer, there: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = lineage_server.new_database()
    store = open_lineage(url)
    assert store.register(make_record("first", alias="candidate")) == 1
    real = register.write_run_parts if there == "within" else register.environment_keys

    def cut(connection: Any, *given: Any, **named: Any) -> Any:
        pid = connection.connection.driver_connection.info.backend_pid
        with connect_engine(parse_url(url)).connect() as beside:
            beside.execute(sqlalchemy.text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
        return real(connection, *given, **named)

    with monkeypatch.context() as patched:
        patched.setattr(register, real.__name__, cut)
        with pytest.raises(LineageUnavailable, match="does not answer") as refusal:
            store.register(make_record("second", alias="candidate"))
    assert refusal.value.retryable
    assert check_whole(url, {"first": 1}) == 1
    assert store.register(make_record("second", alias="candidate")) == 2
    assert check_whole(url, {"first": 1, "second": 2}) == 2


def test_an_sqlite_file_that_cannot_grow_is_reported_and_loses_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/lineage.db"
    store = open_lineage(url)
    store.register(make_record("first", alias="candidate"))
    # No file of the child may grow beyond this: the kernel refuses its writes as on a full disk.
    limit = (tmp_path / "lineage.db").stat().st_size + 16_384
    here, there = FORK.Pipe(duplex=False)

    def write() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        own, count = open_lineage(url), 0
        while True:
            try:
                there.send((f"more-{count}", own.register(make_record(f"more-{count}", alias="candidate"))))
            except NotWritable as error:
                there.send(("refused", str(error)))
                return
            count += 1

    child = _start(write)
    child.join(60)
    assert child.exitcode == 0
    reported = dict(_reported(here))
    assert "the lineage database cannot be written" in reported.pop("refused")
    reported["first"] = 1
    count = check_whole(url, reported)
    assert count == len(reported)
    assert store.register(make_record("last", alias="candidate")) == count + 1


def test_a_clock_that_goes_back_changes_no_order(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_lineage(url)
    now = datetime.now(UTC)

    class Backwards(datetime):
        turns = 0

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            cls.turns += 1
            return now - timedelta(hours=cls.turns)

    for module in (register, log):
        monkeypatch.setattr(module, "datetime", Backwards)
    reported = {run: store.register(make_record(run, alias="candidate")) for run in ("a", "b", "c")}
    assert reported == {"a": 1, "b": 2, "c": 3}
    times = [change.at for change in store.alias_history("digits")]
    assert times == sorted(times)  # newest first by what happened, though its clock says the oldest
    assert check_whole(url, reported) == 3
    assert store.find("digits", "latest") == 3


def test_a_reader_sees_nothing_of_a_version_that_is_half_written(url: str) -> None:
    store: Lineage = open_lineage(url)
    store.register(make_record("first", alias="candidate"))
    here, there = FORK.Pipe()

    def write_when_requested() -> None:
        with writing(connect_engine(parse_url(url))) as connection:
            there.send(register_version(connection, make_record("second", alias="candidate")))
            there.recv()

    child = _start(write_when_requested)
    assert here.poll(60)
    assert here.recv() == 2
    assert check_whole(url, {"first": 1}) == 1
    _kill(child)
    assert check_whole(url, {"first": 1}) == 1


def test_a_refused_record_leaves_nothing(url: str) -> None:
    store = open_lineage(url)
    store.register(make_record("first", alias="candidate"))
    with pytest.raises(ModelwayError, match="is not a digest"):
        store.register(make_record("second", alias="candidate", model_digest="sha256:short"))
    assert check_whole(url, {"first": 1}) == 1
