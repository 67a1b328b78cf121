"""A database of every earlier schema is migrated with its data, once, and whole or not at all."""

import multiprocessing
import os
import signal
from typing import Any

import pytest
import sqlalchemy
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from modelway.lineage.schema import asset_tables, monitor_tables, sweep_tables  # noqa: F401 - add their tables to the metadata
from modelway.lineage.schema import migrate as migrating
from modelway.lineage.schema.columns import metadata
from modelway.lineage.schema.engine import connect_engine, parse_url, reading, writing
from modelway.lineage.schema.migrate import MIGRATIONS, migrate, schema_of
from modelway.lineage.schema.tables import SCHEMA
from modelway.lineage.store import open_lineage

from tests.lineage_samples import digest, make_record

FORK = multiprocessing.get_context("fork")
#: the schemas that a database may have, but for the newest
EARLIER = [f"{number:04}" for number in range(6, int(SCHEMA))]
NOW = "2026-03-01 12:00:00"
#: what each schema brought, as plain SQL of that schema
ROWS = {
    "0006": [
        f"INSERT INTO models VALUES (1, 'digits', 'old', 1, '{NOW}')",
        "INSERT INTO runs (id, model, dag_id, run_id, actor, run_type, spec, seed, inputs_digest, reason) "
        "VALUES (1, 1, 'digits', 'old', 'mia', 'manual', '{}', 7, 'sha256:inputs', 'requested')",
        "INSERT INTO params VALUES (1, 'fine', 'lr', '0.5')",
        "INSERT INTO metrics VALUES (1, 'fine', 'loss', '[1, 2]', '[0.5, \"NaN\"]', NULL, 'NaN')",
        "INSERT INTO evaluations (id, run, checkpoint, note, seconds) VALUES (1, 1, 'fine-1', 'noted', 2.5)",
        "INSERT INTO evaluation_metrics VALUES (1, 'loss', 0.25, NULL)",
        "INSERT INTO versions (id, model, number, run, description, archive_uri, archive_digest, archive_size, "
        "model_digest, checkpoint, checkpoint_digest, created_at, created_by) VALUES "
        f"(1, 1, 1, 1, 'old', 'file:///a', '{digest('a')}', 1, '{digest('m')}', 'fine-1', '{digest('c')}', "
        f"'{NOW}', 'mia')",
        "INSERT INTO version_metrics VALUES (1, 'loss', 0.25, NULL)",
        f"INSERT INTO files VALUES ('{digest('file')}', 10)",
        f"INSERT INTO version_files VALUES (1, 'model.bin', '{digest('file')}', 'model')",
        "INSERT INTO aliases VALUES (1, 'champion', 1)",
        f"INSERT INTO alias_history (model, name, version, at, actor, reason) "
        f"VALUES (1, 'champion', 1, '{NOW}', 'm', '')",
        f"INSERT INTO deployments VALUES ('digits', 1, 100, '{NOW}')",
        f"INSERT INTO weight_history (endpoint, version, weight, at, actor) VALUES ('digits', 1, 100, '{NOW}', 'm')",
        "INSERT INTO events (at, actor, kind, model, version, detail) "
        f"VALUES ('{NOW}', 'mia', 'version-registered', 1, 1, '{{}}')",
        "INSERT INTO datasets (id, run, stage, name, uri, rows) VALUES (1, 1, 'fine', 'images', '/data', 60000)",
        "INSERT INTO failures (model, dag_id, run_id, key, attempt, cause, advice, rule, last_lines, tried_again, "
        "mended_by, at) VALUES ('digits', 'digits', 'old', 'train', 1, 'it broke', '', 'retry', '[]', {true}, 2, "
        f"'{NOW}')",
        "INSERT INTO environments (id, digest, python, platform, image, packages) "
        "VALUES (1, 'sha256:environment', '3.11.7', 'Linux', 'train:1', '{}')",
        "INSERT INTO stages (run, name, position, skipped, environment) VALUES (1, 'fine', 0, {false}, 1)",
    ],
    "0007": [],
    "0008": [],
}


def make_old(url: str, revision: str) -> None:
    """Make a database as that schema left it: each migration followed by the rows of its time."""
    engine = connect_engine(parse_url(url))
    with writing(engine) as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(MIGRATIONS))
        for step in EARLIER[: EARLIER.index(revision) + 1]:
            command.upgrade(config, step)
            for row in ROWS[step]:
                connection.exec_driver_sql(row.replace("{false}", "false").replace("{true}", "true"))
        if connection.dialect.name == "postgresql":
            for table in ("models", "runs", "versions", "evaluations", "datasets", "environments"):
                connection.exec_driver_sql(f"SELECT setval('{table}_id_seq', 1)")


def check_old(url: str) -> None:
    """Read back what ``make_old`` wrote."""
    store = open_lineage(url)
    found = store.version("digits", 1)
    assert (found.summary.aliases, found.summary.weights, found.summary.metrics) == (
        ("champion",),
        {"digits": 100},
        {"loss": 0.25},
    )
    assert (found.run.run_id, found.run.seed, found.params) == ("old", 7, {"fine": {"lr": 0.5}})
    assert str(found.series[0].values) == "(0.5, nan)"
    assert [(each.checkpoint, each.note, each.metrics) for each in found.evaluations] == [
        ("fine-1", "noted", {"loss": 0.25})
    ]
    assert [(file.path, file.size) for file in found.files] == [("model.bin", 10)]
    assert ([event.kind for event in found.events], len(found.alias_history), len(found.weight_history)) == (
        ["version-registered"],
        1,
        1,
    )
    assert found.run.reason == "requested"
    assert [data.rows for data in found.run.datasets] == [60_000]
    assert found.evaluations[0].seconds == 2.5
    assert [(each.cause, each.resolved_by) for each in store.account("old").failures] == [("it broke", 2)]
    assert [each.environment.image for each in found.run.stages if each.environment] == ["train:1"]


@pytest.mark.parametrize("revision", EARLIER)
def test_every_earlier_schema_is_migrated_with_its_data(new_url: str, revision: str) -> None:
    make_old(new_url, revision)
    check_old(new_url)
    store = open_lineage(new_url)
    assert store.register(make_record("new", alias="champion", base=1)) == 2
    assert (store.aliases("digits"), store.version("digits", 2).base) == ({"champion": 2}, 1)
    with reading(connect_engine(parse_url(new_url))) as connection:
        assert schema_of(connection) == SCHEMA
        assert compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata) == []


def test_of_two_migrations_at_once_one_migrates(new_url: str) -> None:
    make_old(new_url, EARLIER[0])
    barrier, replies = FORK.Barrier(2), FORK.SimpleQueue()

    def run() -> None:
        engine = connect_engine(parse_url(new_url))
        barrier.wait()
        replies.put(migrate(engine))

    children = [FORK.Process(target=run) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0]
    assert sorted([replies.get(), replies.get()]) == [False, True]
    check_old(new_url)


def test_a_migration_that_is_killed_leaves_the_old_schema(new_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make_old(new_url, EARLIER[0])
    here, there = FORK.Pipe()
    real = migrating._upgrade

    def upgrade_and_wait(connection: Any, **named: Any) -> None:
        real(connection, **named)
        there.send(schema_of(connection))
        signal.pause()

    def run() -> None:
        migrating._upgrade = upgrade_and_wait
        migrate(connect_engine(parse_url(new_url)))

    child = FORK.Process(target=run)
    child.start()
    assert here.poll(60)
    assert here.recv() == SCHEMA
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    with reading(connect_engine(parse_url(new_url))) as connection:
        assert schema_of(connection) == EARLIER[0]
        columns = {column["name"] for column in sqlalchemy.inspect(connection).get_columns("failures")}
        assert "mended_by" in columns
        assert "resolved_by" not in columns
        assert connection.execute(sqlalchemy.text("SELECT count(*) FROM versions")).scalar() == 1
    check_old(new_url)
