"""A sensor before training: nothing is trained until the data are there."""

from pathlib import Path

from airflow.providers.standard.sensors.python import PythonSensor
from airflow.sdk import DAG, Param
from modelway.operators.package import PackageCodeOperator
from modelway.operators.train import TrainModelOperator


def has_arrived(file: str) -> bool:
    """Return whether the data are complete: their writer makes this file last."""
    return Path(file).exists()


with DAG(
    dag_id="example-sensor",
    schedule=None,
    tags=["modelway", "example"],
    doc_md=__doc__,
    params={"file": Param("/tmp/digits/_SUCCESS", type="string", description="Written when the data are complete")},
) as dag:
    # reschedule: between two looks the sensor takes no worker. Any sensor of Airflow's providers stands here as well.
    arrived = PythonSensor(
        task_id="wait_for_data",
        python_callable=has_arrived,
        op_kwargs={"file": "{{ params.file }}"},
        mode="reschedule",
        poke_interval=30,
        timeout=6 * 60 * 60,
    )
    code = PackageCodeOperator(task_id="package", model="digits", module="digits.py")
    arrived >> code
    TrainModelOperator(
        task_id="train",
        code=code.output,
        # Your train(job) finds the file's name in job.params["file"].
        job_params={"epochs": 1, "lr": 0.003, "batch_size": 64, "file": "{{ params.file }}"},
    )
