"""The Airflow DAG that watches what serves, for all models whose spec has rules below `monitor`."""

from pathlib import Path

from modelway.dag.monitor import monitor_dags
from modelway.spec.load import models_beside

globals().update(monitor_dags(models_beside(Path(__file__))))
