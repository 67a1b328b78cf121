"""Bring a lineage database to the schema that the code knows."""

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, inspect, text

from modelway.errors import ModelwayError
from modelway.lineage.schema.engine import place_of, reading, writing
from modelway.lineage.schema.tables import SCHEMA

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

MIGRATIONS = Path(__file__).parent / "migrations"
#: any number that nobody else locks on the same PostgreSQL database
_LOCK = 5_067_201_493
# Alembic keeps the running migration in module-level state.
_ONE_AT_A_TIME = threading.Lock()


def migrate(engine: Engine) -> bool:
    """Migrate to the newest schema if needed and say whether anything was done.

    Two processes that start at once are fine: one migrates, the other waits. Migrations run in one transaction.

    :raises ModelwayError: the schema is one that this code does not know
    """
    with reading(engine) as connection:
        if schema_of(connection) == SCHEMA:
            return False
    with _ONE_AT_A_TIME, writing(engine) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        if schema_of(connection) == SCHEMA:
            return False
        _upgrade(connection, where=place_of(engine.url))
    return True


def schema_of(connection: Connection) -> str | None:
    """Return the schema's revision, None for an empty database."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return revision


def _upgrade(connection: Connection, *, where: str) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    # Most databases are new, and to read what migrations there are takes as long as to make the tables.
    if (found := schema_of(connection)) is not None:
        _check_known(found, ScriptDirectory(str(MIGRATIONS)), where=where)
    command.upgrade(config, "head")


def _check_known(found: str, scripts: "ScriptDirectory", *, where: str) -> None:
    """Refuse a schema that no migration leads on from.

    :raises ModelwayError: it is older than the first migration, or was written by a newer modelway
    """
    known = sorted(script.revision for script in scripts.walk_revisions())
    if found in known:
        return
    what = f"the database has schema '{found}', which this modelway (schemas '{known[0]}' to '{SCHEMA}') does not know"
    do = "Install the newer modelway that wrote it, or use a separate database for the lineage"
    if found < known[0]:
        do = (
            f"It is from before the first release: open it once with a development version of schema '{known[0]}', "
            "or use a separate database for the lineage"
        )
    raise ModelwayError(what, where=where, do=do)
