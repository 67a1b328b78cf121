"""Reads the parts of a run besides what it logged: stages with their environments, figures, feature importances.

Each function works inside the caller's transaction.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, select

from modelway.lineage.records.values import NON_FINITE
from modelway.lineage.records.version import (
    CandidateRecord,
    EnvironmentRecord,
    FigureRecord,
    ImportanceRecord,
    StageRecord,
)
from modelway.lineage.schema.sweep_tables import candidates
from modelway.lineage.schema.tables import environments, figures, importances, stages


def read_stages(connection: Connection, run: int) -> tuple[StageRecord, ...]:
    """Return the stages of a run in the order in which they ran."""
    query = select(stages, environments.c.digest, environments.c.python, environments.c.platform)
    query = query.add_columns(environments.c.image, environments.c.packages)
    query = query.outerjoin(environments, stages.c.environment == environments.c.id).where(stages.c.run == run)
    return tuple(
        StageRecord(**_values(row, StageRecord) | {"environment": _environment(row)})
        for row in connection.execute(query.order_by(stages.c.position))
    )


def _environment(row: Any) -> EnvironmentRecord | None:
    return None if row.digest is None else EnvironmentRecord(**_values(row, EnvironmentRecord))


def read_figures(connection: Connection, run: int) -> tuple[FigureRecord, ...]:
    """Return the figures of a run in the order in which they were drawn."""
    query = select(figures).where(figures.c.run == run).order_by(figures.c.id)
    return tuple(FigureRecord(**_values(row, FigureRecord)) for row in connection.execute(query))


def read_importances(connection: Connection, run: int) -> tuple[ImportanceRecord, ...]:
    """Return the feature importances of a run, the greatest first, those that are no number last."""
    query = select(importances).where(importances.c.run == run).order_by(importances.c.checkpoint)
    query = query.order_by(importances.c.importance.desc().nulls_last(), importances.c.feature)
    return tuple(ImportanceRecord(**_values(row, ImportanceRecord)) for row in connection.execute(query))


def read_candidates(connection: Connection, run: int) -> tuple[CandidateRecord, ...]:
    """Return the candidates of a run in the order in which they were drawn."""
    query = select(candidates).where(candidates.c.run == run).order_by(candidates.c.position)
    return tuple(
        CandidateRecord(**_values(row, CandidateRecord) | {"metrics": _numbers(row.metrics)})
        for row in connection.execute(query)
    )


def _numbers(stored: Mapping[str, Any]) -> dict[str, float | None]:
    return {name: NON_FINITE[value] if isinstance(value, str) else value for name, value in stored.items()}


def _values(row: Any, record: Any) -> dict[str, Any]:
    columns = row._mapping
    return {field.name: columns[field.name] for field in fields(record) if field.name in columns}
