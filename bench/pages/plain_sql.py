"""The rows that the lists of the API have, read by psycopg with sensible statements and nothing else: the floor."""

from typing import Any

import psycopg

_MODELS = (
    "SELECT id, name, description, created_at, latest FROM models ORDER BY name",
    "SELECT DISTINCT model, dag_id FROM runs",
    "SELECT a.model, a.name, v.number FROM aliases a JOIN versions v ON v.id = a.version",
)
_VERSIONS = (
    "SELECT v.*, r.dag_id, r.run_id FROM versions v JOIN runs r ON r.id = v.run "
    "WHERE v.model = (SELECT id FROM models WHERE name = %s) ORDER BY v.number DESC LIMIT 50"
)
_OF_VERSIONS = (
    "SELECT version, name, value, flag FROM version_metrics WHERE version = ANY(%s)",
    "SELECT version, name FROM aliases WHERE version = ANY(%s)",
    "SELECT * FROM images WHERE version = ANY(%s)",
    "SELECT * FROM deployments WHERE version = ANY(%s)",
    "SELECT version, detail FROM events WHERE kind = 'version-registered' AND version = ANY(%s)",
)


class PlainSql:
    """One connection."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)

    def models(self) -> int:
        """Every model with its DAGs and aliases; return how many."""
        rows: list[list[Any]] = [self._connection.execute(statement).fetchall() for statement in _MODELS]
        return len(rows[0])

    def versions(self, name: str) -> int:
        """The newest 50 versions of a model with what the list says of each; return the newest number."""
        rows = self._connection.execute(_VERSIONS, (name,)).fetchall()
        keys = [row[0] for row in rows]
        for statement in _OF_VERSIONS:
            self._connection.execute(statement, (keys,)).fetchall()
        newest: int = rows[0][2]
        return newest
