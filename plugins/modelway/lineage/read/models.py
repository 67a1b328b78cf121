"""The list of models: each costs a few index lookups, however many versions it has."""

from collections import defaultdict
from collections.abc import Collection
from functools import cache
from typing import Any

from sqlalchemy import Connection, Select, bindparam, func, select

from modelway.lineage.read.queries import of_dags
from modelway.lineage.records.version import ModelSummary
from modelway.lineage.schema.tables import aliases, models, runs, versions

_MADE = versions.join(runs, versions.c.run == runs.c.id)


def read_models(
    connection: Connection, *, dags: Collection[str] | None = None, name: str | None = None
) -> list[ModelSummary]:
    """Return every model that has a version, by name; with ``dags``, as if only runs of those DAGs had made any.

    :param name: if set, only the model of that name is read
    """
    made: dict[int, list[str]] = defaultdict(list)
    for model, dag in connection.execute(_dags_of_models(one=name is not None), {"of_name": name}):
        made[model].append(dag)
    pointers: dict[int, list[tuple[str, int, str]]] = defaultdict(list)
    for model, alias, number, dag in connection.execute(_pointers(one=name is not None), {"of_name": name}):
        pointers[model].append((alias, number, dag))
    found = []
    columns = (models.c.id, models.c.name, models.c.created_at, models.c.description, models.c.latest)
    rows = _named(select(*columns).order_by(models.c.name), one=name is not None)
    for key, called, created_at, description, latest in connection.execute(rows, {"of_name": name}).all():
        names = [dag for dag in sorted(made[key]) if dags is None or dag in dags]
        if not names:
            continue
        # Numbers have no gaps: where all may be read, the newest says how many there are.
        few = {"description": description, "latest": latest, "count": latest}
        if len(names) < len(made[key]):
            few = _part_of(connection, key, names)
        known = {alias: number for alias, number, dag in pointers[key] if dag in names}
        facts = {"name": called, "created_at": created_at, "dags": tuple(names), "aliases": known}
        found.append(ModelSummary(**facts, **few))
    return found


def _named(query: Select[Any], *, one: bool) -> Select[Any]:
    """Narrow a query of models to one name, where only one is wanted."""
    return query.where(models.c.name == bindparam("of_name")) if one else query


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
        aliases.join(versions, aliases.c.version == versions.c.id)
        .join(runs, versions.c.run == runs.c.id)
        .join(models, aliases.c.model == models.c.id)
    )
    return _named(query, one=one).order_by(aliases.c.model, aliases.c.name)


def _part_of(connection: Connection, model: int, dags: Collection[str]) -> dict[str, Any]:
    """Return the summary of the versions that runs of some DAGs made."""
    newest = of_dags(select(versions.c.number).select_from(_MADE).where(versions.c.model == model), dags)
    newest = newest.order_by(versions.c.number.desc()).limit(1)
    described = of_dags(select(versions.c.description).select_from(_MADE).where(versions.c.description != ""), dags)
    described = described.where(versions.c.model == model).order_by(versions.c.number.desc()).limit(1)
    # A run is written together with its version.
    count = of_dags(select(func.count()).select_from(runs).where(runs.c.model == model), dags)
    return {
        "description": connection.execute(described).scalar() or "",
        "latest": connection.execute(newest).scalar_one(),
        "count": connection.execute(count).scalar_one(),
    }
