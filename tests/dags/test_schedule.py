"""When a model's runs start, and which intervals they are given."""

from datetime import UTC, datetime

import pendulum
import pytest
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import TimeRestriction


@pytest.fixture
def scheduled(dag_of):
    """Return a function that makes the DAG of a spec as Airflow's scheduler has it."""
    return lambda spec: DagSerialization.from_dict(DagSerialization.to_dict(dag_of(spec)))


def test_without_a_schedule_runs_are_asked_for(scheduled):
    timetable = scheduled("").timetable
    assert not timetable.can_be_scheduled
    assert not timetable.periodic


def test_a_cron_has_whole_intervals_in_its_time_zone(scheduled):
    dag = scheduled('schedule: {cron: "0 3 * * *", timezone: Europe/Berlin, start: "2026-03-27"}\n')
    infos = list(dag.iter_dagrun_infos_between(pendulum.datetime(2026, 3, 27), pendulum.datetime(2026, 3, 30)))
    # The clocks go forward on 29 March: that day's interval is an hour shorter.
    assert [(info.data_interval.start, info.data_interval.end) for info in infos] == [
        (datetime(2026, 3, 27, 2, tzinfo=UTC), datetime(2026, 3, 28, 2, tzinfo=UTC)),
        (datetime(2026, 3, 28, 2, tzinfo=UTC), datetime(2026, 3, 29, 1, tzinfo=UTC)),
        (datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 3, 30, 1, tzinfo=UTC)),
    ]
    assert dag.start_date == datetime(2026, 3, 26, 23, tzinfo=UTC)
    assert dag.timetable.periodic
    assert dag.catchup is False
    assert dag.allowed_run_types is None


def test_a_short_form_and_a_preset(scheduled):
    dag = scheduled('schedule: "@daily"\n')
    info = dag.timetable.next_dagrun_info(
        last_automated_data_interval=None,
        restriction=TimeRestriction(pendulum.datetime(2026, 1, 1), pendulum.datetime(2026, 1, 5), True),
    )
    assert (info.data_interval.end - info.data_interval.start).total_seconds() == 86_400


def test_a_cron_with_assets_is_backfillable_and_starts_on_any_event(scheduled):
    dag = scheduled(
        'schedule: {cron: "@hourly", assets: ["s3://b/images", "s3://b/labels"]}\nmonitor: {retrain_on_event: true}\n'
    )
    assert dag.timetable.periodic
    assert dag.timetable.can_be_scheduled
    infos = list(dag.iter_dagrun_infos_between(pendulum.datetime(2026, 1, 1), pendulum.datetime(2026, 1, 1, 2)))
    assert [info.data_interval.start.hour for info in infos] == [0, 1, 2]
    condition = dag.timetable.asset_condition
    assert type(condition).__name__ == "SerializedAssetAny"
    assert [asset.uri for asset in condition.objects] == [
        "s3://b/images",
        "s3://b/labels",
        "modelway://tiny/retrain",
    ]


def test_assets_alone_have_no_intervals(scheduled):
    dag = scheduled("monitor: {retrain_on_event: true}\n")
    assert not dag.timetable.periodic
    assert [asset.uri for asset in dag.timetable.asset_condition.objects] == ["modelway://tiny/retrain"]


def test_catchup_and_backfills_are_as_the_spec_says(scheduled):
    dag = scheduled('schedule: {cron: "@daily", start: "2026-01-01", catchup: true, backfill: false}\n')
    assert dag.catchup is True
    assert {str(kind) for kind in dag.allowed_run_types} == {
        *("asset_materialization", "asset_triggered", "manual", "operator_triggered", "scheduled")
    }


def test_a_version_is_an_event_of_the_models_asset(dag_of):
    (outlet,) = dag_of().get_task("freeze.register").outlets
    assert outlet.uri == "modelway://tiny/"
