"""One Airflow DAG per model spec in include/models; dags/model_specs.py reports those that do not load."""

from pathlib import Path

from modelway.dag import load_dags
from modelway.spec.load import models_beside

globals().update(load_dags(models_beside(Path(__file__))))
