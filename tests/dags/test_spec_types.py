"""What a spec takes for a cron, a time zone, an asset or a name, Airflow takes too: none fails at parse."""

from collections.abc import Callable

import pytest
from airflow.sdk import DAG, Asset, CronDataIntervalTimetable
from modelway.spec.references import check_uri
from modelway.spec.times import PRESETS, check_cron, check_timezone


@pytest.mark.parametrize("cron", [*PRESETS, "0 3 * * *", "*/15 8-18 * * mon-fri", "0 0 1,15 * *", "0 0 29 2 *"])
def test_a_cron_is_taken_as_airflow_takes_it(cron: str) -> None:
    assert check_cron(cron) == cron
    CronDataIntervalTimetable(cron, timezone="UTC")


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires"])
def test_a_time_zone_is_taken_as_airflow_takes_it(zone: str) -> None:
    assert check_timezone(zone) == zone
    CronDataIntervalTimetable("@daily", timezone=zone)


@pytest.mark.parametrize("uri", ["s3://lake/images", "file:///data", "modelway://other/retrain", "x-team://a/b?c=d"])
def test_an_asset_of_a_spec_is_one_of_airflow(uri: str) -> None:
    assert check_uri(uri) == uri
    Asset(uri=uri)


def test_names_as_long_as_a_spec_may_have_them_make_a_dag(dag_of: Callable[[str, str], DAG]) -> None:
    stage = "s" * 40
    dag = dag_of(f"pool: {'p' * 256}\ntags: [{'t' * 100}]\ntrain: {{stages: [{{name: {stage}}}]}}\n", "m" * 40)
    assert dag.has_task(f"train.{stage}")
