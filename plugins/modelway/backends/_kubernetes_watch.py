"""One watch for all jobs of a namespace: it lists once and is told of every change, whatever the number of jobs.

Source: the Kubernetes documentation, "Efficient detection of changes" (list, watch, resource versions, 410 Gone).
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from modelway.backends._kubernetes_manifests import GROUP, MANAGED

Object = Mapping[str, Any]

#: the server ends a watch after this time; a new one goes on where it ended
WATCH_SECONDS = 120
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0
_log = logging.getLogger(__name__)


class Watch:
    """The Jobs and pods of a namespace that are ours, as last told by the API server."""

    def __init__(self, *, client: Any, namespace: str) -> None:
        """Begin to watch, in two threads that end with the process."""
        from kubernetes import client as api

        self._lock = threading.Lock()
        core, batch = api.CoreV1Api(client), api.BatchV1Api(client)
        self._kinds = {
            "jobs": _Kind(lambda **how: batch.list_namespaced_job(namespace, **how)),
            "pods": _Kind(lambda **how: core.list_namespaced_pod(namespace, **how)),
        }
        self._convert = client.sanitize_for_serialization
        for name, kind in self._kinds.items():
            threading.Thread(target=self._follow, args=(kind,), name=f"watch-{namespace}-{name}", daemon=True).start()

    def objects(self, name: str) -> tuple[list[Object], list[Object]] | None:
        """Return the Jobs and pods of the try ``name``; None when what is known may be old."""
        with self._lock:
            if not all(kind.connected for kind in self._kinds.values()):
                return None
            jobs, pods = (list(self._kinds[kind].of_try.get(name, {}).values()) for kind in ("jobs", "pods"))
        return (jobs, pods) if jobs else None

    def _follow(self, kind: "_Kind") -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                if kind.version is None:
                    self._list(kind)
                self._watch(kind)
                pause = FIRST_PAUSE
            except Exception as error:
                # Whatever it was, what is known is old now: list again.
                with self._lock:
                    kind.connected, kind.version = False, None
                _log.debug("the watch of %s begins again: %s", kind, error)
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    def _list(self, kind: "_Kind") -> None:
        found = kind.list(label_selector=_selector())
        with self._lock:
            kind.of_try.clear()
            for each in found.items:
                kind.put(self._convert(each))
            kind.version, kind.connected = found.metadata.resource_version, True

    def _watch(self, kind: "_Kind") -> None:
        from kubernetes import watch

        stream = watch.Watch().stream(
            kind.list,
            label_selector=_selector(),
            resource_version=kind.version,
            timeout_seconds=WATCH_SECONDS,
            allow_watch_bookmarks=True,
            # A connection that is cut without a word must not look like one on which nothing happens.
            _request_timeout=(10, WATCH_SECONDS + 15),
        )
        for event in stream:
            given = event["raw_object"]
            with self._lock:
                if event["type"] == "DELETED":
                    kind.drop(given)
                elif event["type"] != "BOOKMARK":
                    kind.put(given)
                kind.version = given["metadata"]["resourceVersion"]


class _Kind:
    def __init__(self, list_objects: Callable[..., Any]) -> None:
        self.list = list_objects
        self.version: str | None = None
        self.connected = False
        self.of_try: dict[str, dict[str, Object]] = {}

    def put(self, given: Object) -> None:
        self.of_try.setdefault(_try(given), {})[given["metadata"]["uid"]] = given

    def drop(self, given: Object) -> None:
        of_try = self.of_try.get(_try(given), {})
        of_try.pop(given["metadata"]["uid"], None)
        if not of_try:
            self.of_try.pop(_try(given), None)


def _try(given: Object) -> str:
    return str(given["metadata"]["labels"].get(f"{GROUP}/try", ""))


def _selector() -> str:
    return ",".join(f"{key}={value}" for key, value in MANAGED.items())
