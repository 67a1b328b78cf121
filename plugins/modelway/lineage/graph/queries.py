"""Queries over the lineage as a graph: what something came out of, what came out of it, who has a content."""

from collections.abc import Collection

from modelway.lineage.graph import traversal
from modelway.lineage.graph.roots import check_digest, find_things
from modelway.lineage.read.holders import read_holders
from modelway.lineage.records.answers import FileHolder, LineageGraph
from modelway.lineage.schema.engine import reading
from modelway.lineage.schema.part import LineagePart

Dags = Collection[str] | None


class GraphQueries(LineagePart):
    """Queries over the whole lineage; with ``dags``, only over what runs of those DAGs made."""

    def find_by_digest(self, digest: str, *, dags: Dags = None) -> list[FileHolder]:
        """Return the versions, runs, data sets, images and assets that have a content, ``sha256:<hex>``.

        :raises ModelwayError: it is not a digest
        """
        with reading(self._engine) as connection:
            return read_holders(connection, check_digest(digest), dags=dags)

    def upstream(
        self, wanted: str, *, steps: int = traversal.MOST_STEPS, most: int = traversal.MOST_NODES, dags: Dags = None
    ) -> LineageGraph:
        """Return everything that something came out of.

        :param wanted: see ``modelway.lineage.graph.roots.find_things``
        :param steps: how far to go
        :param most: how many nodes to return
        :raises UnknownVersion: nothing has this name
        """
        return self._walk(wanted, direction="up", steps=steps, most=most, dags=dags)

    def downstream(
        self, wanted: str, *, steps: int = traversal.MOST_STEPS, most: int = traversal.MOST_NODES, dags: Dags = None
    ) -> LineageGraph:
        """Return everything that came out of something; see ``upstream``."""
        return self._walk(wanted, direction="down", steps=steps, most=most, dags=dags)

    def neighbours(
        self, wanted: str, *, direction: str, skip: int = 0, most: int = 50, dags: Dags = None
    ) -> LineageGraph:
        """Return what something came out of at one step (``up``), or what came out of it (``down``), by parts.

        :param wanted: see ``modelway.lineage.graph.roots.find_things``
        :param skip: how many neighbours were returned before
        :param most: how many to return, the newest first
        :raises UnknownVersion: nothing has this name
        """
        with reading(self._engine) as connection:
            roots = find_things(connection, wanted)
            return traversal.neighbours(connection, roots, direction=direction, skip=skip, most=most, dags=dags)

    def _walk(self, wanted: str, *, direction: str, steps: int, most: int, dags: Dags) -> LineageGraph:
        with reading(self._engine) as connection:
            roots = find_things(connection, wanted)
            return traversal.walk(connection, roots, direction=direction, steps=steps, most=most, dags=dags)
