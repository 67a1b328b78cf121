"""The parts of a run besides what it logged: its stages with their environments, its figures, feature importances.

Each function works inside the caller's transaction.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, select

from modelway.lineage.records.values import plain
from modelway.lineage.records.version import EnvironmentRecord, FigureRecord, ImportanceRecord, RunRecord, StageRecord
from modelway.lineage.schema.tables import environments, figures, importances, stages
from modelway.lineage.write.bulk_insert import insert_new, insert_rows


def write_run_parts(
    connection: Connection, run: int, record: RunRecord, *, environments: Mapping[str | None, int]
) -> None:
    """Write what a run consists of; ``environments`` are the keys of its stages' by their digests."""
    rows = [
        vars(stage) | {"run": run, "position": position, "environment": environments.get(_digest(stage))}
        for position, stage in enumerate(record.stages)
    ]
    insert_rows(connection, stages, rows)
    drawn = [{"run": run} | vars(figure) | {"data": plain(figure.data)} for figure in record.figures]
    insert_rows(connection, figures, drawn)
    insert_rows(connection, importances, [{"run": run} | vars(importance) for importance in record.importances])


def _digest(stage: StageRecord) -> str | None:
    return stage.environment.digest if stage.environment else None


def environment_keys(connection: Connection, found: tuple[StageRecord, ...]) -> dict[str | None, int]:
    """Write the environments that are not there yet, and return the keys of all by their digests."""
    wanted = {stage.environment.digest: stage.environment for stage in found if stage.environment}
    if not wanted:
        return {}
    # Sorted: two writers that share environments then take their locks in the same order.
    insert_new(connection, environments, [vars(wanted[digest]) for digest in sorted(wanted)])
    query = select(environments.c.digest, environments.c.id).where(environments.c.digest.in_(wanted))
    return {digest: key for digest, key in connection.execute(query)}


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


def _values(row: Any, record: Any) -> dict[str, Any]:
    columns = row._mapping
    return {field.name: columns[field.name] for field in fields(record) if field.name in columns}
