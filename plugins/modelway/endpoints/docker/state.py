"""The state of an endpoint on an engine: a document beside the gateway's configuration, in the same volume.

Every change writes it together with the configuration, unless somebody else changed it meanwhile.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from modelway.endpoints.base import Sticky
from modelway.endpoints.gateway.container import PORT
from modelway.endpoints.gateway.places import PlacedServer, Places
from modelway.errors import DigestMismatch

FILE = "state.json"


@dataclass(eq=False, kw_only=True)
class ServerState(PlacedServer):
    """One server's container, or one that should be there."""

    #: digest of what its container is made of, wherever it is: another one is another server
    made_of: str = ""
    #: address in the endpoint's network
    ip: str = ""
    #: whether it has answered that it is ready since it was created
    started: bool = False
    #: what its container was limited to
    limits: dict[str, Any] = field(default_factory=dict)
    #: the gateway's counters of the slot when the predictor moved in
    baseline: dict[str, int] = field(default_factory=dict)
    since: float = 0.0
    #: when the gateway that counted ``baseline`` had started, by its own clock
    epoch: int = 0

    @property
    def address(self) -> str | None:
        """``host:port`` by which the gateway reaches it; None before it was ready once."""
        return f"{self.ip}:{PORT}" if self.started else None

    def is_alike(self, other: PlacedServer) -> bool:
        """Return whether two servers are interchangeable."""
        return super().is_alike(other) and isinstance(other, ServerState) and self.made_of == other.made_of

    def beside(self, *, slot: int, replica: int) -> "ServerState":
        """Return a new server like this one in that place."""
        return replace(self, slot=slot, replica=replica, baseline={}, limits={})


@dataclass(eq=False, kw_only=True)
class State(Places[ServerState]):
    """One endpoint."""

    name: str
    #: name of the model in the URLs
    model: str = ""
    stable: str | None = None
    sticky: Sticky = field(default_factory=Sticky)
    #: the section of its spec, as it was written
    platform: Mapping[str, Any] = field(default_factory=dict)
    #: where the gateway is published
    host: str = ""
    port: int | None = None
    #: whether somebody stopped the endpoint
    stopped: bool = False
    servers: list[ServerState] = field(default_factory=list)

    def text(self) -> str:
        """Return the document."""
        return json.dumps(asdict(self), indent=1)


def digest(text: str | None) -> str:
    """Return the digest by which a change finds that a document is not the one that it read."""
    return "" if text is None else hashlib.sha256(text.encode()).hexdigest()


def read_state(text: str, *, where: str) -> State:
    """Return the state of a document.

    :raises DigestMismatch: when it is not what :meth:`State.text` wrote
    """
    try:
        document = json.loads(text)
        servers = [ServerState(**server) for server in document.pop("servers")]
        return State(**document | {"sticky": Sticky(**document["sticky"])}, servers=servers)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DigestMismatch(
            "is not the state of an endpoint", where=where, do="Delete the endpoint and apply it again"
        ) from error
