"""The append-only log of what happened."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, insert

from modelway.lineage.export import outbox
from modelway.lineage.records.values import plain
from modelway.lineage.schema import tables

_NEW_EVENT = insert(tables.events).inline()


def add_event(
    connection: Connection,
    keys: Mapping[str, int],
    *,
    kind: str,
    actor: str,
    run_id: str | None,
    detail: Mapping[str, Any],
) -> datetime:
    """Append a line about a model, or one version of it (``keys``), and return its time."""
    now = datetime.now(UTC)
    row = {"version": None, **keys, "at": now, "actor": actor, "kind": kind, "run_id": run_id}
    connection.execute(_NEW_EVENT, row | {"detail": plain(detail)})
    if (version := keys.get("version")) is not None:
        outbox.put_event(connection, version, kind=kind, at=now, **{"actor": actor, "run_id": run_id, **detail})
    return now
