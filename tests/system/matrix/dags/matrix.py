"""One task that trains, in a DAG without and in one with a limit of time, as the kill matrix asks for."""

import json
import os
from datetime import timedelta

from airflow.sdk import DAG, literal
from modelway.operators.train import TrainModelOperator

#: DAG id → the job of its task
JOBS = json.loads(os.environ["MATRIX_JOBS"])


def training(dag_id: str, asked: dict, **limits) -> DAG:
    with DAG(
        dag_id=dag_id,
        schedule=None,
        max_active_runs=64,
        default_args={"retries": 3, "retry_delay": timedelta(seconds=1)},
        **limits,
    ) as dag:
        TrainModelOperator(
            task_id="train", code=literal(asked["code"]), backend=asked["backend"], options=literal(asked["options"])
        )
    return dag


for dag_id, job in JOBS.items():
    globals()[dag_id] = training(dag_id, job)
matrix_timeout = training("matrix-timeout", JOBS["matrix"], dagrun_timeout=timedelta(seconds=45))
