"""When Airflow starts a run automatically: by cron, by asset events, or both; and which past days can be run."""

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from airflow.sdk import Asset, AssetAny, AssetOrTimeSchedule, CronDataIntervalTimetable

from modelway.spec.model import ModelSpec

#: Airflow's kinds of run without "backfill"
_NO_BACKFILL = ("asset_materialization", "asset_triggered", "manual", "operator_triggered", "scheduled")


def version_asset(model: str) -> Asset:
    """Return the asset that has an event for each version of the model."""
    return Asset(uri=f"modelway://{model}")


def retrain_asset(model: str) -> Asset:
    """Return the asset whose events request a retraining."""
    return Asset(uri=f"modelway://{model}/retrain")


def schedule_of(spec: ModelSpec) -> Any:
    """Return what starts a run: a timetable, assets, or None.

    A cron creates data intervals: a run trains on its own interval, and past intervals can be backfilled, also where
    asset events start runs too.
    """
    schedule = spec.schedule
    assets = [Asset(uri) for uri in schedule.assets] if schedule else []
    if spec.monitor.starts_runs:
        assets.append(retrain_asset(spec.model))
    if schedule is None or schedule.cron is None:
        return AssetAny(*assets) if assets else None
    cron = CronDataIntervalTimetable(schedule.cron, timezone=schedule.timezone)
    return AssetOrTimeSchedule(timetable=cron, assets=AssetAny(*assets)) if assets else cron


def run_dates(spec: ModelSpec) -> dict[str, Any]:
    """Return the first day of runs, whether missed intervals are caught up, and whether past ones can be backfilled."""
    schedule = spec.schedule
    if schedule is None or schedule.cron is None:
        return {"catchup": False}
    return {
        "start_date": _first_day(schedule.start, schedule.timezone),
        "catchup": schedule.catchup,
        "allowed_run_types": _NO_BACKFILL if schedule.backfill is False else None,
    }


def _first_day(day: str | None, timezone: str) -> datetime | None:
    """Return the start of a day in a time zone."""
    if day is None:
        return None
    return datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(timezone)).astimezone(UTC)
