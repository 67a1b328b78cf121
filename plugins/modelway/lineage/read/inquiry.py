"""Questions to the lineage beyond single records: points in time, what serves, who has a file, what came of what."""

import re
from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Connection, Engine, select

from modelway.errors import UnknownModel, UnknownVersion
from modelway.lineage.graph import traversal as graph
from modelway.lineage.graph.roots import check_digest, find_things
from modelway.lineage.read import point_in_time as times
from modelway.lineage.read.holders import read_holders
from modelway.lineage.records.answers import FileHolder, LineageGraph, ServingRecord
from modelway.lineage.schema.connect import engine_to_read
from modelway.lineage.schema.engine import reading
from modelway.lineage.schema.tables import models

Dags = Collection[str] | None


def open_inquiry(url: str) -> "Inquiry | None":
    """Open the lineage database for questions; None, and nothing is made, when it was never written.

    :raises NotWritable: it has an older schema and cannot be migrated
    :raises ModelwayError: it is no lineage database, or one that a newer modelway wrote
    """
    engine = engine_to_read(url)
    return None if engine is None else Inquiry(engine)


class Inquiry:
    """Answers; made by ``open_inquiry``. Given ``dags``, only what runs of those DAGs made is there."""

    def __init__(self, engine: Engine) -> None:
        """Use an engine whose schema is current."""
        self._engine = engine

    def find_at(self, model: str, wanted: str, at: datetime, *, dags: Dags = None) -> int:
        """Return the version that an alias pointed at, or that was the latest, at a time; a number is itself.

        :raises UnknownModel: nothing was ever registered for the model
        :raises UnknownVersion: the alias pointed nowhere then, or there was no version yet
        """
        with reading(self._engine) as connection:
            key = _model_key(connection, model)
            latest = times.latest_at(connection, key, at, dags=dags)
            pointers = times.aliases_at(connection, key, at, dags=dags)
            known = pointers if latest is None else pointers | {"latest": latest}
            if re.fullmatch(r"v?\d{1,9}", wanted) and times.was_there(
                connection, key, int(wanted.lstrip("v")), at, dags=dags
            ):
                return int(wanted.lstrip("v"))
            if wanted not in known:
                what = f"model '{model}' had no '{wanted}' at {at.isoformat()}"
                raise UnknownVersion(what, known=known, given=wanted, do="Name an alias of that time, or latest")
            return known[wanted]

    def aliases_at(self, model: str, at: datetime, *, dags: Dags = None) -> dict[str, int]:
        """Return the version that each alias of a model pointed at.

        :raises UnknownModel: nothing was ever registered for it
        """
        with reading(self._engine) as connection:
            return times.aliases_at(connection, _model_key(connection, model), at, dags=dags)

    def serving(
        self, *, model: str | None = None, at: datetime | None = None, dags: Dags = None
    ) -> list[ServingRecord]:
        """Return which versions serve where, since when and by whom: now, or at a time.

        :raises UnknownModel: nothing was ever registered for the model
        """
        with reading(self._engine) as connection:
            if model is not None:
                _model_key(connection, model)
            return times.serving(connection, model=model, at=at, dags=dags)

    def who_has(self, digest: str, *, dags: Dags = None) -> list[FileHolder]:
        """Return the versions, runs, data sets, images and assets that have a content, ``sha256:<hex>``.

        :raises ModelwayError: it is no digest
        """
        with reading(self._engine) as connection:
            return read_holders(connection, check_digest(digest), dags=dags)

    def upstream(
        self, wanted: str, *, steps: int = graph.MOST_STEPS, most: int = graph.MOST_NODES, dags: Dags = None
    ) -> LineageGraph:
        """Return everything that something came out of.

        :param wanted: see ``modelway.lineage.graph.roots.find_things``
        :param steps: how far to go
        :param most: how many nodes to return
        :raises UnknownVersion: nothing is called so
        """
        return self._walk(wanted, direction="up", steps=steps, most=most, dags=dags)

    def downstream(
        self, wanted: str, *, steps: int = graph.MOST_STEPS, most: int = graph.MOST_NODES, dags: Dags = None
    ) -> LineageGraph:
        """Return everything that came out of something; see ``upstream``."""
        return self._walk(wanted, direction="down", steps=steps, most=most, dags=dags)

    def _walk(self, wanted: str, *, direction: str, steps: int, most: int, dags: Dags) -> LineageGraph:
        with reading(self._engine) as connection:
            roots = find_things(connection, wanted)
            return graph.walk(connection, roots, direction=direction, steps=steps, most=most, dags=dags)


def _model_key(connection: Connection, name: str) -> int:
    key: int | None = connection.execute(select(models.c.id).where(models.c.name == name)).scalar()
    if key is None:
        known = connection.execute(select(models.c.name).order_by(models.c.name)).scalars().all()
        do = "A model appears here when its DAG has registered a version"
        raise UnknownModel(f"the lineage has no model '{name}'", known=known, given=name, do=do)
    return key
