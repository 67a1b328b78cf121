"""What earlier runs tell a new one: a version of the same inputs, a later one, what training took.

Each function works inside the caller's transaction.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, and_, not_, or_, select

from modelway.lineage.records.version import TrainingCost
from modelway.lineage.schema.tables import events, models, runs, versions
from modelway.lineage.write.alias import point_alias
from modelway.lineage.write.events import add_event

#: how many of the newest runs tell what the next one takes
_NEWEST = 20


def _of_model(model: str, *columns: Any) -> Select[Any]:
    """Return a query of a model's versions with the runs that made them, newest first."""
    made = versions.join(runs, versions.c.run == runs.c.id).join(models, versions.c.model == models.c.id)
    return select(*columns).select_from(made).where(models.c.name == model).order_by(versions.c.number.desc())


def _of_others(query: Select[Any], *, dag_id: str, run_id: str) -> Select[Any]:
    return query.where(not_(and_(runs.c.dag_id == dag_id, runs.c.run_id == run_id)))


def version_of_inputs(connection: Connection, model: str, digest: str, *, dag_id: str, run_id: str) -> int | None:
    """Return the newest version that another run made from these inputs."""
    query = _of_others(_of_model(model, versions.c.number), dag_id=dag_id, run_id=run_id)
    number: int | None = connection.execute(query.where(runs.c.inputs_digest == digest).limit(1)).scalar()
    return number


def later_version(
    connection: Connection,
    model: str,
    *,
    end: datetime,
    run_after: datetime,
    with_start: bool,
    dag_id: str,
    run_id: str,
) -> tuple[int, datetime] | None:
    """Return the version of the latest data, and its data's end, when that or its run is later than the given ones."""
    query = _of_others(_of_model(model, versions.c.number, runs.c.interval_end), dag_id=dag_id, run_id=run_id)
    query = query.order_by(None).order_by(runs.c.interval_end.desc(), runs.c.run_after.desc(), versions.c.number.desc())
    same_data = and_(runs.c.interval_end == end, runs.c.run_after > run_after)
    query = query.where(or_(runs.c.interval_end > end, same_data))
    if with_start:
        query = query.where(runs.c.interval_start.is_not(None))
    row = connection.execute(query.limit(1)).first()
    return (row.number, row.interval_end) if row else None


def training_cost(connection: Connection, model: str) -> TrainingCost | None:
    """Return the mean cost of the newest runs that say what they took."""
    query = _of_model(model, runs.c.seconds, runs.c.gpu_seconds).where(runs.c.seconds.is_not(None)).limit(_NEWEST)
    known = connection.execute(query).all()
    if not known:
        return None
    return TrainingCost(
        runs=len(known),
        seconds=sum(row.seconds for row in known) / len(known),
        gpu_seconds=sum(row.gpu_seconds or 0.0 for row in known) / len(known),
    )


def versions_of_schedule(connection: Connection, model: str) -> dict[datetime, int]:
    """Return the newest version of a scheduled run or a backfill by the begin of its data interval."""
    query = _of_model(model, runs.c.interval_start, versions.c.number).where(runs.c.interval_start.is_not(None))
    rows = connection.execute(query.where(runs.c.run_type.in_(("backfill", "scheduled")))).all()
    return {row.interval_start: row.number for row in reversed(rows)}


def record_reuse(
    connection: Connection,
    keys: Mapping[str, int],
    *,
    dag_id: str,
    run_id: str,
    actor: str,
    reason: str,
    alias: str | None,
) -> bool:
    """Write the event that a run took a version (``keys``) and move the alias, unless it is there; say whether so."""
    query = select(events.c.detail).where(
        events.c.kind == "version-reused", events.c.version == keys["version"], events.c.run_id == run_id
    )
    if any(detail.get("dag_id") == dag_id for detail in connection.execute(query).scalars()):
        return False
    detail = {"dag_id": dag_id, "run_id": run_id, "reason": reason}
    add_event(connection, keys, kind="version-reused", actor=actor, run_id=run_id, detail=detail)
    if alias is not None:
        point_alias(connection, keys, alias=alias, actor=actor, reason=reason, run_id=run_id)
    return True
