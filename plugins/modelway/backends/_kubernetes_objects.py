"""What a try consists of on the cluster, asked for as seldom as it can be: one watch for all tries of a namespace."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from modelway.backends._kubernetes_api import Api
from modelway.backends._kubernetes_launchers import KINDS, as_job, custom_kind
from modelway.backends._kubernetes_manifests import GROUP
from modelway.backends._kubernetes_watch import Watch
from modelway.errors import SubmitFailed
from modelway.failures import FailureKind

Object = Mapping[str, Any]

#: events tell why a pod waits; those of a namespace are asked for at most this often
EVENTS_SECONDS = 15.0
#: how long a first watch is waited for before a job is asked for by itself
CONNECT_SECONDS = 3.0


class Objects:
    """The Jobs, pods and events of tries."""

    def __init__(self, api: Callable[[], Api]) -> None:
        """Ask the cluster of ``api`` when something is asked for."""
        self._api = api
        self._lock = threading.Lock()
        self._watches: dict[str, Watch] = {}
        self._asked: set[str] = set()
        self._events: dict[str, tuple[float, list[Object]]] = {}

    def of_try(self, namespace: str, name: str, *, launcher: str = "job") -> tuple[list[Object], list[Object]]:
        """Return a try's Jobs (or what stands in their place) and pods.

        The first question of a process is a plain one, since many ask only once; from the second on it watches.
        """
        watch = self._watch(namespace) if launcher == "job" else None
        try:
            if watch and (known := watch.objects(name, within_seconds=CONNECT_SECONDS)) is not None:
                return known
        except SubmitFailed as error:
            # Who may list may not always watch.
            if error.kind is FailureKind.UNREACHABLE:
                raise
        return self.now(namespace, name, launcher=launcher)

    def now(self, namespace: str, name: str, *, launcher: str = "job") -> tuple[list[Object], list[Object]]:
        """Return Jobs and pods as the API tells them when asked now."""
        api, selector = self._api(), f"{GROUP}/try={name}"
        if launcher == "job":
            return api.jobs(namespace, selector), api.pods(namespace, selector)
        group, version, kind = custom_kind(launcher)
        found = api.customs(namespace, selector, group=group, version=version, kind=kind)
        return [as_job(each) for each in found], api.pods(namespace, selector)

    def everywhere(self, selector: str) -> list[Object]:
        """Return the Jobs, and what stands in their place, of all namespaces."""
        found = self._api().jobs(None, selector)
        for group, version, kind in KINDS.values():
            try:
                customs = self._api().customs(None, selector, group=group, version=version, kind=kind)
            except SubmitFailed as error:
                # Who may not list a kind has none of it; a cluster need not even know it.
                if error.kind is not FailureKind.FORBIDDEN:
                    raise
                continue
            found += [as_job(each) for each in customs]
        return found

    def events(self, namespace: str, name: str, *, now: bool) -> list[Object]:
        """Return the events of a try's objects, oldest first.

        :param now: those of a moment ago will not do
        """
        asked, known = self._events.get(namespace, (float("-inf"), []))
        if now or time.monotonic() - asked > EVENTS_SECONDS:
            known = self._api().events(namespace)
            self._events[namespace] = time.monotonic(), known
        return [one for one in known if str((one.get("involvedObject") or {}).get("name", "")).startswith(name)]

    def _watch(self, namespace: str) -> Watch | None:
        with self._lock:
            watch = self._watches.get(namespace)
            if watch is None or watch.ended:
                if namespace not in self._asked:
                    self._asked.add(namespace)
                    return None
                watch = self._watches[namespace] = Watch(client=self._api().client, namespace=namespace)
            return watch
