"""Many writers at once, and writers that are killed."""

import multiprocessing
import os
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from modelway.lineage.engine import connect_engine, parse_url, writing
from modelway.lineage.migrate import migrate
from modelway.lineage.register import register_version
from modelway.lineage.store import open_store

from tests.lineage_samples import make_record

FORK = multiprocessing.get_context("fork")
WRITERS = 8


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/lineage.db"


def _at_once(work: Callable[[int], Any]) -> list[Any]:
    """Return what ``work(index)`` gives in eight processes that start together."""
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
    return [replies.get() for _ in range(WRITERS)]


def test_writers_of_eight_runs_get_dense_numbers_even_on_a_database_that_is_not_there_yet(url: str) -> None:
    numbers = _at_once(lambda index: open_store(url).register(make_record(f"run-{index}", alias="candidate")))
    assert sorted(numbers) == list(range(1, WRITERS + 1))
    store = open_store(url)
    assert [version.number for version in store.versions("digits")] == list(range(WRITERS, 0, -1))
    assert store.aliases("digits") == {"candidate": WRITERS}
    assert [change.version for change in store.alias_history("digits")] == list(range(WRITERS, 0, -1))


def test_eight_writers_of_one_run_make_one_version(url: str) -> None:
    assert _at_once(lambda index: open_store(url).register(make_record("the-run", alias="candidate"))) == [1] * WRITERS
    store = open_store(url)
    assert len(store.versions("digits")) == 1
    assert [event.kind for event in store.events("digits")] == ["alias-set", "version-registered"]


def test_exactly_one_of_eight_processes_migrates(url: str) -> None:
    assert sorted(_at_once(lambda index: migrate(connect_engine(parse_url(url))))) == [False] * (WRITERS - 1) + [True]


def _rows(path: Path) -> dict[str, int]:
    connection = sqlite3.connect(path)
    names = (
        "models",
        "runs",
        "versions",
        "params",
        "metrics",
        "files",
        "version_files",
        "aliases",
        "alias_history",
        "events",
    )
    counts = {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in names}
    connection.close()
    return counts


def test_a_writer_killed_within_its_transaction_leaves_nothing(url: str, tmp_path: Path) -> None:
    open_store(url)
    here, there = FORK.Pipe()

    def write_and_wait() -> None:
        with writing(connect_engine(parse_url(url))) as connection:
            there.send(register_version(connection, make_record(alias="candidate")))
            signal.pause()

    child = FORK.Process(target=write_and_wait)
    child.start()
    assert here.poll(30)
    assert here.recv() == 1
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert set(_rows(tmp_path / "lineage.db").values()) == {0}
    store = open_store(url)
    assert store.register(make_record(alias="candidate")) == 1
    assert store.aliases("digits") == {"candidate": 1}


def test_what_a_killed_writer_was_told_is_there_and_whole(url: str) -> None:
    open_store(url)
    told = 0
    for round_number in range(5):
        here, there = FORK.Pipe()

        def write_without_end(round_number: int = round_number, there: Any = there) -> None:
            store, count = open_store(url), 0
            while True:
                there.send(store.register(make_record(f"{round_number}-{count}", alias="candidate")))
                count += 1

        child = FORK.Process(target=write_without_end)
        child.start()
        there.close()
        for _ in range(3 + round_number):
            assert here.poll(30)
            told = here.recv()
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        while here.poll():
            try:
                told = here.recv()
            except (EOFError, OSError):
                break
    store = open_store(url)
    numbers = [version.number for version in store.versions("digits")]
    assert numbers == list(range(len(numbers), 0, -1))
    assert store.aliases("digits") == {"candidate": len(numbers)}
    assert [change.version for change in store.alias_history("digits")] == numbers
    assert told in (len(numbers), len(numbers) - 1)  # the last one may have been written but not yet told
    for number in numbers:
        found = store.version("digits", number)
        assert len(found.files) == 2
        assert len(found.evaluations) == 3
        assert found.params["fine"]["lr"] == 0.001


def test_a_reader_sees_what_was_there_while_a_writer_writes(url: str) -> None:
    store = open_store(url)
    store.register(make_record("first"))
    here, there = FORK.Pipe()

    def write_when_told() -> None:
        with writing(connect_engine(parse_url(url))) as connection:
            there.send(register_version(connection, make_record("second")))
            there.recv()

    child = FORK.Process(target=write_when_told)
    child.start()
    assert here.poll(30)
    assert here.recv() == 2
    assert [version.number for version in store.versions("digits")] == [1]
    here.send("go on")
    child.join()
    assert child.exitcode == 0
    assert [version.number for version in store.versions("digits")] == [2, 1]
