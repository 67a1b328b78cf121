"""How the lineage database is opened: created or migrated for writing, as it is for reading."""

from pathlib import Path

from sqlalchemy import URL, Engine

from modelway.lineage.schema.engine import connect_engine, make_folder, parse_url, reading
from modelway.lineage.schema.migrate import migrate, schema_of
from modelway.lineage.schema.tables import SCHEMA


def engine_to_write(url: str) -> Engine:
    """Return an engine on the database at an SQLAlchemy URL, which is created or migrated if needed.

    :raises NotWritable: the file or its folder cannot be written
    :raises ModelwayError: it is not a lineage database, or a newer modelway wrote it
    """
    parsed = parse_url(url)
    make_folder(parsed)
    engine = connect_engine(parsed)
    migrate(engine)
    return engine


def engine_to_read(url: str) -> Engine | None:
    """Return an engine on a database that needs no write access; None, creating nothing, if it was never written.

    :raises NotWritable: it has an older schema and cannot be migrated
    :raises ModelwayError: it is not a lineage database, or a newer modelway wrote it
    """
    parsed = parse_url(url)
    if not database_exists(parsed):
        return None
    engine = connect_engine(parsed)
    with reading(engine) as connection:
        found = schema_of(connection)
    if found is None:
        return None
    if found != SCHEMA:
        migrate(engine)
    return engine


def database_exists(parsed: URL) -> bool:
    """Say whether the SQLite file is there; a PostgreSQL database is assumed to be."""
    return parsed.get_backend_name() != "sqlite" or Path(str(parsed.database)).exists()
