"""Long-running operations of the fake: each takes its time on the fake's clock, and then its effect happens."""

import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.google.clock import Clock


class Failed(Exception):
    """An operation that ends without its effect."""

    def __init__(self, code: int, message: str) -> None:
        """See ``google.rpc.Status``: 9 is FAILED_PRECONDITION."""
        super().__init__(message)
        self.code, self.message = code, message


@dataclass
class _Operation:
    name: str
    due: float
    work: Callable[[], Mapping[str, Any]]
    metadata: Mapping[str, Any]
    answer: dict[str, Any] = field(default_factory=dict)


class Operations:
    """Those of all services."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._all = clock, dict[str, _Operation]()
        self._lock = threading.RLock()

    def start(
        self,
        parent: str,
        work: Callable[[], Mapping[str, Any]],
        *,
        seconds: float,
        metadata: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Return an operation that ends after some seconds of the fake's clock.

        :param parent: what its name begins with, such as ``projects/p/locations/r``
        :param work: has the effect and returns the response; raises ``Failed``
        """
        made = _Operation(f"{parent}/operations/{uuid.uuid4()}", self._clock.now() + seconds, work, metadata or {})
        with self._lock:
            self._all[made.name] = made
            self.settle()
            return self._document(made)

    def settle(self) -> None:
        """Have the effects of all that are due, in their order."""
        with self._lock:
            now = self._clock.now()
            due = sorted((one for one in self._all.values() if not one.answer and one.due <= now), key=lambda o: o.due)
            for one in due:
                try:
                    one.answer = {"response": dict(one.work())}
                except Failed as error:
                    one.answer = {"error": {"code": error.code, "message": error.message}}

    def get(self, name: str) -> dict[str, Any] | None:
        """Return an operation as it is now; None where there is none of that name."""
        with self._lock:
            found = self._all.get(name)
            return self._document(found) if found else None

    def cancel(self, name: str) -> None:
        """End one that runs, without its effect."""
        with self._lock:
            found = self._all.get(name)
            if found and not found.answer:
                found.answer = {"error": {"code": 1, "message": "The operation was cancelled."}}

    def _document(self, one: _Operation) -> dict[str, Any]:
        document: dict[str, Any] = {"name": one.name}
        if one.metadata:
            document["metadata"] = dict(one.metadata)
        return {**document, "done": True, **one.answer} if one.answer else document
