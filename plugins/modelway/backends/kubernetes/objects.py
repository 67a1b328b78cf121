"""The objects of attempts on the cluster, with as few requests as possible: one watch for all of a namespace."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from modelway.backends.base import Handle
from modelway.backends.kubernetes.attempts import AttemptRecord
from modelway.backends.kubernetes.launchers import KINDS, as_job, custom_kind
from modelway.errors import SubmitFailed
from modelway.failures import FailureKind
from modelway.platforms.kubernetes.api import Api
from modelway.platforms.kubernetes.labels import GROUP
from modelway.platforms.kubernetes.watch import Watch

Object = Mapping[str, Any]

#: events say why a pod waits; those of a namespace are requested at most this often
EVENTS_SECONDS = 15.0
#: how long to wait for a first watch before a job is requested by itself
CONNECT_SECONDS = 3.0


class Objects:
    """The Jobs, pods and events of attempts."""

    def __init__(self, api: Callable[[], Api]) -> None:
        """Read from the cluster of ``api``, which is called at the first request."""
        self._api = api
        self._lock = threading.Lock()
        self._watches: dict[str, Watch] = {}
        self._requested: set[str] = set()
        self._listing = threading.Lock()
        self._events: dict[str, tuple[float, list[Object] | SubmitFailed]] = {}

    def of_attempt(self, record: AttemptRecord) -> tuple[list[Object], list[Object]]:
        """Return an attempt's Jobs (or what stands in their place) and pods.

        The first request of a process is a plain one, since many make only one; from the second on it watches.
        """
        watch = self._watch(record.namespace) if record.launcher == "job" else None
        try:
            if watch and (known := watch.objects(record.name, within_seconds=CONNECT_SECONDS)) is not None:
                jobs, pods = ([one for one in found if token_of(one) == record.token] for found in known)
                if jobs:
                    return jobs, pods
        except SubmitFailed as error:
            # A client that may list may not always watch.
            if error.kind is FailureKind.UNREACHABLE:
                raise
        return self.now(record)

    def now(self, record: AttemptRecord) -> tuple[list[Object], list[Object]]:
        """Return Jobs and pods as the API lists them now."""
        api, namespace, selector = self._api(), record.namespace, record.selector
        if record.launcher == "job":
            return api.jobs(namespace, selector), api.pods(namespace, selector)
        group, version, kind = custom_kind(record.launcher)
        found = api.customs(namespace, selector, group=group, version=version, kind=kind)
        return [as_job(each) for each in found], api.pods(namespace, selector)

    def everywhere(self, selector: str) -> list[Object]:
        """Return the Jobs, and what stands in their place, of all namespaces."""
        found = self._api().jobs(None, selector)
        for group, version, kind in KINDS.values():
            try:
                customs = self._api().customs(None, selector, group=group, version=version, kind=kind)
            except SubmitFailed as error:
                # A client that may not list a kind has none of it; a cluster need not even define it.
                if error.kind is not FailureKind.FORBIDDEN:
                    raise
                continue
            found += [as_job(each) for each in customs]
        return found

    def events(self, namespace: str, name: str, *, now: bool) -> list[Object]:
        """Return the events of an attempt's objects, oldest first.

        :param now: do not reuse the events of a moment ago
        """
        known = self._events_since(time.monotonic() - (0.0 if now else EVENTS_SECONDS), namespace)
        if isinstance(known, SubmitFailed):
            raise known
        return [one for one in known if str((one.get("involvedObject") or {}).get("name", "")).startswith(name)]

    def _events_since(self, moment: float, namespace: str) -> list[Object] | SubmitFailed:
        """Return the events as requested after a moment; of many threads that need them, one sends the request."""
        waited = time.monotonic()
        with self._listing:
            requested_at, known = self._events.get(namespace, (float("-inf"), []))
            # A refusal is only valid for those that waited for it.
            if requested_at < (waited if isinstance(known, SubmitFailed) else moment):
                requested_at = time.monotonic()
                try:
                    known = self._api().events(namespace)
                except SubmitFailed as error:
                    known = error
                self._events[namespace] = requested_at, known
            return known

    def _watch(self, namespace: str) -> Watch | None:
        with self._lock:
            watch = self._watches.get(namespace)
            if watch is None or watch.ended:
                if namespace not in self._requested:
                    self._requested.add(namespace)
                    return None
                watch = self._watches[namespace] = Watch(client=self._api().client, namespace=namespace)
            return watch


def token_of(one: Object) -> str:
    """Return the token that distinguishes an object's attempt from another of the same name."""
    return str((one["metadata"].get("labels") or {}).get(f"{GROUP}/token", ""))


def handle_of_object(job: Object) -> Handle:
    """Return the handle of the attempt of a Job, or of what stands in its place."""
    metadata = job["metadata"]
    name, place = metadata["labels"][f"{GROUP}/try"], metadata["annotations"][f"{GROUP}/folder"]
    folder, _, attempt = str(place).rpartition("/")
    launcher = next((each for each, (_, _, kind) in KINDS.items() if kind == job.get("kind")), "job")
    return Handle(
        backend="kubernetes",
        name=name,
        place=folder,
        attempt=int(attempt.removeprefix("try-")),
        mark=f"{metadata['namespace']}/{launcher}/{token_of(job)}",
    )
