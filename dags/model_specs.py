"""Shows all problems of model specs as one import error in Airflow; makes no DAG."""

from pathlib import Path

from modelway.spec.load import load_specs, models_beside
from modelway.spec.problems import invalid_spec

if problems := load_specs(models_beside(Path(__file__))).problems:
    raise invalid_spec(problems)
