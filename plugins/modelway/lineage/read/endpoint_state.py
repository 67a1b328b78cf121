"""Where an endpoint serves and whether somebody stopped it, read from the events of its model."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from modelway.lineage.schema.tables import events

#: the kinds of events
STARTED, STOPPED = "endpoint-started", "endpoint-stopped"


@dataclass(frozen=True, kw_only=True)
class EndpointState:
    """Where an endpoint serves, or served until it was stopped."""

    url: str
    #: None while it is not stopped
    stopped_at: datetime | None


def read_state(
    connection: Connection, model: int, *, endpoint: str, at: datetime | None = None
) -> EndpointState | None:
    """Return where an endpoint served and whether it was stopped: now, or at a time; None without a record."""
    query = select(events.c.kind, events.c.at, events.c.detail)
    query = query.where(events.c.model == model, events.c.kind.in_((STARTED, STOPPED))).order_by(events.c.id.desc())
    if at is not None:
        query = query.where(events.c.at <= at)
    for kind, time, detail in connection.execute(query):
        if detail.get("endpoint") == endpoint:
            return EndpointState(url=str(detail["url"]), stopped_at=time if kind == STOPPED else None)
    return None
