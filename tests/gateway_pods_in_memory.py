"""Pods of an endpoint's gateway in memory: each has the map that it was pushed, and the counts that a test gives it."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from modelway.endpoints.gateway.drift import find_share_drift
from modelway.endpoints.gateway.haproxy import plan
from modelway.endpoints.gateway.routes import Routes
from modelway.endpoints.kubernetes.gateway_pods import GatewayPod, GatewayPods

NOTHING = ("requests", "client_errors", "server_errors", "broken_answers", "rerouted", "named")


class PodInMemory(GatewayPod):
    """A pod that is ready since a moment."""

    def __init__(self, name: str, *, since: str = "2026-11-29T10:00:00Z") -> None:
        pod: dict[str, Any] = {"metadata": {"name": name, "uid": name}, "status": {}}
        super().__init__("digits", None, pod)  # type: ignore[arg-type]
        self._plain = pod
        self.set_ready_since(since)
        self.map: Mapping[str, str] = {}
        self.counts: Counter[str] = Counter(dict.fromkeys(NOTHING, 0))
        #: called before each action; may raise
        self.before: Callable[[], None] = lambda: None

    def set_ready_since(self, moment: str) -> None:
        condition = {"type": "Ready", "status": "True", "lastTransitionTime": moment}
        self._plain["status"] = {"conditions": [condition]}

    def push(self, routes: Routes) -> None:
        self.before()
        self.map = plan(routes)

    def set_addresses(self, routes: Routes) -> None:
        self.before()

    def slot_counters(self, slot: int) -> dict[str, int]:
        self.before()
        return dict(self.counts)

    def is_empty(self, slot: int, replica: int) -> bool:
        self.before()
        return True

    def share_drift(self, routes: Routes) -> tuple[str, ...]:
        self.before()
        return tuple(find_share_drift(self.map, routes))

    def pages(self, urls: object) -> list[str]:
        return []


def use(monkeypatch: Any, pods: list[PodInMemory]) -> None:
    """Let all endpoints have these pods, of which the list may change."""
    monkeypatch.setattr(GatewayPods, "_found", lambda self: list(pods))
