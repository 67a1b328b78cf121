"""Eight models that train as long as the test wants: load while parts are killed."""

from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG
from modelway.operators.package import PackageCodeOperator
from modelway.operators.train import TrainModelOperator

for number in range(8):
    with DAG(
        dag_id=f"load-{number}",
        schedule=None,
        max_active_tasks=1,
        default_args={"retries": 20, "retry_delay": timedelta(seconds=5)},
    ) as dag:
        code = PackageCodeOperator(
            task_id="package", model=f"load-{number}", folder=str(Path(__file__).parent / "steps"), module="steps.py"
        ).output
        TrainModelOperator(task_id="train", code=code, job_params={"until": "/srv/modelway/load-ends"})
    globals()[dag.dag_id] = dag
