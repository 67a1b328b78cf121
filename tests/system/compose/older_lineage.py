"""A lineage database as an earlier modelway left it, with one version of one model."""

from alembic import command
from alembic.config import Config
from modelway.lineage.schema.engine import connect_engine, parse_url, writing
from modelway.lineage.schema.migrate import MIGRATIONS

MODEL = "elder"
#: the oldest schema that is migrated
SCHEMA = "0006"
_NOW = "2026-03-01 12:00:00"
_DIGEST = "sha256:" + "0" * 64
_ROWS = (
    f"INSERT INTO models VALUES (1, '{MODEL}', 'of an earlier modelway', 1, '{_NOW}')",
    "INSERT INTO runs (id, model, dag_id, run_id, actor, run_type, spec, seed, inputs_digest, reason) "
    f"VALUES (1, 1, '{MODEL}', 'old', 'mia', 'manual', '{{}}', 7, '{_DIGEST}', 'requested')",
    "INSERT INTO versions (id, model, number, run, description, archive_uri, archive_digest, archive_size, "
    "model_digest, checkpoint, checkpoint_digest, created_at, created_by) VALUES "
    f"(1, 1, 1, 1, 'old', 'file:///old', '{_DIGEST}', 1, '{_DIGEST}', 'train-1', '{_DIGEST}', '{_NOW}', 'mia')",
    *(f"SELECT setval('{table}_id_seq', 1)" for table in ("models", "runs", "versions")),
)


def make_older_lineage(url: str) -> None:
    """Make it in an empty database of PostgreSQL."""
    engine = connect_engine(parse_url(url))
    with writing(engine) as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(MIGRATIONS))
        command.upgrade(config, SCHEMA)
        for row in _ROWS:
            connection.exec_driver_sql(row)
    engine.dispose()
