"""One task that trains, in a DAG without and in one with a limit of time, as the kill matrix asks for."""

import json
import os
from datetime import timedelta

from airflow.sdk import DAG, literal
from modelway.operators.train import TrainModelOperator

ASKED = json.loads(os.environ["MATRIX_JOB"])


def training(dag_id: str, **limits) -> DAG:
    with DAG(
        dag_id=dag_id,
        schedule=None,
        max_active_runs=64,
        default_args={"retries": 3, "retry_delay": timedelta(seconds=1)},
        **limits,
    ) as dag:
        TrainModelOperator(
            task_id="train", code=literal(ASKED["code"]), backend=ASKED["backend"], options=literal(ASKED["options"])
        )
    return dag


matrix = training("matrix")
matrix_timeout = training("matrix-timeout", dagrun_timeout=timedelta(seconds=45))
