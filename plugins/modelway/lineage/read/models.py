"""The list of models: each costs a few index lookups, however many versions it has."""

from collections import defaultdict
from collections.abc import Collection
from functools import cache
from typing import Any

from sqlalchemy import Connection, Select, bindparam, func, select

from modelway.lineage.read.queries import of_dags
from modelway.lineage.records.version import ModelSummary
from modelway.lineage.schema.tables import aliases, models, runs, versions

#: up to so many versions per model, all runs are read for their DAGs: that costs less than a step for each DAG
_SCANNED = 50
_MADE = versions.join(runs, versions.c.run == runs.c.id)


def read_models(
    connection: Connection, *, dags: Collection[str] | None = None, name: str | None = None
) -> list[ModelSummary]:
    """Return every model that has a version, by name; with ``dags``, as if only runs of those DAGs had made any.

    :param name: if set, only the model of that name is read
    """
    columns = (models.c.id, models.c.name, models.c.created_at, models.c.description, models.c.latest)
    rows = _named(select(*columns).order_by(models.c.name), one=name is not None)
    known = connection.execute(rows, {"of_name": name}).all()
    few_runs = sum(row.latest for row in known) <= _SCANNED * len(known)
    made: dict[int, list[str]] = defaultdict(list)
    query = _all_dags() if name is None and few_runs else _dags_of_models(one=name is not None)
    for model, dag in connection.execute(query, {"of_name": name}).all():
        made[model].append(dag)
    pointers: dict[int, list[tuple[str, int, str]]] = defaultdict(list)
    for model, alias, number, dag in connection.execute(_pointers(one=name is not None), {"of_name": name}).all():
        pointers[model].append((alias, number, dag))
    found = []
    for key, called, created_at, description, latest in known:
        names = [dag for dag in sorted(made[key]) if dags is None or dag in dags]
        if not names:
            continue
        # Numbers have no gaps: where all may be read, the newest says how many there are.
        count = latest
        if len(names) < len(made[key]):
            description, latest, count = _part_of(connection, key, names)
        found.append(
            ModelSummary(
                name=called,
                description=description,
                created_at=created_at,
                latest=latest,
                count=count,
                dags=tuple(names),
                aliases={alias: number for alias, number, dag in pointers[key] if dag in names},
            )
        )
    return found


def made_by(connection: Connection, name: str) -> tuple[int | None, list[str]]:
    """Return the key of a model and the DAGs that made its versions; None and no DAG where it has none."""
    rows = connection.execute(_dags_of_models(one=True), {"of_name": name}).all()
    return (rows[0].id if rows else None), [row.dag for row in rows]


def _named(query: Select[Any], *, one: bool) -> Select[Any]:
    """Narrow a query of models to one name, where only one is wanted."""
    return query.where(models.c.name == bindparam("of_name")) if one else query


@cache
def _all_dags() -> Select[Any]:
    return select(runs.c.model, runs.c.dag_id).distinct()


@cache
def _dags_of_models(*, one: bool) -> Select[Any]:
    """Return the query of the DAGs that made each model: of the runs' index each DAG's first entry, not every run."""
    first = select(func.min(runs.c.dag_id)).where(runs.c.model == models.c.id)
    begin = _named(select(models.c.id, first.scalar_subquery().label("dag")), one=one).cte("steps", recursive=True)
    later = select(func.min(runs.c.dag_id)).where(runs.c.model == begin.c.id, runs.c.dag_id > begin.c.dag)
    steps = begin.union_all(select(begin.c.id, later.scalar_subquery()).where(begin.c.dag.is_not(None)))
    return select(steps.c.id, steps.c.dag).where(steps.c.dag.is_not(None))


@cache
def _pointers(*, one: bool) -> Select[Any]:
    query = select(aliases.c.model, aliases.c.name, versions.c.number, runs.c.dag_id).select_from(
        aliases.join(versions, aliases.c.version == versions.c.id).join(runs, versions.c.run == runs.c.id)
    )
    if one:
        query = _named(query.join(models, aliases.c.model == models.c.id), one=True)
    return query.order_by(aliases.c.model, aliases.c.name)


def _part_of(connection: Connection, model: int, dags: Collection[str]) -> tuple[str, int, int]:
    """Return the newest description and number of the versions that runs of some DAGs made, and how many they are."""
    newest = of_dags(select(versions.c.number).select_from(_MADE).where(versions.c.model == model), dags)
    newest = newest.order_by(versions.c.number.desc()).limit(1)
    described = of_dags(select(versions.c.description).select_from(_MADE).where(versions.c.description != ""), dags)
    described = described.where(versions.c.model == model).order_by(versions.c.number.desc()).limit(1)
    # A run is written together with its version.
    count = of_dags(select(func.count()).select_from(runs).where(runs.c.model == model), dags)
    return (
        connection.execute(described).scalar() or "",
        connection.execute(newest).scalar_one(),
        connection.execute(count).scalar_one(),
    )
