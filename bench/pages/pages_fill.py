"""A lineage with one model of many versions and many models of few, and MLflow's list of the same models.

Written by the database itself, as bench/lineage/fill.py does: through the stores it would take hours.
"""

from collections.abc import Sequence

import psycopg

#: what a version of the one model has, as those that bench/lineage/fill.py makes for MLflow have
PARAMS, METRICS = 30, 40
#: the versions of each other model, and the metrics of each
FEW, SOME = 3, 5

_DIGEST = "'sha256:' || encode(sha256(convert_to('{} ' || i, 'UTF8')), 'hex')"
#: keys: the one model's runs and versions come first, then those of the others
_KEYS = "generate_series(1, %(versions)s + %(models)s * %(few)s) i"
_MODEL = "CASE WHEN i <= %(versions)s THEN 1 ELSE 2 + (i - %(versions)s - 1) / %(few)s END"
_NUMBER = "CASE WHEN i <= %(versions)s THEN i ELSE 1 + (i - %(versions)s - 1) %% %(few)s END"
_NAME = f"CASE WHEN i <= %(versions)s THEN %(name)s ELSE 'other-' || lpad('' || ({_MODEL}), 4, '0') END"
_OURS: Sequence[str] = (
    "INSERT INTO models (id, name, description, latest, created_at) "
    "VALUES (1, %(name)s, 'the model of the bench', %(versions)s, now())",
    "INSERT INTO models (id, name, description, latest, created_at) "
    "SELECT i, 'other-' || lpad('' || i, 4, '0'), 'a model beside it', %(few)s, now() "
    "FROM generate_series(2, %(models)s + 1) i",
    "INSERT INTO runs (id, model, dag_id, run_id, actor, run_type, code_digest, commit_id, spec, inputs_digest) "
    f"SELECT i, {_MODEL}, {_NAME}, 'filled-' || i, 'bench', 'manual', {_DIGEST.format('code')}, md5('' || i), "
    f"'{{}}', {_DIGEST.format('inputs')} FROM {_KEYS}",
    "INSERT INTO versions (id, model, number, run, description, archive_uri, archive_digest, archive_size, "
    "model_digest, checkpoint, checkpoint_digest, created_at, created_by) "
    f"SELECT i, {_MODEL}, {_NUMBER}, i, '', 'file:///artifacts/' || i, {_DIGEST.format('archive')}, 1000, "
    f"{_DIGEST.format('model')}, 'last', {_DIGEST.format('checkpoint')}, now(), 'bench' FROM {_KEYS}",
    "INSERT INTO params (run, stage, name, value) SELECT i, 'train', 'param_' || p, to_json('' || i * p) "
    "FROM generate_series(1, %(versions)s) i, generate_series(1, %(params)s) p",
    "INSERT INTO version_metrics (version, name, value) SELECT i, 'metric_' || m, 1.0 / (i + m) "
    f"FROM {_KEYS}, generate_series(1, %(metrics)s) m WHERE i <= %(versions)s OR m <= %(some)s",
    "INSERT INTO images (version, builder, digest, reference, created_at) "
    f"SELECT i, 'oci', {_DIGEST.format('image')}, 'registry/models:v' || i, now() FROM {_KEYS}",
    "INSERT INTO aliases (model, name, version) SELECT 1, 'champion', %(versions)s",
    "INSERT INTO aliases (model, name, version) SELECT i, 'champion', %(versions)s + (i - 1) * %(few)s "
    "FROM generate_series(2, %(models)s + 1) i",
    "INSERT INTO deployments (endpoint, version, weight, since) "
    "SELECT models.name, aliases.version, 100, now() FROM aliases JOIN models ON models.id = aliases.model",
    "INSERT INTO weight_history (endpoint, version, weight, at, actor) "
    "SELECT endpoint, version, weight, since, 'bench' FROM deployments",
    "INSERT INTO events (at, actor, kind, model, version, run_id, detail) "
    f"SELECT now(), 'bench', 'version-registered', {_MODEL}, i, 'filled-' || i, '{{}}' FROM {_KEYS}",
    *(
        f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}))"
        for table in ("models", "runs", "versions")
    ),
)


def fill_ours(url: str, *, name: str, versions: int, models: int) -> None:
    """Fill a database that modelway has made; references are not checked."""
    given = {"name": name, "versions": versions, "models": models, "few": FEW}
    given |= {"params": PARAMS, "metrics": METRICS, "some": SOME}
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        for statement in _OURS:
            psycopg.ClientCursor(connection).execute(statement, given)  # type: ignore[arg-type]
        connection.execute("VACUUM ANALYZE")


def fill_their_models(url: str, *, models: int) -> None:
    """Give MLflow, which has registered one model, so many others without versions: it lists those faster."""
    copied = (
        "INSERT INTO registered_models SELECT (jsonb_populate_record(r, jsonb_build_object('name', "
        "'other-' || lpad('' || i, 4, '0')))).* FROM registered_models r, generate_series(2, %(models)s + 1) i"
    )
    with psycopg.connect(url, autocommit=True) as connection:
        psycopg.ClientCursor(connection).execute(copied, {"models": models})  # type: ignore[arg-type]
        connection.execute("VACUUM ANALYZE")
