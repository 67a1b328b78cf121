"""One watch for all jobs of a namespace: it lists once and then receives every change, whatever the number of jobs.

Source: the Kubernetes documentation, "Efficient detection of changes" (list, watch, resource versions, 410 Gone).
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from modelway.platforms.kubernetes.api import translate_errors
from modelway.platforms.kubernetes.labels import GROUP, MANAGED

Object = Mapping[str, Any]

#: the server ends a watch after this time; a new one continues where it ended
WATCH_SECONDS = 60
#: a connection that is cut silently must not be mistaken for one on which nothing happens
SILENT_SECONDS = 15
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 5.0
EXPIRED = 410
#: an unused watch ends
IDLE_SECONDS = 600.0
_log = logging.getLogger(__name__)


class Watch:
    """The Jobs and pods of a namespace that are ours, as last reported by the API server."""

    def __init__(self, *, client: Any, namespace: str) -> None:
        """Start to watch, in two threads that end with the process or when the watch is unused."""
        from kubernetes import client as api

        self._changed = threading.Condition()
        self._used, self._namespace = time.monotonic(), namespace
        core, batch = api.CoreV1Api(client), api.BatchV1Api(client)
        self._kinds = {
            "jobs": _Kind(lambda **how: batch.list_namespaced_job(namespace, **how)),
            "pods": _Kind(lambda **how: core.list_namespaced_pod(namespace, **how)),
        }
        self._convert = client.sanitize_for_serialization
        for name, kind in self._kinds.items():
            threading.Thread(target=self._follow, args=(kind,), name=f"watch-{namespace}-{name}", daemon=True).start()

    @property
    def ended(self) -> bool:
        """Whether it has ended, or is about to, because it was unused."""
        return time.monotonic() - self._used > IDLE_SECONDS

    def objects(self, name: str, *, within_seconds: float = 0.0) -> tuple[list[Object], list[Object]] | None:
        """Return the Jobs and pods of the attempt ``name``; None when it is not known.

        :param within_seconds: how long to wait for a watch that has just started
        :raises SubmitFailed: the API does not answer, or refuses to be watched
        """
        self._used = time.monotonic()
        with self._changed:
            self._changed.wait_for(lambda: all(kind.settled for kind in self._kinds.values()), timeout=within_seconds)
            error = next((kind.error for kind in self._kinds.values() if kind.error), None)
            if error:
                # Not requested again for each job: the watch itself finds out when it answers.
                with translate_errors(f"watch the jobs of namespace {self._namespace}"):
                    raise error
            if not all(kind.connected for kind in self._kinds.values()):
                return None
            jobs, pods = (list(self._kinds[kind].of_attempt.get(name, {}).values()) for kind in ("jobs", "pods"))
        return (jobs, pods) if jobs else None

    def _follow(self, kind: "_Kind") -> None:
        pause = FIRST_PAUSE
        while not self.ended:
            try:
                if kind.version is None:
                    self._list(kind)
                self._watch(kind)
                pause = FIRST_PAUSE
            except Exception as error:
                # After any error the known objects are stale: list again.
                expired = getattr(error, "status", None) == EXPIRED
                self._settle(kind, version=None, error=None if expired else error)
                _log.debug("the watch begins again: %s", error)
                if not expired:
                    time.sleep(pause)
                    pause = min(2 * pause, LONGEST_PAUSE)
        self._settle(kind, version=None)

    def _settle(self, kind: "_Kind", *, version: str | None, error: Exception | None = None) -> None:
        with self._changed:
            kind.version, kind.connected, kind.settled, kind.error = version, version is not None, True, error
            self._changed.notify_all()

    def _list(self, kind: "_Kind") -> None:
        found = kind.list(label_selector=_selector(), _request_timeout=(5, 30))
        with self._changed:
            kind.of_attempt.clear()
            for each in found.items:
                kind.put(self._convert(each))
        self._settle(kind, version=found.metadata.resource_version)

    def _watch(self, kind: "_Kind") -> None:
        from kubernetes import watch

        stream = watch.Watch().stream(
            kind.list,
            label_selector=_selector(),
            resource_version=kind.version,
            timeout_seconds=WATCH_SECONDS,
            allow_watch_bookmarks=True,
            _request_timeout=(5, WATCH_SECONDS + SILENT_SECONDS),
        )
        for event in stream:
            found = event["raw_object"]
            with self._changed:
                if event["type"] == "DELETED":
                    kind.drop(found)
                elif event["type"] != "BOOKMARK":
                    kind.put(found)
                kind.version = found["metadata"]["resourceVersion"]


class _Kind:
    def __init__(self, list_objects: Callable[..., Any]) -> None:
        self.list = list_objects
        self.version: str | None = None
        self.connected = False
        self.error: Exception | None = None
        self.settled = False
        """whether it has connected once, or failed to"""
        self.of_attempt: dict[str, dict[str, Object]] = {}

    def put(self, found: Object) -> None:
        self.of_attempt.setdefault(_attempt_of(found), {})[found["metadata"]["uid"]] = found

    def drop(self, found: Object) -> None:
        of_attempt = self.of_attempt.get(_attempt_of(found), {})
        of_attempt.pop(found["metadata"]["uid"], None)
        if not of_attempt:
            self.of_attempt.pop(_attempt_of(found), None)


def _attempt_of(found: Object) -> str:
    return str(found["metadata"]["labels"].get(f"{GROUP}/try", ""))


def _selector() -> str:
    return ",".join(f"{key}={value}" for key, value in MANAGED.items())
