"""Whether the training of a candidate ends early, by the metric that it reported last: ``search.stop`` of the spec."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

#: the kind of the event of a training that ended early
STOPPED_EARLY = "stopped-early"


def early_end(stop: Mapping[str, Any] | None, last: Mapping[str, float], *, step: int) -> str | None:
    """Return why a training ends at a checkpoint, None when it continues.

    :param stop: ``{metric, above, below, from_step}``; one of the limits is None
    :param last: the last value of each metric that training reported
    """
    if not stop or step < (stop.get("from_step") or 0) or stop["metric"] not in last:
        return None
    name, value = stop["metric"], last[stop["metric"]]
    if not math.isfinite(value):
        return f"{name} is {value}"
    above, below = stop.get("above"), stop.get("below")
    if above is not None and value > above:
        return f"{name} is {value:.6g}, above {above:.6g}"
    if below is not None and value < below:
        return f"{name} is {value:.6g}, below {below:.6g}"
    return None


def recorded_end(events: Iterable[Mapping[str, Any]]) -> str | None:
    """Return why a training has ended early, by its events; None when it has not."""
    found = [event for event in events if event["kind"] == STOPPED_EARLY]
    return str(found[-1].get("reason")) if found else None
