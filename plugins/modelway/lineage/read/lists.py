"""Reads of many models and versions at once, each a few statements however many there are.

Each function works inside the caller's transaction.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, func, select

from modelway.lineage.read.queries import of_dags, summaries_of
from modelway.lineage.records.version import VersionSummary
from modelway.lineage.schema.tables import models, params, runs, versions


def read_newest(
    connection: Connection, names: Sequence[str], *, each: int, dags: Collection[str] | None
) -> dict[str, list[VersionSummary]]:
    """Return the newest versions of some models, newest first, by the model's name.

    :param each: how many of each model
    :param dags: if set, only versions that their runs made
    """
    if not names:
        return {}
    made = versions.join(runs, versions.c.run == runs.c.id)
    # The number from which on so many are newer: the last of the first that the index of numbers gives.
    older, of_older = versions.alias(), runs.alias()
    last = select(older.c.number).join(of_older, older.c.run == of_older.c.id).where(older.c.model == models.c.id)
    if dags is not None:
        last = last.where(of_older.c.dag_id.in_(dags))
    last = last.order_by(older.c.number.desc()).limit(1).offset(each - 1)
    named = select(models.c.id, models.c.name, func.coalesce(last.scalar_subquery(), 1).label("number"))
    # PostgreSQL would otherwise find it anew for each version.
    found_in = named.where(models.c.name.in_(names)).cte("last").prefix_with("MATERIALIZED", dialect="postgresql")
    newer = (versions.c.model == found_in.c.id) & (versions.c.number >= found_in.c.number)
    query = select(versions, runs.c.dag_id, runs.c.run_id, found_in.c.name.label("model_name"))
    query = of_dags(query.select_from(made.join(found_in, newer)), dags)
    rows = connection.execute(query.order_by(versions.c.number.desc())).all()
    found: dict[str, list[VersionSummary]] = {name: [] for name in names}
    for summary in summaries_of(connection, None, rows):
        found[summary.model].append(summary)
    return found


def read_params_of(
    connection: Connection, model: int, numbers: Collection[int]
) -> dict[int, dict[str, dict[str, Any]]]:
    """Return the parameters of some versions of a model, by number and stage."""
    found: dict[int, dict[str, dict[str, Any]]] = {number: defaultdict(dict) for number in numbers}
    query = select(versions.c.number, params.c.stage, params.c.name, params.c.value)
    query = query.join(params, params.c.run == versions.c.run).where(versions.c.model == model)
    query = query.where(versions.c.number.in_(list(found))).order_by(params.c.stage, params.c.name)
    for number, stage, name, value in connection.execute(query).all():
        found[number][stage][name] = value
    return {number: dict(by_stage) for number, by_stage in found.items()}
