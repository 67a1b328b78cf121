"""One Airflow DAG per model spec in include/models; those that do not load are told by dags/model_specs.py."""

from pathlib import Path

from modelway.dag import load_dags
from modelway.spec.load import models_beside

globals().update(load_dags(models_beside(Path(__file__))))
