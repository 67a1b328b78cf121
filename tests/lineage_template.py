"""New SQLite lineages are filled from a template: the migrations run once in a test process, not in every test.

All engines on SQLite of a test process share the statements that SQLAlchemy has compiled, and no commit waits for the
disk. tests/conftest.py loads this as a plugin. What tests the migrations themselves asks for ``real_migrations``.
"""

import sqlite3
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from modelway.lineage.schema import engine as engines
from sqlalchemy import URL, Engine, create_engine, event, inspect

_upgrade: Callable[[Config, str], None] = command.upgrade


def _upgrade_by_template(config: Config, revision: str) -> None:
    connection = config.attributes["connection"]
    if revision != "head" or connection.dialect.name != "sqlite" or inspect(connection).get_table_names():
        _upgrade(config, revision)
        return
    script_location = config.get_main_option("script_location")
    assert script_location is not None
    # Not through SQLAlchemy, which prepares a context for each of a hundred statements.
    raw = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    for statement in _statements(script_location):
        raw.execute(statement)


@cache
def _statements(script_location: str) -> tuple[str, ...]:
    """Return what makes an empty lineage of the newest schema."""
    engine = create_engine("sqlite://")
    with engine.connect() as connection, connection.begin():
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", script_location.replace("%", "%%"))
        _upgrade(config, "head")
        raw = connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        query = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY rowid"
        made = tuple(statement for (statement,) in raw.execute(query))
        ((version,),) = raw.execute("SELECT version_num FROM alembic_version")
    engine.dispose()
    return (*made, f"INSERT INTO alembic_version VALUES ('{version}')")


@cache
def _first_engine() -> Engine:
    """Return the engine whose dialect and compiled statements all have: compiling is most of what a new one costs."""
    engine = create_engine("sqlite://", query_cache_size=2000)
    engine.connect().close()
    return engine


def _create_engine(url: URL, **options: Any) -> Engine:
    engine = create_engine(url, **options)
    if engine.dialect.name == "sqlite":
        first = _first_engine()
        engine.dialect = engine.pool._dialect = first.dialect
        engine._compiled_cache = first._compiled_cache
        # What a crash of the machine would leave is no matter of tests.
        event.listen(engine, "connect", lambda connection, _record: connection.execute("PRAGMA synchronous = OFF"))
    return engine


@pytest.fixture(scope="session", autouse=True)
def lineage_template() -> Iterator[None]:
    """Fill every new SQLite lineage of this process from the template, and share what is compiled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "upgrade", _upgrade_by_template)
        patch.setattr(engines, "create_engine", _create_engine)
        yield


@pytest.fixture
def real_migrations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the migrations run, as they do outside of tests."""
    monkeypatch.setattr(command, "upgrade", _upgrade)
