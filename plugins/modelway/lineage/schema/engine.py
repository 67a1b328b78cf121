"""Connections to the lineage database, and its errors translated."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError

from modelway.errors import LineageUnavailable, ModelwayError, NotWritable

#: how long a writer waits for the others
WAIT_SECONDS = 30
_WRITES = "modelway_writes"
_DO_ACCESS = (
    "Let this user read and write the file and its folder and see that the disk has space, "
    "or set MODELWAY_LINEAGE_URL to a database elsewhere"
)


def parse_url(text: str) -> URL:
    """Return the database URL in SQLAlchemy's form; Airflow and others write ``postgres://``, and name no driver.

    :raises ModelwayError: it is not the URL of a database that can store the lineage
    """
    do = "Write sqlite:////absolute/path/lineage.db or postgresql://user:password@host/database"
    try:
        url = make_url(re.sub(r"^postgres(?:ql)?(\+\w+)?:", lambda found: f"postgresql{found[1] or '+psycopg'}:", text))
    except ArgumentError as error:
        # The text is not shown: it may contain a password.
        raise ModelwayError("the lineage database's URL cannot be read", do=do) from error
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise ModelwayError(
            f"'{url.get_backend_name()}' is not a database for the lineage", known=("postgresql", "sqlite"), do=do
        )
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise ModelwayError("the lineage database's URL names no file", do=do)
    return url


def place_of(url: URL) -> str:
    """Return where the database is, for messages: never with a password."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    return url.render_as_string(hide_password=True)


def connect_engine(url: URL) -> Engine:
    """Return an engine whose transactions are real ones on both databases.

    :raises ModelwayError: the database's driver is not installed
    """
    if url.get_backend_name() == "sqlite":
        # Opening a file is cheap, and no connection is carried over a fork or to a file that was replaced.
        engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": WAIT_SECONDS})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    try:
        return create_engine(url, pool_pre_ping=True)
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise ModelwayError(
            f"the driver of {url.drivername} is not installed",
            where=place_of(url),
            do="Install modelway[postgres], or name an installed driver: postgresql+<driver>://…",
        ) from error


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    # The driver must not begin or commit by itself: it would do so around DDL and too late for a writer.
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys = ON")
    # The journal stays SQLite's default: a write-ahead log needs write access for readers and does not work over NFS.


def _begin_sqlite(connection: Connection) -> None:
    # A reader that turns writer can be refused without waiting; a writer therefore says so at once.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(_WRITES) else "BEGIN")


#: the connection that the reads of this thread share
_shared: ContextVar[Connection | None] = ContextVar("modelway_shared_reading", default=None)


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A connection to read by: of SQLite, in one transaction; within ``reading_once``, that one.

    PostgreSQL shows each statement what is committed by then, within a transaction as well: without one, a view waits
    for two answers of the database less.
    """
    shared = _shared.get()
    if shared is not None and shared.engine is engine:
        yield shared
        return
    options = {"isolation_level": "AUTOCOMMIT"} if engine.dialect.name == "postgresql" else {}
    with (
        translate_errors(engine),
        engine.connect().execution_options(**options) as connection,
        connection.begin(),
    ):
        yield connection


@contextmanager
def reading_once(engine: Engine) -> Iterator[None]:
    """Let all reads of the block, in this thread, share one connection; nothing may be written within it."""
    with reading(engine) as connection:
        token = _shared.set(connection)
        try:
            yield
        finally:
            _shared.reset(token)


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One transaction that is written whole or not at all."""
    with (
        translate_errors(engine),
        engine.connect().execution_options(**{_WRITES: True}) as connection,
        connection.begin(),
    ):
        yield connection


@contextmanager
def translate_errors(engine: Engine) -> Iterator[None]:
    """Translate the errors that a user can resolve into one clear message; others pass as they are.

    :raises NotWritable: the file cannot be opened, or it, its folder or the disk cannot be written
    :raises ModelwayError: the file is not a database, or it is damaged
    :raises LineageUnavailable: the database does not answer or stays locked
    """
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        # psycopg writes several lines.
        reason = " ".join(str(error.orig if isinstance(error, DBAPIError) else error).split())
        where = place_of(engine.url)
        if re.search(
            "readonly|unable to open|disk is full|no space left|permission denied|disk I/O", reason, re.IGNORECASE
        ):
            verb = "opened" if "unable to open" in reason else "written"
            raise NotWritable(
                f"the lineage database cannot be {verb} ({reason})", where=where, do=_DO_ACCESS
            ) from error
        if re.search("not a database|malformed", reason):
            raise ModelwayError(
                f"the file is not a usable lineage database ({reason})",
                where=where,
                do="Put the backup of the lineage there, or move the file elsewhere to start a new one",
            ) from error
        if isinstance(error, OperationalError):
            raise LineageUnavailable(
                f"the lineage database does not answer ({reason})", where=where, do="Check that it runs, then try again"
            ) from error
        raise


def make_folder(url: URL) -> None:
    """Make the folder of an SQLite file.

    :raises NotWritable: it cannot be made
    """
    if url.get_backend_name() != "sqlite":
        return
    folder = Path(str(url.database)).absolute().parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotWritable(
            f"the folder of the lineage database cannot be made ({error.strerror})", where=str(folder), do=_DO_ACCESS
        ) from error


@contextmanager
def in_one_trip(connection: Connection) -> Iterator[None]:
    """Send the statements of the block without waiting for the answer of each; none of them may return rows.

    Inserts must be ``inline``: SQLAlchemy reads the key of a single row back.
    """
    driver, dialect = connection.connection.driver_connection, connection.dialect
    if dialect.driver != "psycopg" or driver is None:
        yield
        return
    errors: Any = dialect.loaded_dbapi
    try:
        with driver.pipeline():
            yield
    except errors.Error as error:
        # It was raised outside of SQLAlchemy's own calls, which would translate it into one of SQLAlchemy's errors.
        raise DBAPIError.instance(None, None, error, errors.Error, dialect=dialect) from error
