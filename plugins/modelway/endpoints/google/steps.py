"""The steps of a change that are alike on all services of Google Cloud, and what a change remembers."""

import time
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from modelway.endpoints.base import Change, EndpointSpec, EndpointStatus, Gradual
from modelway.errors import EndpointNotReady


@dataclass(frozen=True, kw_only=True)
class Patch:
    """Change fields of what was read, unless somebody else has changed it since."""

    body: dict[str, Any]
    mask: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Wait:
    """Wait for the service."""

    what: str


@dataclass(frozen=True)
class Outdated:
    """Compute the spec anew: somebody else changed the split since the change began."""


@dataclass(frozen=True)
class Done:
    """Nothing is left to do."""


#: how often a change is made anew because somebody else's came in between
CONFLICTS = 10


class PollsGradually(Gradual, Protocol):
    """An endpoint that knows how often it is worth polling."""

    poll_seconds: float


def applied(port: PollsGradually, spec: EndpointSpec) -> EndpointStatus:
    """Make a change to its end, in a command or where little is to be waited for.

    :raises ModelwayError: as ``advance`` does
    """
    found = port.advance(spec)
    while isinstance(found, Change):
        time.sleep(port.poll_seconds)
        found = port.advance(spec, found)
    return found


def late(name: str, what: str, patience: float, *, do: str) -> EndpointNotReady:
    """Return the error of an endpoint for which something was waited for too long."""
    return EndpointNotReady(f"waiting for {what}: not done after {patience:g} s", where=f"endpoint {name}", do=do)


@dataclass(kw_only=True)
class ChangeMemory:
    """What a change remembers from one step to the next; plain JSON."""

    #: seconds since the epoch, of this side's clock, when waiting for something began
    since: dict[str, float] = field(default_factory=dict)
    #: per cents by what serves, when it began; None: nothing did
    split: dict[str, int] | None = None

    def seconds(self, what: str) -> float:
        """Return how long something is waited for."""
        return time.time() - self.since.setdefault(what, time.time())

    def is_outdated(self, split: dict[str, int]) -> bool:
        """Return whether somebody else changed the split since it was remembered; this one is from now on."""
        before, self.split = self.split, split
        return before is not None and before != split

    def change(self, step: Wait | Outdated) -> Change:
        """Return the change that is continued later."""
        if isinstance(step, Wait):
            return Change(waits_for=step.what, memory=self.plain())
        return Change(waits_for="the split to be computed anew", memory=self.plain(), is_outdated=True)

    def plain(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)
