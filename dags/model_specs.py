"""Shows all problems of model specs as one import error in Airflow; makes no DAG."""

from modelway.spec.load import load_specs, models_folder
from modelway.spec.problems import invalid_spec

if problems := load_specs(models_folder()).problems:
    raise invalid_spec(problems)
