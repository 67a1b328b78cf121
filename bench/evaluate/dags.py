"""The DAGs of the benchmark: the checkpoints are there, they are divided, evaluated and selected.

``BENCH_CODE`` is the model's folder, ``BENCH_CHECKPOINTS`` a file that lists the stored checkpoints.
"""

import json
import os
from pathlib import Path

from airflow.sdk import DAG, task
from modelway.operators.divide import DivideCheckpointsOperator
from modelway.operators.evaluate import EvaluateCheckpointOperator
from modelway.operators.package import PackageCodeOperator
from modelway.operators.select import SelectCheckpointOperator

PARALLEL = 2


def evaluation(name: str, *, per_job: int | str) -> DAG:
    """Return the DAG of one way to divide."""
    with DAG(dag_id=name, schedule=None) as dag:
        folder = os.environ["BENCH_CODE"]
        code = PackageCodeOperator(task_id="package", model="digits", folder=folder, module="digits.py").output

        @task
        def checkpoints(code: dict) -> list[dict]:
            """Return the checkpoints, when the code is packaged."""
            return json.loads(Path(os.environ["BENCH_CHECKPOINTS"]).read_text())

        stored = shares = checkpoints(code)
        if per_job != 1:
            shares = DivideCheckpointsOperator(
                task_id="divide", code=code, checkpoints=stored, parallel=PARALLEL, per_job=per_job
            ).output
        evaluated = EvaluateCheckpointOperator.partial(
            task_id="evaluate", code=code, options={"cpu": 1}, max_active_tis_per_dagrun=PARALLEL
        ).expand(checkpoint=shares)
        SelectCheckpointOperator(task_id="select", checkpoints=stored, evaluations=evaluated.output)
    return dag


auto = evaluation("bench-auto", per_job="auto")
single = evaluation("bench-single", per_job=1)
