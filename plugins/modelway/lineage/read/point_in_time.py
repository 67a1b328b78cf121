"""The state at a point in time: aliases, the newest version, traffic.

A line of history is in force from its own time on, and of the lines in force the one written last applies: lines are in
the order of their ids. Where a clock went backwards, a line written later with an earlier time therefore wins from that
earlier time on, and the line before it is never in force again.
"""

import re
from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Connection, func, select

from modelway.errors import UnknownVersion
from modelway.lineage.read.keys import model_key
from modelway.lineage.read.shares import read_shares
from modelway.lineage.records.answers import ServingRecord
from modelway.lineage.schema.engine import reading
from modelway.lineage.schema.part import LineagePart
from modelway.lineage.schema.tables import alias_history, deployments, models, runs, versions, weight_history

Dags = Collection[str] | None


class PointInTime(LineagePart):
    """Reads the lineage as it is now, or was at a time; with ``dags``, only what runs of those DAGs made."""

    def find_at(self, model: str, wanted: str, at: datetime, *, dags: Dags = None) -> int:
        """Return the version that an alias pointed at, or that was the latest, at a time; a number is itself.

        :raises UnknownModel: nothing was ever registered for the model
        :raises UnknownVersion: the alias pointed nowhere then, or there was no version yet
        """
        with reading(self._engine) as connection:
            key = model_key(connection, model)
            latest = _latest_at(connection, key, at, dags=dags)
            pointers = _aliases_at(connection, key, at, dags=dags)
            known = pointers if latest is None else pointers | {"latest": latest}
            if re.fullmatch(r"v?\d{1,9}", wanted):
                number = int(wanted.lstrip("v"))
                if _was_registered(connection, key, number, at, dags=dags):
                    return number
            if wanted not in known:
                what = f"model '{model}' had no '{wanted}' at {at.isoformat()}"
                raise UnknownVersion(what, known=known, given=wanted, do="Name an alias of that time, or latest")
            return known[wanted]

    def aliases_at(self, model: str, at: datetime, *, dags: Dags = None) -> dict[str, int]:
        """Return the version that each alias of a model pointed at.

        :raises UnknownModel: nothing was ever registered for it
        """
        with reading(self._engine) as connection:
            return _aliases_at(connection, model_key(connection, model), at, dags=dags)

    def serving(
        self,
        *,
        model: str | None = None,
        endpoint: str | None = None,
        among: Collection[str] | None = None,
        at: datetime | None = None,
        dags: Dags = None,
        after: str = "",
        most: int | None = None,
    ) -> list[ServingRecord]:
        """Return the weights that are not zero, by endpoint, greatest first: now, or at a time.

        :param endpoint: if set, only of this one
        :param among: if set, only of these models
        :param after: only of endpoints whose names come after this one
        :param most: of so many endpoints at most, by name
        :raises UnknownModel: nothing was ever registered for the model
        """
        with reading(self._engine) as connection:
            if model is not None:
                model_key(connection, model)
            if at is None:
                found = _weighted_now(connection, endpoint=endpoint, among=among if model is None else [model])
            else:
                found = [pair for name in _endpoints(connection) for pair in _weighted(connection, name, at)]
            records = read_shares(connection, found, at=at, dags=dags, after=after, most=most)
        shown = [each for each in records if model in (None, each.model)]
        return sorted(shown, key=lambda each: (each.endpoint, -each.weight, each.model, -each.version))


def _weighted_now(
    connection: Connection, *, endpoint: str | None, among: Collection[str] | None
) -> list[tuple[str, int]]:
    """Return the endpoint and the key of each version that has traffic now."""
    pairs = select(deployments.c.endpoint, deployments.c.version).where(deployments.c.weight > 0)
    if endpoint is not None:
        pairs = pairs.where(deployments.c.endpoint == endpoint)
    if among is not None:
        pairs = pairs.join(versions, deployments.c.version == versions.c.id)
        pairs = pairs.join(models, versions.c.model == models.c.id).where(models.c.name.in_(among))
    return [(name, version) for name, version in connection.execute(pairs)]


def _aliases_at(connection: Connection, model: int, at: datetime, *, dags: Dags = None) -> dict[str, int]:
    """Return the version that each alias of a model pointed at."""
    last = select(func.max(alias_history.c.id)).where(alias_history.c.model == model, alias_history.c.at <= at)
    query = select(alias_history.c.name, versions.c.number, runs.c.dag_id)
    query = query.join(versions, alias_history.c.version == versions.c.id).join(runs, versions.c.run == runs.c.id)
    query = query.where(alias_history.c.id.in_(last.group_by(alias_history.c.name))).order_by(alias_history.c.name)
    return {alias: number for alias, number, dag in connection.execute(query) if dags is None or dag in dags}


def _latest_at(connection: Connection, model: int, at: datetime, *, dags: Dags = None) -> int | None:
    """Return the highest number of a version that existed, None before the first."""
    query = select(versions.c.number).where(versions.c.model == model, versions.c.created_at <= at)
    if dags is not None:
        query = query.join(runs, versions.c.run == runs.c.id).where(runs.c.dag_id.in_(dags))
    number: int | None = connection.execute(query.order_by(versions.c.number.desc()).limit(1)).scalar()
    return number


def _was_registered(connection: Connection, model: int, number: int, at: datetime, *, dags: Dags = None) -> bool:
    """Return whether a version was registered by then."""
    query = select(runs.c.dag_id).join_from(versions, runs, versions.c.run == runs.c.id)
    query = query.where(versions.c.model == model, versions.c.number == number, versions.c.created_at <= at)
    dag = connection.execute(query).scalar()
    return dag is not None and (dags is None or dag in dags)


def _endpoints(connection: Connection) -> list[str]:
    """Return every endpoint that existed: the index leads from one to the next without reading the lines between."""
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
