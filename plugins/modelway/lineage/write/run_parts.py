"""Writes the parts of a run besides what it logged: stages with their environments, figures, feature importances.

Each function works inside the caller's transaction.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select

from modelway.lineage.records.values import plain
from modelway.lineage.records.version import RunRecord, StageRecord
from modelway.lineage.schema.sweep_tables import candidates
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
    figure_rows = [{"run": run} | vars(figure) | {"data": plain(figure.data)} for figure in record.figures]
    insert_rows(connection, figures, figure_rows)
    insert_rows(connection, candidates, _candidate_rows(run, record))
    insert_rows(connection, importances, [{"run": run} | vars(importance) for importance in record.importances])


def _candidate_rows(run: int, record: RunRecord) -> list[dict[str, Any]]:
    return [
        {"run": run, "position": position} | vars(each) | {"params": plain(each.params), "metrics": plain(each.metrics)}
        for position, each in enumerate(record.candidates)
    ]


def _digest(stage: StageRecord) -> str | None:
    return stage.environment.digest if stage.environment else None


def environment_keys(connection: Connection, found: tuple[StageRecord, ...]) -> dict[str | None, int]:
    """Write the environments that do not exist yet, and return the keys of all by their digests."""
    wanted = {stage.environment.digest: stage.environment for stage in found if stage.environment}
    if not wanted:
        return {}
    # Sorted: two writers that share environments then take their locks in the same order.
    insert_new(connection, environments, [vars(wanted[digest]) for digest in sorted(wanted)])
    query = select(environments.c.digest, environments.c.id).where(environments.c.digest.in_(wanted))
    return {digest: key for digest, key in connection.execute(query)}
