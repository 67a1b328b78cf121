"""The lineage: one database with every model, version, run, image, alias, weight, asset and event.

Every write is one transaction and can be repeated: what exists already is not written again.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Literal, overload

from sqlalchemy import Engine

from modelway.lineage.export.exports import Exports
from modelway.lineage.export.outbox import with_exporters
from modelway.lineage.graph.queries import GraphQueries
from modelway.lineage.read.earlier_runs import EarlierRuns
from modelway.lineage.read.failures import RunAccounts
from modelway.lineage.read.point_in_time import PointInTime
from modelway.lineage.read.versions import VersionReader
from modelway.lineage.schema.connect import database_exists, engine_to_read, engine_to_write
from modelway.lineage.schema.engine import reading_once
from modelway.lineage.write.assets import Assets
from modelway.lineage.write.endpoints import EndpointRecords
from modelway.lineage.write.failures import FailureWriter
from modelway.lineage.write.monitoring import Monitoring
from modelway.lineage.write.retention import Retention
from modelway.lineage.write.rollouts import RolloutRecords
from modelway.lineage.write.versions import VersionWriter

__all__ = ["Assets", "Lineage", "open_lineage"]


@overload
def open_lineage(url: str, *, exporters: Iterable[str] = (), read_only: Literal[False] = False) -> "Lineage": ...


@overload
def open_lineage(url: str, *, read_only: Literal[True]) -> "Lineage | None": ...


def open_lineage(url: str, *, exporters: Iterable[str] = (), read_only: bool = False) -> "Lineage | None":
    """Open the lineage database at an SQLAlchemy URL, creating or migrating it if needed.

    Tasks and commands open it through ``modelway.hooks.lineage``, which knows the configured exporters.

    :param exporters: names of the exporters that receive what is written, see ``modelway.lineage.export.outbox``
    :param read_only: needs no write access; returns None, and creates nothing, where nothing was ever written
    :raises NotWritable: the file or its folder cannot be written; with ``read_only``, it would have to be migrated
    :raises ModelwayError: it is not a lineage database, or another modelway wrote it
    """
    if read_only:
        engine = engine_to_read(url)
        return None if engine is None else Lineage(engine)
    return Lineage(with_exporters(engine_to_write(url), exporters))


class Lineage(
    VersionReader,
    EarlierRuns,
    PointInTime,
    RunAccounts,
    VersionWriter,
    EndpointRecords,
    RolloutRecords,
    FailureWriter,
):
    """The records of models, runs and endpoints; ``assets``, ``graph``, ``exports``, ``monitoring`` and
    ``retention`` are more parts.

    Made by ``open_lineage``; all parts work on one engine. Safe to share between threads.
    """

    def exists(self) -> bool:
        """Return whether the database still exists: somebody may have removed or replaced the file."""
        return database_exists(self._engine.url)

    def reading_once(self) -> AbstractContextManager[None]:
        """Let all reads of a block, in this thread, share one connection; nothing may be written within it."""
        return reading_once(self._engine)

    @property
    def engine(self) -> Engine:
        """The connections, for callers that run their own SQL."""
        return self._engine

    @cached_property
    def assets(self) -> Assets:
        """Assets: files under a name, in versions, with references and aliases."""
        return Assets(self._engine)

    @cached_property
    def graph(self) -> GraphQueries:
        """What something came out of, what came out of it, who has a content."""
        return GraphQueries(self._engine)

    @cached_property
    def exports(self) -> Exports:
        """What other systems receive of the lineage."""
        return Exports(self._engine)

    @cached_property
    def monitoring(self) -> Monitoring:
        """What the monitor counted, remembers and requested, and the labels of predictions."""
        return Monitoring(self._engine)

    @cached_property
    def retention(self) -> Retention:
        """Which stored files are still needed, for garbage collection."""
        return Retention(self._engine)
