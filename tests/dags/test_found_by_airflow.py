"""Airflow finds the provider's options and the DAG files."""

from pathlib import Path

from airflow.utils.file import might_contain_dag
from modelway import folders
from modelway.get_provider_info import get_provider_info

ROOT = Path(__file__).parents[2]


def test_airflow_knows_the_options() -> None:
    """Those that the provider declares are the ones that are read."""
    from airflow.providers_manager import ProvidersManager

    assert set(get_provider_info()["config"][folders.SECTION]["options"]) == {"models", "home"}
    assert "modelway" in dict(ProvidersManager().provider_configs)


def test_airflow_takes_the_dag_file_for_one() -> None:
    assert might_contain_dag(str(ROOT / "dags" / "model_specs.py"), safe_mode=True)
