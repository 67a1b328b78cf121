"""What the last check of each endpoint found: of its state only the parts that are needed, the rest has many kilobytes.

Each function works inside the caller's transaction.
"""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, select

from modelway.lineage.read.batches import batches
from modelway.lineage.records.monitoring import UNANSWERED, LastCheck, unanswered_of
from modelway.lineage.schema.monitor_tables import monitor_states


def read_last_checks(connection: Connection, endpoints: Collection[str]) -> dict[str, LastCheck]:
    """Return the last check of each endpoint that was ever checked, by name."""
    state = monitor_states.c.state
    parts = [state[name].label(name) for name in ("version", "rows", "alarms", UNANSWERED)]
    query = select(monitor_states.c.endpoint, monitor_states.c.model, monitor_states.c.updated_at, *parts)
    return {
        row.endpoint: _last_check(row)
        for some in batches(endpoints)
        for row in connection.execute(query.where(monitor_states.c.endpoint.in_(some)))
    }


def _last_check(row: Row[Any]) -> LastCheck:
    alarms: Mapping[str, Mapping[str, Any]] = row.alarms or {}
    raised = {rule: alarm for rule, alarm in alarms.items() if alarm.get("raised_at") is not None}
    return LastCheck(
        endpoint=row.endpoint,
        model=row.model,
        version=row.version,
        at=row.updated_at,
        rows=int(row.rows or 0),
        alarms={rule: datetime.fromtimestamp(alarm["raised_at"], UTC) for rule, alarm in raised.items()},
        requested=frozenset(rule for rule, alarm in raised.items() if alarm.get("request") is not None),
        unanswered=unanswered_of({UNANSWERED: row.unanswered}),
    )
