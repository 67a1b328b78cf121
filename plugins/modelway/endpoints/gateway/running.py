"""A gateway that runs: its servers and shares are changed over its runtime interface, wherever it runs."""

import time
from collections.abc import Iterable, Mapping, Sequence

from modelway.endpoints.gateway.commands import Command, Stats, address_commands, plan_commands, read_map
from modelway.endpoints.gateway.drift import find_drift, find_share_drift
from modelway.endpoints.gateway.haproxy import FOLLOWERS, addresses, plan
from modelway.endpoints.gateway.routes import MAX_REPLICAS, Route, Routes
from modelway.endpoints.gateway.runtime_socket import Runtime
from modelway.errors import EndpointNotReady


class RunningGateway:
    """The gateway of one endpoint, once it runs."""

    #: seconds until a server's health check has run
    patience = 10.0
    #: seconds between two looks at what is awaited
    interval = 0.02

    def __init__(self, name: str) -> None:
        """Be the gateway of the endpoint ``name``."""
        self.name = name

    @property
    def runtime(self) -> Runtime:
        """The runtime interface."""
        raise NotImplementedError

    @property
    def answers(self) -> bool:
        """Whether HAProxy answers on its runtime interface."""
        try:
            return "Version:" in self.runtime.send("show info")
        except EndpointNotReady:
            return False

    def change(self, commands: Sequence[Command], routes: Routes) -> None:
        """Send the commands that bring the gateway to ``routes``; a gateway that restarts by itself stores them too."""
        self.runtime.run(commands)

    def push(self, routes: Routes) -> None:
        """Bring the gateway to ``routes``: servers first, then, when their checks have passed, all shares at once.

        :raises EndpointNotReady: when a server that is to get requests does not pass its check
        """
        stats = self.runtime.stats()
        if commands := address_commands(stats, addresses(routes)):
            self.change(commands, routes)
            stats = self.runtime.stats()
        if _late(stats, routes):
            self.wait_up(routes)
        self.change(plan_commands(plan(routes)), routes)

    def set_addresses(self, routes: Routes) -> None:
        """Bring the servers alone to ``routes``, and leave their shares."""
        if commands := address_commands(self.runtime.stats(), addresses(routes)):
            self.change(commands, routes)

    def drift(self, routes: Routes) -> tuple[str, ...]:
        """Return a phrase for each difference between the gateway and ``routes`` that was made by hand.

        :raises EndpointNotReady: when the gateway does not answer
        """
        return find_drift(self.runtime.stats(), read_map(self.runtime.send("show map plan.map")), routes)

    def share_drift(self, routes: Routes) -> tuple[str, ...]:
        """Return a phrase for each difference between the gateway's shares and those of ``routes``.

        :raises EndpointNotReady: when the gateway does not answer
        """
        return tuple(find_share_drift(read_map(self.runtime.send("show map plan.map")), routes))

    def slot_counters(self, slot: int) -> dict[str, int]:
        """Return the counts of one slot since the gateway started."""
        return counters(self.runtime.stats(), slot)

    def wait_empty(self, slot: int, replica: int, *, patience: float) -> None:
        """Wait until a server that gets no more requests has answered those it has, ``patience`` seconds at most."""
        end = time.monotonic() + patience
        while time.monotonic() < end and not self.is_empty(slot, replica):
            time.sleep(self.interval)

    def is_empty(self, slot: int, replica: int) -> bool:
        """Return whether a server has answered all requests that it was given."""
        stats = self.runtime.stats()
        rows = _known(stats, slot, f"main{replica}")
        return not any(int(row["scur"]) for row in rows)

    def wait_up(self, routes: Routes) -> None:
        """Wait until the servers that are to get requests have passed their checks.

        :raises EndpointNotReady: when one does not
        """
        end = time.monotonic() + self.patience
        while late := _late(self.runtime.stats(), routes):
            if time.monotonic() > end:
                raise EndpointNotReady(
                    f"the gateway finds {late[0].name} not ready",
                    where=f"endpoint {self.name}",
                    do="Apply the endpoint again",
                )
            time.sleep(self.interval)


def _late(stats: Stats, routes: Routes) -> list[Route]:
    """Return the routes that are to get requests and whose servers have not passed their checks."""
    return [route for route in routes.wanted if route.weight and not _is_up(stats, route)]


def _is_up(stats: Stats, route: Route) -> bool:
    """Return whether a server of a route has passed its check; others get requests when theirs have passed."""
    return any(stats[f"slot{route.slot}", name]["status"].startswith("UP") for name in _used(route))


def _used(route: Route) -> list[str]:
    return [f"main{replica}" for replica, address in enumerate(route.addresses) if address is not None]


def awaited(routes: Routes) -> list[list[str]]:
    """Return the servers of each route that is to get requests, one of which must have passed its check."""
    return [[f"slot{route.slot}/{name}" for name in _used(route)] for route in routes.wanted if route.weight]


def counters(stats: Stats, slot: int) -> dict[str, int]:
    """Return the counts of one predictor from the rows of ``show stat`` of its backends.

    A backend's row counts requests and what the client got in the end; columns of a server that count its attempts,
    such as ``eresp``, say nothing about requests. Errors of gRPC are answers with status 200 to it.
    """
    whole = _known(stats, slot, "BACKEND")
    elsewhere = [stats[f"slot{slot}", f"stable{replica}"] for replica in range(MAX_REPLICAS)]
    answers = [f"hrsp_{kind}" for kind in ("1xx", "2xx", "3xx", "4xx", "5xx", "other")]
    failed = {name: _sum(whole, name) - _sum(elsewhere, name) for name in ("hrsp_4xx", "hrsp_5xx", "srv_abrt")}
    return {
        "requests": _sum(whole, "stot"),
        "client_errors": failed["hrsp_4xx"],
        "server_errors": failed["hrsp_5xx"],
        "broken_answers": failed["srv_abrt"],
        "rerouted": _sum(elsewhere, *answers),
        "named": _sum([stats[f"pinned{slot}", "BACKEND"]], "stot"),
    }


def _known(stats: Stats, slot: int, name: str) -> list[Mapping[str, str]]:
    """Return the rows of a slot's backends; a gateway of an earlier form, which an upgrade leaves, lacks some."""
    found = (stats.get((f"{kind}{slot}", name)) for kind in ("slot", *FOLLOWERS))
    return [row for row in found if row is not None]


def counted_since(counts: Mapping[str, int], baseline: Mapping[str, int]) -> dict[str, int]:
    """Return the counts of one predictor without those from before it moved in."""
    return {key: max(0, value - baseline.get(key, 0)) for key, value in counts.items()}


def _sum(rows: Iterable[Mapping[str, str]], *columns: str) -> int:
    return sum(int(row[column] or 0) for row in rows for column in columns)
