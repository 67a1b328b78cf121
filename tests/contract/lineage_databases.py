"""The two databases that keep the lineage: ``url`` runs a test on an empty SQLite file and on an empty PostgreSQL.

tests/conftest.py loads it as a plugin: one server per test process, started by the first test that asks for it.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres_server import PostgresServer, postgres_server


@pytest.fixture(scope="session")
def lineage_server() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The SQLAlchemy URL of a database that nobody has written to."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'lineage.db'}"
    server: PostgresServer = request.getfixturevalue("lineage_server")
    return server.new_database()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs the databases; `make test` runs those of the contracts in another step."""
    for item in items:
        if {"url", "lineage_server"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.database)
