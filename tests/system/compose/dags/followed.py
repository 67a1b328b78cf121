"""A model whose task follows its job in the worker all the time, so that a killed worker leaves a follower behind."""

import math
from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG
from modelway.operators import job_operator
from modelway.operators.package import PackageCodeOperator
from modelway.operators.train import TrainModelOperator

# Of the processes that load this file alone: no task of theirs waits in the triggerer.
job_operator.PATIENCE_SECONDS = math.inf

with DAG(dag_id="followed", schedule=None, default_args={"retries": 20, "retry_delay": timedelta(seconds=5)}):
    code = PackageCodeOperator(
        task_id="package", model="followed", folder=str(Path(__file__).parent / "steps"), module="steps.py"
    ).output
    TrainModelOperator(task_id="train", code=code, job_params={"until": "/srv/modelway/followed-ends"})
