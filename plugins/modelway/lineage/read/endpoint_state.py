"""Where an endpoint serves and whether somebody stopped it, read from the events of its model."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from modelway.lineage.read.batches import batches
from modelway.lineage.schema.tables import events

#: the kinds of events
STARTED, STOPPED = "endpoint-started", "endpoint-stopped"


@dataclass(frozen=True, kw_only=True)
class EndpointState:
    """Where an endpoint serves, or served until it was stopped."""

    url: str
    #: None while it is not stopped
    stopped_at: datetime | None


def read_states(
    connection: Connection, places: Collection[tuple[int, str]], *, at: datetime | None = None
) -> dict[tuple[int, str], EndpointState]:
    """Return where endpoints served and whether they were stopped, now or at a time; without a record, nothing.

    :param places: the key of each endpoint's model, with its name; the answer is by them
    """
    found: dict[tuple[int, str], EndpointState] = {}
    of_models = sorted({model for model, _ in places})
    query = select(events.c.model, events.c.kind, events.c.at, events.c.detail)
    query = query.where(events.c.kind.in_((STARTED, STOPPED))).order_by(events.c.id.desc())
    if at is not None:
        query = query.where(events.c.at <= at)
    for some in batches(of_models):
        for model, kind, time, detail in connection.execute(query.where(events.c.model.in_(some))):
            place = (model, str(detail.get("endpoint")))
            if place in places and place not in found:
                found[place] = EndpointState(url=str(detail["url"]), stopped_at=time if kind == STOPPED else None)
    return found


def read_state(connection: Connection, model: int, *, endpoint: str) -> EndpointState | None:
    """Return where an endpoint of a model serves and whether it was stopped; None without a record."""
    return read_states(connection, {(model, endpoint)}).get((model, endpoint))
