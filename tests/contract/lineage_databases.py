"""The two databases of a lineage: ``url`` runs a test on an empty SQLite file and on an empty PostgreSQL database.

tests/conftest.py loads it as a plugin: one server per test process, started by the first test that needs it.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres_server import PostgresServer, postgres_server

DATABASES = ["sqlite", "postgresql"]


@pytest.fixture(scope="session")
def lineage_server() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def migrated_database(lineage_server: PostgresServer) -> str:
    """The name of a PostgreSQL database with the newest schema and no rows, which others are copied from."""
    from modelway.lineage.store import open_lineage

    url = lineage_server.new_database()
    open_lineage(url)
    return url.rpartition("/")[2]


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The SQLAlchemy URL of a lineage that nobody has written to; its schema is there or costs little."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'lineage.db'}"
    server: PostgresServer = request.getfixturevalue("lineage_server")
    return server.new_database(template=request.getfixturevalue("migrated_database"))


@pytest.fixture(params=DATABASES)
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The SQLAlchemy URL of a database without a schema, which the migrations themselves make."""
    request.getfixturevalue("real_migrations")
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'lineage.db'}"
    server: PostgresServer = request.getfixturevalue("lineage_server")
    return server.new_database()


@pytest.fixture(scope="module", params=DATABASES)
def module_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The SQLAlchemy URL of a lineage for all tests of a module, which fills it and gives each test a copy."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path_factory.mktemp('lineage') / 'lineage.db'}"
    server: PostgresServer = request.getfixturevalue("lineage_server")
    return server.new_database(template=request.getfixturevalue("migrated_database"))


@pytest.fixture
def copied_url(module_url: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The SQLAlchemy URL of a copy of the module's lineage."""
    if module_url.startswith("sqlite"):
        shutil.copyfile(module_url.removeprefix("sqlite:///"), tmp_path / "lineage.db")
        return f"sqlite:///{tmp_path / 'lineage.db'}"
    server: PostgresServer = request.getfixturevalue("lineage_server")
    return server.new_database(template=module_url.rpartition("/")[2])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs the databases; `make test` runs those of the contracts in a step of its own."""
    for item in items:
        if {"url", "new_url", "module_url", "lineage_server"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.database)
