"""Data intervals of a cron expression, as Airflow's own timetable counts them, over changes of the clocks too."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any


def last_interval(cron: str, timezone: str, *, before: datetime) -> tuple[datetime, datetime]:
    """Return the last interval that has ended at ``before``."""
    found = _timetable(cron, timezone).infer_manual_data_interval(run_after=_time(before))
    return _plain(found.start), _plain(found.end)


def intervals_between(
    cron: str, timezone: str, *, first: datetime, last: datetime
) -> Iterator[tuple[datetime, datetime]]:
    """Yield the intervals that begin within ``[first, last]``, as a backfill of Airflow counts them."""
    from airflow.timetables.base import TimeRestriction

    timetable = _timetable(cron, timezone)
    before, earliest = None, _time(first)
    while info := timetable.next_dagrun_info(
        last_automated_data_interval=before, restriction=TimeRestriction(earliest, _time(last), True)
    ):
        # The others follow the one before them: Airflow would align the first time again for each.
        before, earliest = info.data_interval, None
        yield _plain(before.start), _plain(before.end)


def _timetable(cron: str, timezone: str) -> Any:
    from airflow.timetables.interval import CronDataIntervalTimetable

    return CronDataIntervalTimetable(cron, timezone)


def _time(value: datetime) -> Any:
    """Return a time as Airflow's timetables expect it."""
    import pendulum

    return pendulum.instance(value)


def _plain(value: datetime) -> datetime:
    return datetime.fromtimestamp(value.timestamp(), UTC)
