"""Versions by the thousand, written by the database itself: through the stores it would take hours."""

from collections.abc import Sequence

import psycopg
from workload import ALIAS, MODEL

#: what a version that is filled in has of each
FILES, PARAMS, SERIES = 10, 3, 2


def _made(of: str) -> str:
    """Return the SQL of a digest; of a file's it is what ``workload.filled_digest`` returns."""
    return f"'sha256:' || encode(sha256(convert_to('filled ' || {of}, 'UTF8')), 'hex')"


_OF_FILE = _made("i || '/' || f")
_DIGESTS = {what: _made(f"'{what} ' || i") for what in ("code", "inputs", "archive", "model", "checkpoint")}
_NUMBERS = "generate_series(1, %(count)s) i"

#: of modelway, in the order in which they refer to one another
_OURS: Sequence[str] = (
    "INSERT INTO models (id, name, description, latest, created_at) VALUES (1, %(model)s, '', %(count)s, now())",
    "INSERT INTO runs (id, model, dag_id, run_id, actor, run_type, code_digest, commit_id, spec, inputs_digest) "
    f"SELECT i, 1, %(model)s, 'filled-' || i, 'bench', 'manual', {_DIGESTS['code']}, md5('' || i), "
    f"'{{}}', {_DIGESTS['inputs']} FROM {_NUMBERS}",
    "INSERT INTO versions (id, model, number, run, description, archive_uri, archive_digest, archive_size, "
    "model_digest, checkpoint, checkpoint_digest, created_at, created_by) "
    f"SELECT i, 1, i, i, '', 'file:///artifacts/' || i, {_DIGESTS['archive']}, 1000, "
    f"{_DIGESTS['model']}, 'last', {_DIGESTS['checkpoint']}, now(), 'bench' "
    f"FROM {_NUMBERS}",
    "INSERT INTO params (run, stage, name, value) "
    f"SELECT i, 'train', 'param_' || p, to_json('' || i * p) FROM {_NUMBERS}, generate_series(1, {PARAMS}) p",
    "INSERT INTO metrics (run, stage, name, steps, series, last_value) "
    "SELECT i, 'train', 'metric_' || m, '[1, 2, 3, 4, 5]', '[0.5, 0.4, 0.3, 0.2, 0.1]', 0.1 "
    f"FROM {_NUMBERS}, generate_series(1, {SERIES}) m",
    "INSERT INTO evaluations (id, run, checkpoint, note) SELECT i, i, 'last', '' FROM " + _NUMBERS,
    f"INSERT INTO evaluation_metrics (evaluation, name, value) SELECT i, 'loss', 1.0 / i FROM {_NUMBERS}",
    f"INSERT INTO version_metrics (version, name, value) SELECT i, 'loss', 1.0 / i FROM {_NUMBERS}",
    # By digest: the index is then written page after page.
    f"INSERT INTO files (digest, size) SELECT {_OF_FILE} AS digest, 1000 "
    f"FROM {_NUMBERS}, generate_series(1, {FILES}) f ORDER BY digest",
    "INSERT INTO version_files (version, path, digest, role) "
    f"SELECT i, 'model/part-' || f || '.bin', {_OF_FILE}, '' "
    f"FROM {_NUMBERS}, generate_series(1, {FILES}) f",
    "INSERT INTO aliases (model, name, version) VALUES (1, %(alias)s, %(count)s)",
    "INSERT INTO alias_history (model, name, version, at, actor, reason) "
    f"SELECT 1, %(alias)s, i, now(), 'bench', 'registered' FROM {_NUMBERS}",
    "INSERT INTO events (at, actor, kind, model, version, run_id, detail) "
    f"SELECT now(), 'bench', 'version-registered', 1, i, 'filled-' || i, '{{}}' FROM {_NUMBERS}",
    *(
        f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}))"
        for table in ("models", "runs", "versions", "evaluations")
    ),
)

_INDEXES = (
    "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index "
    "JOIN pg_class ON pg_class.oid = indrelid WHERE relnamespace = 'public'::regnamespace AND NOT indisunique"
)


def fill_ours(url: str, count: int) -> None:
    """Fill a database that modelway has made; the indexes are made again after the rows, the references not checked."""
    given = {"count": count, "model": MODEL, "alias": ALIAS}
    with psycopg.connect(url, autocommit=True) as connection:
        indexes = connection.execute(_INDEXES).fetchall()
        connection.execute("SET session_replication_role = replica")
        connection.execute("SET maintenance_work_mem = '512MB'")
        connection.execute("SET synchronous_commit = off")
        for name, _ in indexes:
            connection.execute(f'DROP INDEX "{name}"' if '"' not in name else f"DROP INDEX {name}")  # type: ignore[call-overload]
        for statement in _OURS:
            # Not bound by the server: PostgreSQL has no parameters in every place where these stand.
            psycopg.ClientCursor(connection).execute(statement, given)  # type: ignore[arg-type]
        for _, definition in indexes:
            connection.execute(definition)
        connection.execute("VACUUM ANALYZE")


#: of MLflow: copies of the first version, of which only the last value of each metric is kept
_THEIRS: Sequence[str] = (
    "INSERT INTO runs SELECT (jsonb_populate_record(r, jsonb_build_object('run_uuid', md5('' || i)))).* "
    "FROM runs r, {numbers}",
    *(
        f"INSERT INTO {table} SELECT (jsonb_populate_record(r, jsonb_build_object('run_uuid', md5('' || i)))).* "
        f"FROM {table} r, {{numbers}}"
        for table in ("params", "latest_metrics", "tags")
    ),
    "INSERT INTO model_versions SELECT (jsonb_populate_record(v, "
    "jsonb_build_object('version', i, 'run_id', md5('' || i)))).* FROM model_versions v, {numbers}",
    "INSERT INTO model_version_tags (name, version, key, value) "
    f"SELECT %(model)s, i, {_OF_FILE}, 'model/part-' || f || '.bin' "
    "FROM {numbers}, generate_series(1, 8) f",
)


def fill_theirs(url: str, count: int) -> None:
    """Fill a database in which MLflow has registered one version."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in _THEIRS:
            words = statement.replace("{numbers}", "generate_series(2, %(count)s) i")
            psycopg.ClientCursor(connection).execute(words, {"count": count, "model": MODEL})  # type: ignore[arg-type]
        connection.execute("VACUUM ANALYZE")
