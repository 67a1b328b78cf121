"""Stopping and removing an endpoint of Vertex AI: all models are undeployed before anything else can go."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from modelway.endpoints.base import EndpointSpec
from modelway.endpoints.google.refusals import translated
from modelway.endpoints.google.steps import CONFLICTS
from modelway.endpoints.vertex.bodies import recorded
from modelway.endpoints.vertex.observed import Seen
from modelway.endpoints.vertex.place import Place
from modelway.errors import EndpointNotReady
from modelway.platforms.google.errors import GoogleError, LostAnswer

_log = logging.getLogger(__name__)
#: seconds in which what is stopped or removed must be gone
_GONE_SECONDS = 1800.0


@dataclass(frozen=True, kw_only=True)
class Removal:
    """Takes an endpoint away, or what costs of it."""

    place: Place
    name: str
    #: returns the endpoint; None where there is none of this Airflow
    find: Callable[[], Seen | None]
    #: returns the spec by which it is as it is
    spec_of: Callable[[Seen], EndpointSpec]
    poll_seconds: float

    def begin(self) -> bool:
        """Take all traffic away and begin to undeploy every model; False where that was refused each time.

        That nothing is to be seen of it is recorded last: what breaks off before is found by the next attempt.
        """
        left: set[str] | None = None
        for _ in range(CONFLICTS):
            seen = self.find()
            if seen is None or seen.is_retired:
                return True
            if seen.split or not seen.record().stopped:
                if left is not None:
                    # Somebody deploys to it again.
                    return True
                self._without_traffic(seen, served=True)
                continue
            left = {*seen.deployed} if left is None else left & seen.deployed.keys()
            if left:
                left = {key for key in left if not self._undeploy(key)}
            elif self._without_traffic(seen, served=False):
                return True
        return False

    def empty(self) -> None:
        """Take all traffic away, in one call with the record of what it was, and wait until no model is deployed.

        :raises EndpointNotReady: models are still deployed
        """
        end = time.monotonic() + _GONE_SECONDS
        while (seen := self.find()) is not None:
            self._check(end, "its models are not undeployed")
            record = seen.record()
            if not record.stopped or seen.split:
                self._without_traffic(seen, served=record.served)
                continue
            if not self.place.running(self.name):
                if not seen.deployed:
                    return
                self._undeploy(next(iter(seen.deployed)))
            self._pause()

    def remove(self) -> None:
        """Remove the endpoint and the models that were uploaded for it, and wait until they are gone.

        :raises EndpointNotReady: something of it is still there
        """
        self.empty()
        end = time.monotonic() + _GONE_SECONDS
        for resource in (f"{self.place.parent}/endpoints/{self.name}", *self.place.models(self.name)):
            self.place.delete(resource)
        while self.place.find(self.name) is not None or self.place.models(self.name):
            self._check(end, "Vertex AI has not removed it")
            self._pause()

    def _without_traffic(self, seen: Seen, *, served: bool) -> bool:
        text = recorded(self.spec_of(seen), served=served, stopped=True)
        return patched(self.place, seen, {"trafficSplit": {}, "description": text}, ("trafficSplit", "description"))

    def _undeploy(self, key: str) -> bool:
        """Start to undeploy a model; False where that is refused for now, and what there is says what comes next."""
        try:
            self.place.start(f"endpoints/{self.name}:undeployModel", {"deployedModelId": key}, {})
        except GoogleError as error:
            if not (isinstance(error, LostAnswer) or error.is_conflict or error.is_absent):
                raise
            _log.warning("%s: the deployed model %s may still be there: %s", self.name, key, error)
            return error.is_absent
        return True

    def _check(self, end: float, what: str) -> None:
        if time.monotonic() > end:
            where = f"endpoint {self.name}"
            raise EndpointNotReady(f"{what} after {_GONE_SECONDS:g} s", where=where, do="Try again")

    def _pause(self) -> None:
        time.sleep(min(self.poll_seconds, 1.0))


def patched(place: Place, seen: Seen, body: dict[str, Any], mask: tuple[str, ...]) -> bool:
    """Change an endpoint at once; False where it must be read again: it was changed by somebody else, or maybe."""
    try:
        place.patch(seen, body, mask)
    except LostAnswer:
        return False
    except GoogleError as error:
        if error.is_conflict:
            return False
        raise translated(error, seen.name) from error
    return True
