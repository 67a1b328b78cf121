"""What was so at a point in time. Each function works inside the caller's transaction.

A line of history counts from its own time on, and of the lines that count the one written last is what was so: lines
are in the order of their ids. Where a clock went backwards, a line written later with an earlier time therefore wins
from that earlier time on, and what the line before it said is never seen again.
"""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Connection, func, select

from modelway.lineage.records.answers import ServingRecord
from modelway.lineage.schema.tables import alias_history, deployments, models, runs, versions, weight_history
from modelway.lineage.write.endpoint_events import state_at


def aliases_at(
    connection: Connection, model: int, at: datetime, *, dags: Collection[str] | None = None
) -> dict[str, int]:
    """Return the version that each alias of a model pointed at."""
    last = select(func.max(alias_history.c.id)).where(alias_history.c.model == model, alias_history.c.at <= at)
    query = select(alias_history.c.name, versions.c.number, runs.c.dag_id)
    query = query.join(versions, alias_history.c.version == versions.c.id).join(runs, versions.c.run == runs.c.id)
    query = query.where(alias_history.c.id.in_(last.group_by(alias_history.c.name))).order_by(alias_history.c.name)
    return {alias: number for alias, number, dag in connection.execute(query) if dags is None or dag in dags}


def latest_at(connection: Connection, model: int, at: datetime, *, dags: Collection[str] | None = None) -> int | None:
    """Return the highest number of a version that was there, None before the first."""
    query = select(versions.c.number).where(versions.c.model == model, versions.c.created_at <= at)
    if dags is not None:
        query = query.join(runs, versions.c.run == runs.c.id).where(runs.c.dag_id.in_(dags))
    number: int | None = connection.execute(query.order_by(versions.c.number.desc()).limit(1)).scalar()
    return number


def was_there(
    connection: Connection, model: int, number: int, at: datetime, *, dags: Collection[str] | None = None
) -> bool:
    """Say whether a version was registered by then."""
    query = select(runs.c.dag_id).join_from(versions, runs, versions.c.run == runs.c.id)
    query = query.where(versions.c.model == model, versions.c.number == number, versions.c.created_at <= at)
    dag = connection.execute(query).scalar()
    return dag is not None and (dags is None or dag in dags)


def serving(
    connection: Connection,
    *,
    model: str | None = None,
    at: datetime | None = None,
    dags: Collection[str] | None = None,
) -> list[ServingRecord]:
    """Return the shares that are not zero, by endpoint, greatest first: now, or as they were at a time."""
    if at is None:
        pairs = select(deployments.c.endpoint, deployments.c.version).where(deployments.c.weight > 0)
        found = [(endpoint, version) for endpoint, version in connection.execute(pairs)]
    else:
        found = [pair for endpoint in _endpoints(connection) for pair in _weighted(connection, endpoint, at)]
    records = [_record(connection, endpoint, version, at, dags) for endpoint, version in found]
    shown = [each for each in records if each is not None and model in (None, each.model)]
    return sorted(shown, key=lambda each: (each.endpoint, -each.weight, each.model, -each.version))


def _endpoints(connection: Connection) -> list[str]:
    """Return every endpoint that there was: from one to the next by the index, past all lines of each."""
    found: list[str] = []
    query = select(func.min(weight_history.c.endpoint))
    while (name := connection.execute(query).scalar()) is not None:
        found.append(name)
        query = select(func.min(weight_history.c.endpoint)).where(weight_history.c.endpoint > name)
    return found


def _weighted(connection: Connection, endpoint: str, at: datetime) -> list[tuple[str, int]]:
    last = select(func.max(weight_history.c.id)).where(weight_history.c.endpoint == endpoint, weight_history.c.at <= at)
    query = select(weight_history.c.version).where(weight_history.c.id.in_(last.group_by(weight_history.c.version)))
    return [(endpoint, version) for version in connection.execute(query.where(weight_history.c.weight > 0)).scalars()]


def _record(
    connection: Connection, endpoint: str, version: int, at: datetime | None, dags: Collection[str] | None
) -> ServingRecord | None:
    """Return how long a version has had its share; None where the version is of another DAG than ``dags``."""
    query = select(weight_history).where(weight_history.c.version == version, weight_history.c.endpoint == endpoint)
    if at is not None:
        query = query.where(weight_history.c.at <= at)
    last, *before = connection.execute(query.order_by(weight_history.c.id.desc())).all()
    begun = last
    for line in before:
        if line.weight == 0:
            break
        begun = line
    named = select(models.c.id, models.c.name, versions.c.number, runs.c.dag_id).join_from(versions, models)
    named = named.join(runs, versions.c.run == runs.c.id).where(versions.c.id == version)
    key, model, number, dag = connection.execute(named).one()
    if dags is not None and dag not in dags:
        return None
    state = state_at(connection, key, endpoint=endpoint, at=at)
    return ServingRecord(
        endpoint=endpoint,
        model=model,
        version=number,
        weight=last.weight,
        since=last.at,
        serving_since=begun.at,
        actor=last.actor,
        run_id=last.run_id,
        url=None if state is None else state.url,
        stopped_at=None if state is None else state.stopped_at,
    )
