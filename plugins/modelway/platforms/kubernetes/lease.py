"""A lock on a cluster, for processes that share nothing else: a Lease, which its holder renews.

Source: the Kubernetes documentation, "Leases". Clocks are not compared: a lease is expired when it was not renewed for
its whole duration as the process that waits sees it.
"""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from modelway.errors import EndpointNotReady
from modelway.platforms.kubernetes.api import Manifest
from modelway.platforms.kubernetes.objects import Kind, Objects

LEASE = Kind("coordination.k8s.io/v1", "Lease")
#: seconds without a renewal after which the holder counts as gone
SECONDS = 15
_PAUSE = 0.3


class Lease:
    """A lock that this process has; :meth:`renew` from time to time while it works."""

    def __init__(self, objects: Objects, held: Manifest) -> None:
        """Renew the Lease ``held``."""
        self._objects, self._held = objects, held
        self._renewed = time.monotonic()

    def renew(self) -> None:
        """Renew it, when a third of its duration is over.

        :raises EndpointNotReady: another process has it: this one was late
        """
        if time.monotonic() - self._renewed < SECONDS / 3:
            return
        self._held["spec"]["renewTime"] = _now()
        renewed = self._objects.replace(self._held)
        if renewed is None:
            raise EndpointNotReady(
                "another process changes it, since this one did not answer for too long",
                where=f"Lease {self._held['metadata']['name']}",
                do="Try again",
            )
        self._held, self._renewed = dict(renewed), time.monotonic()

    def release(self) -> None:
        """Give it up, unless another process has it by now."""
        self._objects.delete(self._held, unchanged=True)


@contextmanager
def leased(
    objects: Objects, *, namespace: str, name: str, labels: dict[str, str], patience: float = 600
) -> Iterator[Lease]:
    """Have the Lease ``name`` for as long as the block lasts; wait for the one who has it.

    :raises EndpointNotReady: another process had it for ``patience`` seconds
    """
    lease = _acquire(objects, _manifest(namespace, name, labels), end=time.monotonic() + patience)
    try:
        yield lease
    finally:
        lease.release()


def _acquire(objects: Objects, manifest: Manifest, *, end: float) -> Lease:
    namespace, name = (manifest["metadata"][key] for key in ("namespace", "name"))
    seen, since = "", time.monotonic()
    while True:
        if created := objects.api.create(manifest):
            return Lease(objects, dict(created))
        found = objects.find(LEASE, namespace, name)
        if found is None:
            continue
        if found["metadata"]["resourceVersion"] != seen:
            seen, since = found["metadata"]["resourceVersion"], time.monotonic()
        if time.monotonic() - since > SECONDS:
            metadata = {**manifest["metadata"], "resourceVersion": seen}
            if replaced := objects.replace({**manifest, "metadata": metadata}):
                return Lease(objects, dict(replaced))
        if time.monotonic() > end:
            raise EndpointNotReady(
                "another process changes it", where=f"Lease {name} of namespace {namespace}", do="Try again later"
            )
        time.sleep(_PAUSE)


def _manifest(namespace: str, name: str, labels: dict[str, str]) -> dict[str, Any]:
    now = _now()
    manifest = LEASE.manifest(namespace, name)
    manifest["metadata"]["labels"] = labels
    manifest["spec"] = {
        "holderIdentity": uuid.uuid4().hex,
        "leaseDurationSeconds": SECONDS,
        "acquireTime": now,
        "renewTime": now,
    }
    return manifest


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
