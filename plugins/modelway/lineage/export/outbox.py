"""What is still to be exported: written in the transaction of the fact itself, one row for each exporter.

Of two facts about one model the later one has the higher id: everything about its versions is written while the
model's row is locked. ``delivery`` sends the rows.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, and_, insert, select

from modelway.lineage.exporters.base import exporter_kinds
from modelway.lineage.records.values import plain
from modelway.lineage.schema.asset_tables import outbox
from modelway.lineage.schema.tables import models, versions

#: the option of an engine's connections that names the exporters
OPTION = "modelway_exporters"
#: the rows that are still to be sent
WAITING = and_(outbox.c.sent_at.is_(None), outbox.c.refused_at.is_(None))


def with_exporters(engine: Engine, exporters: Iterable[str]) -> Engine:
    """Return an engine whose written facts are stored for these exporters, too."""
    return engine.execution_options(**{OPTION: tuple(exporters)})


def exporters_of(connection: Connection) -> tuple[str, ...]:
    """Return the names of the exporters for which written facts are stored."""
    return tuple(connection.get_execution_options().get(OPTION, ()))


def put(
    connection: Connection,
    *,
    kind: str,
    fact: Mapping[str, Any],
    at: datetime | None = None,
    exporters: Collection[str] | None = None,
) -> int:
    """Store a fact for each exporter that wants it, within the caller's transaction; return for how many.

    :param exporters: in place of those that the engine knows
    """
    return put_all(connection, kind=kind, facts=[fact], at=at, exporters=exporters)


def put_all(
    connection: Connection,
    *,
    kind: str,
    facts: Sequence[Mapping[str, Any]],
    at: datetime | None = None,
    exporters: Collection[str] | None = None,
) -> int:
    """Store facts of one kind as ``put`` stores one; return how many rows were written."""
    known = exporters_of(connection) if exporters is None else exporters
    wanting = [name for name in known if kind in exporter_kinds(name)]
    now = at or datetime.now(UTC)
    rows = [
        {"exporter": name, "kind": kind, "fact": plain(fact), "at": now, "attempts": 0, "error": ""}
        for name in wanting
        for fact in facts
    ]
    if rows:
        connection.execute(insert(outbox), rows)
    return len(rows)


def put_event(connection: Connection, version: int, *, kind: str, at: datetime, **detail: Any) -> None:
    """Store what happened to the version with this key, for each exporter that wants it."""
    if not any(kind in exporter_kinds(name) for name in exporters_of(connection)):
        return
    query = select(models.c.name, versions.c.number).join(versions, versions.c.model == models.c.id)
    row = connection.execute(query.where(versions.c.id == version)).one()
    put(connection, kind=kind, at=at, fact={"model": row.name, "version": row.number, **detail})
