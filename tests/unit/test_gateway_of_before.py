"""A gateway of an earlier form that outlives an upgrade: it has no backends for gRPC."""

from collections import defaultdict
from collections.abc import Mapping

from modelway.endpoints.gateway.commands import Stats, address_commands
from modelway.endpoints.gateway.drift import find_drift
from modelway.endpoints.gateway.haproxy import addresses, plan
from modelway.endpoints.gateway.routes import Route, Routes
from modelway.endpoints.gateway.running import counters

ROUTES = Routes(
    all=(Route(name="v1", version=1, slot=0, addresses=("127.0.0.1:81",), weight=100, wanted=True),), stable_name="v1"
)


def rows() -> Stats:
    """Return the statistics of such a gateway, as it was set by its own modelway."""
    found: dict[tuple[str, str], Mapping[str, str]] = {}
    for (backend, server), address in addresses(ROUTES).items():
        if not backend.startswith("grpc"):
            status = "UP" if address else "MAINT"
            row = {"status": status, "weight": "1", "addr": address or "127.0.0.1:9", "scur": "0"}
            found[backend, server] = found[backend, "BACKEND"] = defaultdict(lambda: "1", row)
    return found


def test_it_is_read_and_changed() -> None:
    assert find_drift(rows(), plan(ROUTES), ROUTES) == ()
    assert address_commands(rows(), addresses(ROUTES)) == []
    # of the backends slot0 and pinned0
    assert counters(rows(), 0)["requests"] == 2
