"""One Airflow DAG per model spec in include/models; those that do not load are told by dags/model_specs.py."""

from modelway.dag import load_dags

globals().update(load_dags())
