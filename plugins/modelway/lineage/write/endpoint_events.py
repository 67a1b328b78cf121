"""Where an endpoint serves and whether somebody stopped it: events of its model.

Each function works inside the caller's transaction.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from modelway.lineage.schema.tables import events
from modelway.lineage.write.events import add_event

STARTED, STOPPED = "endpoint-started", "endpoint-stopped"


@dataclass(frozen=True, kw_only=True)
class EndpointState:
    """Where an endpoint serves, or served until it was stopped."""

    url: str
    #: None while it is not stopped
    stopped_at: datetime | None


def record_state(
    connection: Connection,
    model: int,
    *,
    endpoint: str,
    url: str,
    is_stopped: bool,
    actor: str,
    run_id: str | None,
) -> bool:
    """Record that an endpoint of a model serves at ``url``, or was stopped, and say whether that is new."""
    before = state_at(connection, model, endpoint=endpoint)
    if before is not None and (before.url, before.stopped_at is not None) == (url, is_stopped):
        return False
    detail: Mapping[str, Any] = {"endpoint": endpoint, "url": url}
    kind = STOPPED if is_stopped else STARTED
    add_event(connection, {"model": model}, kind=kind, actor=actor, run_id=run_id, detail=detail)
    return True


def state_at(connection: Connection, model: int, *, endpoint: str, at: datetime | None = None) -> EndpointState | None:
    """Return where an endpoint served and whether it was stopped: now, or at a time; None where nothing says it."""
    query = select(events.c.kind, events.c.at, events.c.detail)
    query = query.where(events.c.model == model, events.c.kind.in_((STARTED, STOPPED))).order_by(events.c.id.desc())
    if at is not None:
        query = query.where(events.c.at <= at)
    for kind, time, detail in connection.execute(query):
        if detail.get("endpoint") == endpoint:
            return EndpointState(url=str(detail["url"]), stopped_at=time if kind == STOPPED else None)
    return None
