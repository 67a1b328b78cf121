"""Reads of many models and versions at once, each a few statements however many there are.

Each function works inside the caller's transaction.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, select, union_all

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
    parts = []
    for name in names:
        # By the key, not by a join: the newest are then the first that the index gives.
        model = select(models.c.id).where(models.c.name == name).scalar_subquery()
        part = of_dags(select(versions.c.id).select_from(made).where(versions.c.model == model), dags)
        parts.append(select(part.order_by(versions.c.number.desc()).limit(each).subquery().c.id))
    query = select(versions, runs.c.dag_id, runs.c.run_id, models.c.name.label("model_name")).select_from(
        made.join(models, versions.c.model == models.c.id)
    )
    keys = list(connection.execute(union_all(*parts)).scalars())
    rows = connection.execute(query.where(versions.c.id.in_(keys)).order_by(versions.c.number.desc())).all()
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
    for number, stage, name, value in connection.execute(query):
        found[number][stage][name] = value
    return {number: dict(by_stage) for number, by_stage in found.items()}
