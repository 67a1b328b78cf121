"""Changes of a service of Cloud Run that are waited for: its split, a stop, its removal; each takes seconds."""

import time

from modelway.endpoints.cloud_run import steps
from modelway.endpoints.cloud_run.observed import Seen
from modelway.endpoints.cloud_run.place import Place
from modelway.endpoints.cloud_run.template import Object
from modelway.endpoints.google.refusals import translated
from modelway.errors import EndpointNotReady
from modelway.platforms.google.errors import GoogleError, LostAnswer

#: seconds that a change of the split, a stop or a removal may take
_SETTLED_SECONDS = 120.0


def moved(place: Place, seen: Seen, traffic: list[Object], *, poll_seconds: float) -> bool:
    """Move the traffic and wait until it has; False where it was not requested, since others changed the service.

    A split that was requested and that somebody replaced since is not requested again: the later one stays.

    :raises EndpointNotReady: Cloud Run did not make it; the old split stays
    """
    requested = True
    try:
        place.patch(seen, {"traffic": traffic}, ("traffic",))
    except LostAnswer:
        # It may have happened: what there is says so.
        requested = False
    except GoogleError as error:
        if error.is_conflict:
            return False
        raise translated(error, seen.name) from error
    end, memory = time.monotonic() + _SETTLED_SECONDS, steps.Memory()
    while time.monotonic() < end:
        now = place.seen(seen.name)
        if now is None or not now.is_requested(traffic):
            if requested:
                settled(place, seen.name, poll_seconds=poll_seconds)
            return requested
        requested = True
        if now.is_split(traffic):
            return True
        if not now.is_changing and memory.seconds("traffic") > steps.SPLIT_SECONDS:
            failed = steps.refused_split(now)
            undo(place, now, failed)
            raise failed.error
        time.sleep(min(poll_seconds, 1.0))
    raise EndpointNotReady(
        f"the traffic has not moved after {_SETTLED_SECONDS:g} s", where=f"endpoint {seen.name}", do="Try again"
    )


def undo(place: Place, seen: Seen | None, failed: steps.Fail) -> None:
    """Leave what served before as it was; of a service that never served nothing is left."""
    if seen is None:
        return
    try:
        if failed.remove:
            place.delete(seen.name)
        elif failed.restore:
            place.patch(seen, {"traffic": failed.restore}, ("traffic",))
    except GoogleError:
        # What failed first is what matters; the next change finds what is left.
        return


def changed(place: Place, seen: Seen, body: Object, mask: tuple[str, ...]) -> bool:
    """Change fields of a service; False where somebody else changed it meanwhile."""
    try:
        place.patch(seen, body, mask)
    except LostAnswer:
        return True
    except GoogleError as error:
        if not error.is_conflict:
            raise translated(error, seen.name) from error
        return False
    return True


def settled(place: Place, name: str, *, poll_seconds: float) -> None:
    """Wait until Cloud Run has made its changes, or the service is gone."""
    end = time.monotonic() + _SETTLED_SECONDS
    while (seen := place.seen(name)) is not None and seen.is_changing:
        if time.monotonic() > end:
            what = f"Cloud Run has not ended its change after {_SETTLED_SECONDS:g} s"
            raise EndpointNotReady(what, where=f"endpoint {name}", do="Try again")
        time.sleep(min(poll_seconds, 1.0))


def remove(place: Place, name: str, *, poll_seconds: float) -> None:
    """Remove a service with its revisions and wait until it is gone.

    :raises EndpointNotReady: it is still there
    """
    place.delete(name)
    end = time.monotonic() + _SETTLED_SECONDS
    while place.find(name) is not None:
        if time.monotonic() > end:
            what = f"Cloud Run has not removed the service after {_SETTLED_SECONDS:g} s"
            raise EndpointNotReady(what, where=f"endpoint {name}", do="Try again")
        time.sleep(min(poll_seconds, 1.0))
