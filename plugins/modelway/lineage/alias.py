"""Names that move from version to version, such as ``champion``."""

from collections.abc import Mapping

from sqlalchemy import Connection, insert, update

from modelway.errors import ModelwayError
from modelway.lineage import tables
from modelway.lineage.engine import insert_new
from modelway.lineage.log import add_event
from modelway.names import is_alias


def check_alias(alias: str) -> None:
    """Refuse what could be taken for a version.

    :raises ModelwayError: the alias reads like a version number, or is ``latest``
    """
    if not is_alias(alias):
        raise ModelwayError(
            f"'{alias}' cannot be an alias",
            do="Use lower-case letters, digits and dashes, such as champion; numbers, v3 and latest name versions",
        )


def point_alias(
    connection: Connection, keys: Mapping[str, int], *, alias: str, actor: str, reason: str, run_id: str | None
) -> None:
    """Point an alias of a model at a version (``keys``) and write the move into its history and the events."""
    row = {**keys, "name": alias}
    insert_new(connection, tables.aliases, [row])
    is_it = (tables.aliases.c.model == keys["model"]) & (tables.aliases.c.name == alias)
    connection.execute(update(tables.aliases).where(is_it).values(version=keys["version"]))
    detail = {"alias": alias, "reason": reason}
    at = add_event(connection, keys, kind="alias-set", actor=actor, run_id=run_id, detail=detail)
    connection.execute(insert(tables.alias_history).inline(), row | {"at": at, "actor": actor, "reason": reason})
