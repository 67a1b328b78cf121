"""Everything upstream or downstream of something, over all that the lineage knows.

Each function works inside the caller's transaction. ``_UP`` and ``_DOWN`` say what is next to a thing of each kind;
each is an index lookup.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, select

from modelway.lineage.graph.nodes import Thing, dataset_key, describe, same_dataset
from modelway.lineage.records.answers import GraphEdge, GraphNode, LineageGraph
from modelway.lineage.schema.asset_tables import asset_files, asset_references, asset_versions
from modelway.lineage.schema.tables import (
    datasets,
    deployments,
    images,
    runs,
    stages,
    version_files,
    versions,
)

MOST_NODES = 500
MOST_STEPS = 20


class _Next(NamedTuple):
    """A neighbour: how it is related, what it is, and a query of its keys, which orders them."""

    relation: str
    kind: str
    query: Select[Any]


def walk(
    connection: Connection,
    roots: Sequence[Thing],
    *,
    direction: str,
    steps: int = MOST_STEPS,
    most: int = MOST_NODES,
    dags: Collection[str] | None = None,
) -> LineageGraph:
    """Return what is upstream (``up``) or downstream (``down``) of the roots, each thing once, nearest first.

    :param steps: how far from the roots
    :param most: how many nodes; of many neighbours the newest come first
    :param dags: if set, what runs of other DAGs made is left out, with what can only be reached through it
    """
    nodes: dict[Thing, GraphNode] = {}
    edges: dict[GraphEdge, None] = {}
    waiting: deque[tuple[Thing, int]] = deque()
    for root in roots:
        if root not in nodes and (node := describe(connection, root, dags=dags)):
            nodes[root] = node
            waiting.append((root, 0))
    root_ids, is_whole = tuple(node.id for node in nodes.values()), True
    while waiting:
        thing, far = waiting.popleft()
        for relation, other in _neighbours(connection, thing, direction, most=most + 1):
            if other not in nodes:
                if (node := describe(connection, other, dags=dags)) is None:
                    continue
                if far >= steps or len(nodes) >= most:
                    is_whole = False
                    continue
                nodes[other] = node
                waiting.append((other, far + 1))
            edges[_edge(nodes[thing], nodes[other], relation, direction)] = None
    return LineageGraph(
        direction=direction, roots=root_ids, nodes=tuple(nodes.values()), edges=tuple(edges), is_whole=is_whole
    )


def neighbours(
    connection: Connection,
    roots: Sequence[Thing],
    *,
    direction: str,
    skip: int = 0,
    most: int = 50,
    dags: Collection[str] | None = None,
) -> LineageGraph:
    """Return what is next to the roots in one direction, without the first ones; ``is_whole`` says whether it is all.

    :param skip: how many neighbours of each root were returned before
    :param most: how many neighbours of each root to return, the newest first; those that ``dags`` leave out count
    """
    edges: dict[GraphEdge, None] = {}
    is_whole = True
    described = [(root, node) for root in roots if (node := describe(connection, root, dags=dags))]
    nodes = dict(described)
    for root, node in described:
        near = list(_neighbours(connection, root, direction, most=skip + most + 1))
        is_whole &= len(near) <= skip + most
        for relation, other in near[skip : skip + most]:
            if other not in nodes:
                if (found := describe(connection, other, dags=dags)) is None:
                    continue
                nodes[other] = found
            edges[_edge(node, nodes[other], relation, direction)] = None
    root_ids = tuple(node.id for _, node in described)
    return LineageGraph(
        direction=direction, roots=root_ids, nodes=tuple(nodes.values()), edges=tuple(edges), is_whole=is_whole
    )


def _edge(node: GraphNode, other: GraphNode, relation: str, direction: str) -> GraphEdge:
    """Return how a node is related to what was found from it in a direction."""
    source, target = (node, other) if direction == "up" else (other, node)
    return GraphEdge(source=source.id, target=target.id, relation=relation)


def _neighbours(connection: Connection, thing: Thing, direction: str, *, most: int) -> Iterator[tuple[str, Thing]]:
    for each in (_UP if direction == "up" else _DOWN).get(thing.kind, _nothing)(thing.key):
        rows = connection.execute(each.query.limit(most)).all()
        keys = dict.fromkeys(dataset_key(*row) if each.kind == "dataset" else row[0] for row in rows)
        yield from ((each.relation, Thing(each.kind, key)) for key in keys if key is not None)


def _nothing(_key: Any) -> list[_Next]:
    return []


def _above_version(key: int) -> list[_Next]:
    of_it = versions.c.id == key
    return [
        _Next("made by", "run", select(versions.c.run).where(of_it)),
        _Next("began from", "version", select(versions.c.base).where(of_it)),
    ]


def _above_run(key: int) -> list[_Next]:
    of_it = runs.c.id == key
    read = select(datasets.c.digest, datasets.c.uri).where(datasets.c.run == key).order_by(datasets.c.id)
    ran_in = select(stages.c.environment).where(stages.c.run == key).order_by(stages.c.position)
    return [
        _Next("ran", "code", select(runs.c.code_digest).where(of_it)),
        _Next("from commit", "commit", select(runs.c.commit_id).where(of_it)),
        _Next("read", "dataset", read),
        _Next("ran in", "environment", ran_in),
    ]


def _above_dataset(key: tuple[str | None, str]) -> list[_Next]:
    if key[0] is None:
        return []
    holders = select(asset_files.c.asset_version).where(asset_files.c.digest == key[0])
    return [_Next("kept in", "asset", holders.order_by(asset_files.c.asset_version.desc()))]


def _above_asset(key: int) -> list[_Next]:
    targets = select(asset_references.c.target).where(asset_references.c.asset_version == key)
    return [
        _Next("written for", "version", select(asset_versions.c.version).where(asset_versions.c.id == key)),
        _Next("refers to", "asset", targets.order_by(asset_references.c.name)),
    ]


def _above_image(key: str) -> list[_Next]:
    query = select(images.c.version).where(images.c.digest == key).order_by(images.c.id.desc())
    return [_Next("made of", "version", query)]


def _above_endpoint(key: str) -> list[_Next]:
    query = select(deployments.c.version).where(deployments.c.endpoint == key, deployments.c.weight > 0)
    return [_Next("serves", "version", query.order_by(deployments.c.version.desc()))]


def _holding(key: str, relation: str) -> list[_Next]:
    parts = select(version_files.c.version).where(version_files.c.digest == key)
    holders = select(asset_files.c.asset_version).where(asset_files.c.digest == key)
    found = [
        _Next(relation, "version", parts.order_by(version_files.c.version.desc())),
        _Next(relation, "asset", holders.order_by(asset_files.c.asset_version.desc())),
    ]
    for column in (versions.c.archive_digest, versions.c.model_digest, versions.c.checkpoint_digest):
        found.append(_Next(relation, "version", select(versions.c.id).where(column == key).order_by(versions.c.id)))
    return found


def _below_version(key: int) -> list[_Next]:
    derived = select(versions.c.id).where(versions.c.base == key).order_by(versions.c.id.desc())
    made = select(images.c.digest).where(images.c.version == key).order_by(images.c.id.desc())
    serving = select(deployments.c.endpoint).where(deployments.c.version == key, deployments.c.weight > 0)
    written = select(asset_versions.c.id).where(asset_versions.c.version == key).order_by(asset_versions.c.id)
    return [
        _Next("made of", "image", made),
        _Next("serves", "endpoint", serving.order_by(deployments.c.endpoint)),
        _Next("written for", "asset", written),
        _Next("began from", "version", derived),
    ]


def _below_run(key: int) -> list[_Next]:
    return [_Next("made by", "version", select(versions.c.id).where(versions.c.run == key))]


def _runs_of(column: Any, key: str, relation: str) -> list[_Next]:
    return [_Next(relation, "run", select(runs.c.id).where(column == key).order_by(runs.c.id.desc()))]


def _below_dataset(key: tuple[str | None, str]) -> list[_Next]:
    query = select(datasets.c.run).where(same_dataset(*key)).order_by(datasets.c.id.desc())
    return [_Next("read", "run", query)]


def _below_environment(key: int) -> list[_Next]:
    return [_Next("ran in", "run", select(stages.c.run).where(stages.c.environment == key).order_by(stages.c.run))]


def _below_asset(key: int) -> list[_Next]:
    referring = select(asset_references.c.asset_version).where(asset_references.c.target == key)
    contents = select(asset_files.c.digest).where(asset_files.c.asset_version == key)
    read = select(datasets.c.digest, datasets.c.uri).where(datasets.c.digest.in_(contents)).order_by(datasets.c.id)
    return [
        _Next("refers to", "asset", referring.order_by(asset_references.c.asset_version.desc())),
        _Next("kept in", "dataset", read),
    ]


def _below_image(key: str) -> list[_Next]:
    query = select(deployments.c.endpoint).join(images, images.c.version == deployments.c.version)
    query = query.where(images.c.digest == key, deployments.c.weight > 0).order_by(deployments.c.endpoint)
    return [_Next("serves", "endpoint", query)]


_Neighbours = Callable[[Any], list[_Next]]
_UP: dict[str, _Neighbours] = {
    "version": _above_version,
    "run": _above_run,
    "dataset": _above_dataset,
    "asset": _above_asset,
    "image": _above_image,
    "endpoint": _above_endpoint,
    "file": lambda key: _holding(key, "part of"),
}
_DOWN: dict[str, _Neighbours] = {
    "version": _below_version,
    "run": _below_run,
    "code": lambda key: _runs_of(runs.c.code_digest, key, "ran"),
    "commit": lambda key: _runs_of(runs.c.commit_id, key, "from commit"),
    "dataset": _below_dataset,
    "environment": _below_environment,
    "asset": _below_asset,
    "image": _below_image,
    "file": lambda key: _holding(key, "has"),
}
