"""The shares of traffic with since when and by whom: three statements, however many there are.

Each function works inside the caller's transaction.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, select

from modelway.lineage.read.batches import batches
from modelway.lineage.read.endpoint_state import EndpointState, read_states
from modelway.lineage.records.answers import ServingRecord
from modelway.lineage.schema.tables import models, runs, versions, weight_history


def read_shares(
    connection: Connection,
    pairs: Collection[tuple[str, int]],
    *,
    at: datetime | None,
    dags: Collection[str] | None,
    after: str = "",
    most: int | None = None,
) -> list[ServingRecord]:
    """Return the weight of versions at endpoints, now or at a time, and since when they have it.

    :param pairs: the name of each endpoint with the key of a version that has traffic there
    :param dags: if set, versions that other DAGs made are left out
    :param after: only endpoints whose names come after this one
    :param most: of so many endpoints at most, by name
    """
    named = {row.id: row for row in _named(connection, sorted({version for _, version in pairs}))}
    shown = [(name, key) for name, key in pairs if name > after and (dags is None or named[key].dag_id in dags)]
    if most is not None:
        first = set(sorted({name for name, _ in shown})[:most])
        shown = [(name, key) for name, key in shown if name in first]
    lines = _lines(connection, sorted({key for _, key in shown}), at)
    places = {(named[key].model, endpoint) for endpoint, key in shown}
    states = read_states(connection, places, at=at)
    return [
        _record(endpoint, named[key], lines[endpoint, key], states.get((named[key].model, endpoint)))
        for endpoint, key in shown
    ]


def _named(connection: Connection, keys: Sequence[int]) -> Iterable[Row[Any]]:
    columns = (versions.c.id, versions.c.model, models.c.name, versions.c.number, runs.c.dag_id)
    query: Select[Any] = select(*columns)
    query = query.join_from(versions, models).join(runs, versions.c.run == runs.c.id)
    for some in batches(keys):
        yield from connection.execute(query.where(versions.c.id.in_(some)))


def _lines(connection: Connection, keys: Sequence[int], at: datetime | None) -> dict[tuple[str, int], list[Row[Any]]]:
    """Return the lines of history of each version at each endpoint, newest first."""
    found: dict[tuple[str, int], list[Row[Any]]] = defaultdict(list)
    query = select(weight_history).order_by(weight_history.c.id.desc())
    if at is not None:
        query = query.where(weight_history.c.at <= at)
    for some in batches(keys):
        for line in connection.execute(query.where(weight_history.c.version.in_(some))):
            found[line.endpoint, line.version].append(line)
    return found


def _record(endpoint: str, named: Row[Any], lines: Sequence[Row[Any]], state: EndpointState | None) -> ServingRecord:
    last, *before = lines
    first = last
    for line in before:
        if line.weight == 0:
            break
        first = line
    return ServingRecord(
        endpoint=endpoint,
        model=named.name,
        version=named.number,
        weight=last.weight,
        since=last.at,
        serving_since=first.at,
        actor=last.actor,
        run_id=last.run_id,
        url=None if state is None else state.url,
        stopped_at=None if state is None else state.stopped_at,
    )
