"""Names that move from version to version, such as ``champion``."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from sqlalchemy import Connection, Insert, insert
from sqlalchemy.dialects import postgresql, sqlite

from modelway.lineage.schema import tables
from modelway.lineage.write.events import add_event

_NEW_MOVE = insert(tables.alias_history).inline()


def point_alias(
    connection: Connection, keys: Mapping[str, int], *, alias: str, actor: str, reason: str, run_id: str | None
) -> None:
    """Point an alias of a model at a version (``keys``) and write the move into its history and the events."""
    row = {**keys, "name": alias}
    connection.execute(_pointed(connection.dialect.name), row)
    detail = {"alias": alias, "reason": reason}
    at = add_event(connection, keys, kind="alias-set", actor=actor, run_id=run_id, detail=detail)
    connection.execute(_NEW_MOVE, row | {"at": at, "actor": actor, "reason": reason})


@cache
def _pointed(dialect: str) -> Insert:
    into: Any = (postgresql if dialect == "postgresql" else sqlite).insert(tables.aliases).inline()
    key = [tables.aliases.c.model, tables.aliases.c.name]
    pointed: Insert = into.on_conflict_do_update(index_elements=key, set_={"version": into.excluded.version})
    return pointed
