"""Migrations, what the database itself refuses, and databases that cannot be used."""

import multiprocessing
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from modelway.errors import ModelwayError, NotWritable
from modelway.lineage.schema import asset_tables  # noqa: F401 - adds its tables to the metadata
from modelway.lineage.schema.columns import metadata
from modelway.lineage.schema.connect import database_exists
from modelway.lineage.schema.engine import connect_engine, parse_url, reading
from modelway.lineage.schema.migrate import MIGRATIONS, migrate
from modelway.lineage.schema.tables import SCHEMA
from modelway.lineage.store import open_lineage

from tests.lineage_samples import make_record


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/lineage.db"


@pytest.mark.usefixtures("real_migrations")
def test_an_empty_database_is_migrated_once(url: str) -> None:
    assert not database_exists(parse_url(url))
    engine = connect_engine(parse_url(url))
    assert migrate(engine) is True
    assert migrate(engine) is False
    assert database_exists(parse_url(url))


def test_reading_makes_nothing(url: str, tmp_path: Path) -> None:
    assert open_lineage(url, read_only=True) is None
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "lineage.db").touch()
    assert open_lineage(url, read_only=True) is None
    assert (tmp_path / "lineage.db").stat().st_size == 0


def test_the_code_knows_the_newest_migration() -> None:
    assert ScriptDirectory(str(MIGRATIONS)).get_heads() == [SCHEMA]


@pytest.mark.usefixtures("real_migrations")
def test_the_migrations_make_the_tables_that_the_code_uses(url: str) -> None:
    engine = connect_engine(parse_url(url))
    migrate(engine)
    with reading(engine) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        found = sqlalchemy.inspect(connection)
        for table in metadata.tables.values():
            in_code = {c.name for c in table.constraints if isinstance(c, sqlalchemy.CheckConstraint)}
            assert {check["name"] for check in found.get_check_constraints(table.name)} == {str(n) for n in in_code}


def test_a_database_of_the_first_schema_is_migrated_with_all_its_data(url: str, tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "lineage.db")
    connection.executescript((Path(__file__).parent / "lineage_0006.sql").read_text())
    connection.close()
    # A page that only reads may be the first to come.
    store = open_lineage(url, read_only=True)
    assert store is not None
    third, _, first = store.versions("digits")
    assert (first.aliases, first.weights, first.checkpoint_uri) == (("candidate", "champion"), {"digits": 90}, None)
    detail = store.version("digits", 1)
    assert (detail.run.run_id, detail.run.seed, detail.run.actor) == ("manual__1", 7, "mia")
    assert (detail.run.inputs_digest, detail.run.interval_end, detail.run.reason) == (None, None, None)
    assert (detail.run.datasets, detail.run.seconds) == ((), None)
    assert {(each.seconds, each.startup_seconds) for each in detail.evaluations} == {(None, None)}
    assert detail.images[0].reference == "registry/digits"
    assert [file.path for file in detail.files] == ["model/model.onnx", "outputs/meta.yml"]
    later = store.version("digits", 3)
    assert (later.summary.aliases, later.base, later.run.reason) == (("challenger",), 1, make_record().run.reason)
    assert [data.name for data in later.run.datasets] == ["images", "sales"]
    assert (third.verification, first.verification) == (make_record().verification, None)
    (failure,) = store.account("manual__3").failures
    assert (failure.cause, failure.resolved_by, failure.tried_again) == ("it ran out of memory", 2, True)
    assert [file.path for file in store.assets.version("labels:checked").files] == ["labels.csv"]
    assert open_lineage(url).register(make_record("manual__4")) == 4
    assert open_lineage(url).account("manual__1").version == 1
    engine = connect_engine(parse_url(url))
    with reading(engine) as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata) == []
    with pytest.raises(sqlite3.IntegrityError, match="is append-only"):
        sqlite3.connect(tmp_path / "lineage.db").execute("UPDATE versions SET checkpoint_uri = 'elsewhere'")


def test_the_database_asks_no_writes_of_readers_and_holds_foreign_keys(url: str) -> None:
    open_lineage(url)
    with reading(connect_engine(parse_url(url))) as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "delete"
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE versions SET archive_uri = 'elsewhere'",
        "UPDATE versions SET number = 2",
        "UPDATE alias_history SET actor = 'nobody'",
        "UPDATE weight_history SET weight = 1",
        "UPDATE events SET kind = 'nothing'",
        "DELETE FROM events",
    ],
)
def test_what_happened_cannot_be_changed(url: str, tmp_path: Path, statement: str) -> None:
    store = open_lineage(url)
    store.register(make_record())
    store.set_alias(model="digits", alias="champion", version=1)
    store.record_weights(endpoint="digits", model="digits", weights={1: 100})
    connection = sqlite3.connect(tmp_path / "lineage.db")
    with pytest.raises(sqlite3.IntegrityError, match="is append-only"):
        connection.execute(statement)
    connection.close()


def test_a_newer_schema_is_refused(url: str, tmp_path: Path) -> None:
    open_lineage(url)
    connection = sqlite3.connect(tmp_path / "lineage.db")
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    with pytest.raises(ModelwayError, match=r"lineage\.db: .*schema '9999'.*does not know.*Install the newer modelway"):
        open_lineage(url)
    with pytest.raises(ModelwayError, match="schema '9999'"):
        open_lineage(url, read_only=True)


def test_a_schema_from_before_the_first_one_is_refused_and_left_alone(url: str, tmp_path: Path) -> None:
    open_lineage(url)
    connection = sqlite3.connect(tmp_path / "lineage.db")
    connection.execute("UPDATE alembic_version SET version_num = '0005'")
    connection.commit()
    connection.close()
    before = (tmp_path / "lineage.db").read_bytes()
    message = r"lineage\.db: .*schema '0005'.*'0006' to '\d{4}'.*does not know.*open it once with a development version"
    with pytest.raises(ModelwayError, match=message):
        open_lineage(url)
    with pytest.raises(ModelwayError, match=message):
        open_lineage(url, read_only=True)
    assert (tmp_path / "lineage.db").read_bytes() == before


def test_a_file_that_is_no_database_is_refused_and_left_alone(url: str, tmp_path: Path) -> None:
    path = tmp_path / "lineage.db"
    path.write_text("these are notes, not a database, and somebody may need them\n" * 100)
    before = path.read_bytes()
    with pytest.raises(ModelwayError, match="not a usable lineage database"):
        open_lineage(url)
    assert path.read_bytes() == before


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(NotWritable, match="folder of the lineage database cannot be made"):
        open_lineage(f"sqlite:///{tmp_path}/taken/lineage.db")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://user:hunter2@host/db", "'mysql' is not a database for the lineage. Known: postgresql, sqlite"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("hunter2", "cannot be read"),
        ("postgres+nothing://user:hunter2@host/db", "driver"),
    ],
)
def test_a_url_that_cannot_keep_the_lineage_is_refused_without_its_password(url: str, message: str) -> None:
    with pytest.raises(ModelwayError, match=message) as refusal:
        open_lineage(url)
    assert "hunter2" not in str(refusal.value)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can reach."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def _open_as_nobody(url: str, replies: "multiprocessing.SimpleQueue[str]") -> None:
    if os.getuid() == 0:
        os.setuid(65534)
    try:
        open_lineage(url).register(make_record())
        replies.put("written")
    except NotWritable as error:
        replies.put(str(error))


@pytest.mark.parametrize("there_already", [False, True])
def test_a_folder_that_takes_no_writes_is_refused(open_folder: Path, there_already: bool) -> None:
    url = f"sqlite:///{open_folder}/lineage.db"
    if there_already:
        open_lineage(url)
        (open_folder / "lineage.db").chmod(0o444)
    open_folder.chmod(0o555)
    fork = multiprocessing.get_context("fork")
    replies = fork.SimpleQueue()
    child = fork.Process(target=_open_as_nobody, args=(url, replies))
    child.start()
    child.join()
    open_folder.chmod(0o755)
    assert child.exitcode == 0
    reply = replies.get()
    assert f"the lineage database cannot be {'written' if there_already else 'opened'}" in reply
    assert str(open_folder) in reply
    assert "MODELWAY_LINEAGE_URL" in reply
