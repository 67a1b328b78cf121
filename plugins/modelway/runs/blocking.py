"""Why a run moves neither alias nor traffic: its parameter forbids it, it is a backfill, or a later run was faster."""

from datetime import datetime
from typing import TYPE_CHECKING

from modelway.runs.interval import Interval

if TYPE_CHECKING:
    from modelway.runs.versions import KnownVersions

_UNLESS = "unless the run's parameter rollout is yes"


def blocked_reason(
    lineage: "KnownVersions",
    *,
    rollout: str | None,
    is_backfill: bool,
    is_requested: bool,
    interval: Interval,
    run_after: datetime,
    reused: int | None,
) -> str | None:
    """Return why a run moves neither alias nor traffic, None when it may.

    :param rollout: the run's parameter: ``auto``, ``yes``, ``no``, ``rollback`` or None
    :param is_requested: whether somebody requested the version or its rollout
    :param reused: the version that the run reuses in place of training
    """
    if rollout in ("yes", "rollback"):
        return None
    if rollout == "no":
        return "the run's parameter rollout is no"
    if is_backfill:
        return f"a backfill moves neither alias nor traffic {_UNLESS}"
    if is_requested:
        return None
    return outdated_reason(lineage, interval=interval, run_after=run_after, reused=reused)


def outdated_reason(
    lineage: "KnownVersions", *, interval: Interval, run_after: datetime, reused: int | None
) -> str | None:
    """Return why a run is too old to move anything unless it is requested, None when it is not.

    :param reused: the version that the run reuses in place of training
    """
    if later := lineage.later(interval, run_after=run_after):
        number, end = later
        is_it = f"of later data (up to {end:%Y-%m-%d %H:%M}Z)" if end > interval.end else "of a later run"
        return f"version {number} is {is_it}: nothing moves {_UNLESS}"
    if reused is not None and (newest := lineage.newest()) > reused:
        return f"version {newest} is newer than version {reused}, which is reused: nothing moves {_UNLESS}"
    return None
