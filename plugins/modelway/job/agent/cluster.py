"""Which machine of several this one is, by the variable ``CLUSTER_SPEC`` that Vertex AI sets in each container.

``{"cluster": {"workerpool0": ["host:port"], "workerpool1": ["host:port", …]}, "task": {"type": "workerpool1", "index":
0}, …}``: the first machine of the first pool is node 0. Its ``job`` has the whole request, so the text is never logged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

VARIABLE = "CLUSTER_SPEC"


@dataclass(frozen=True)
class Place:
    """The place of a machine among several."""

    node: int
    nodes: int
    rendezvous: str
    """``host:port`` of node 0"""


def place_of(environment: Mapping[str, str]) -> Place:
    """Return the place of this machine.

    :raises ValueError: the variable is missing, or not of that form
    """
    text = environment.get(VARIABLE)
    if not text:
        raise ValueError(f"{VARIABLE} is not set")
    try:
        known = json.loads(text)
        pools = sorted(known["cluster"].items())
        places = [(pool, index) for pool, hosts in pools for index in range(len(hosts))]
        node = places.index((known["task"]["type"], int(known["task"]["index"])))
        return Place(node=node, nodes=len(places), rendezvous=str(pools[0][1][0]))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ValueError(f"{VARIABLE} does not say which machine this is ({type(error).__name__}: {error})") from None
