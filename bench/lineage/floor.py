"""The floor: a sensible schema and plain SQL through psycopg, nothing checked, nothing kept but what was asked for.

One row per param, one per metric with its points as JSON arrays, one per file; the numbers of versions without gaps.
"""

import json
from datetime import UTC, datetime

import psycopg
from workload import ALIAS, MODEL, Run

SCHEMA = """
CREATE TABLE models (id bigserial PRIMARY KEY, name text NOT NULL UNIQUE, latest int NOT NULL);
CREATE TABLE runs (id bigserial PRIMARY KEY, model bigint NOT NULL REFERENCES models, name text NOT NULL,
    started_at timestamptz NOT NULL, UNIQUE (model, name));
CREATE TABLE params (run bigint REFERENCES runs, name text, value text NOT NULL, PRIMARY KEY (run, name));
CREATE TABLE metrics (run bigint REFERENCES runs, name text, steps json NOT NULL, series json NOT NULL,
    last_value float8, PRIMARY KEY (run, name));
CREATE TABLE versions (id bigserial PRIMARY KEY, model bigint NOT NULL REFERENCES models, number int NOT NULL,
    run bigint NOT NULL UNIQUE REFERENCES runs, created_at timestamptz NOT NULL, UNIQUE (model, number));
CREATE TABLE files (digest text PRIMARY KEY, size bigint NOT NULL);
CREATE TABLE version_files (version bigint REFERENCES versions, path text, digest text NOT NULL REFERENCES files,
    PRIMARY KEY (version, path));
CREATE INDEX ON version_files (digest);
CREATE TABLE aliases (model bigint REFERENCES models, name text, version bigint NOT NULL REFERENCES versions,
    PRIMARY KEY (model, name));
"""

_SERIES = "INSERT INTO metrics VALUES (%s, %s, %s, %s, %s)"
_ALIAS = "INSERT INTO aliases VALUES (%s, %s, %s) ON CONFLICT (model, name) DO UPDATE SET version = excluded.version"


class Floor:
    """One connection to a database of its own."""

    name = "floor"

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url)
        with self._connection.transaction():
            self._connection.execute(SCHEMA)
            self._connection.execute("INSERT INTO models (name, latest) VALUES (%s, 0)", (MODEL,))

    def register(self, run: Run) -> int:
        """Write a run and its version in one transaction."""
        now = datetime.now(UTC)
        with self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.execute("UPDATE models SET latest = latest + 1 WHERE name = %s RETURNING id, latest", (MODEL,))
            model, number = cursor.fetchone() or (0, 0)
            cursor.execute(
                "INSERT INTO runs (model, name, started_at) VALUES (%s, %s, %s) RETURNING id", (model, run.name, now)
            )
            (key,) = cursor.fetchone() or (0,)
            cursor.executemany("INSERT INTO params VALUES (%s, %s, %s)", [(key, *item) for item in run.params.items()])
            rows = [
                (key, name, json.dumps([step for step, _ in points]), json.dumps([value for _, value in points]))
                + (points[-1][1],)
                for name, points in run.series.items()
            ]
            cursor.executemany(_SERIES, rows)
            cursor.execute(
                "INSERT INTO versions (model, number, run, created_at) VALUES (%s, %s, %s, %s) RETURNING id",
                (model, number, key, now),
            )
            (version,) = cursor.fetchone() or (0,)
            cursor.executemany("INSERT INTO files VALUES (%s, %s) ON CONFLICT DO NOTHING", sorted(run.files.values()))
            rows_of_files = [(version, path, digest) for path, (digest, _) in run.files.items()]
            cursor.executemany("INSERT INTO version_files VALUES (%s, %s, %s)", rows_of_files)
            cursor.execute(_ALIAS, (model, ALIAS, version))
        return int(number)

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()
