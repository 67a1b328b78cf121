"""A lineage graph as a tree: each thing below the one that it is next to."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from modelway.lineage.records.answers import GraphNode, LineageGraph


@dataclass(frozen=True, kw_only=True)
class TreeStep:
    """One line of the tree."""

    depth: int
    relation: str
    """Its relation to its parent; empty for a root."""
    node: GraphNode
    is_again: bool
    """Its neighbours are listed where it occurred first."""


def tree(graph: LineageGraph) -> Iterator[TreeStep]:
    """Yield the tree from its roots; a repeated thing is named without its neighbours."""
    nodes = {node.id: node for node in graph.nodes}
    near: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for edge in graph.edges:
        begin, end = (edge.source, edge.target) if graph.direction == "up" else (edge.target, edge.source)
        near[begin].append((edge.relation, end))
    seen: set[str] = set()
    # Iterative: a chain of versions may be longer than Python's stack.
    waiting = [("", root, 0) for root in reversed(graph.roots)]
    while waiting:
        relation, name, depth = waiting.pop()
        is_new = name not in seen
        yield TreeStep(depth=depth, relation=relation, node=nodes[name], is_again=not is_new and bool(near[name]))
        if is_new:
            seen.add(name)
            waiting += [(relation, end, depth + 1) for relation, end in reversed(near[name])]
