"""One training for each set of parameters, side by side; the best checkpoint of all of them is selected.

The trainings are mapped tasks: the list can as well be what a task before returned.
"""

from airflow.sdk import DAG
from modelway.operators.evaluate import EvaluateCheckpointOperator
from modelway.operators.freeze import FreezeModelOperator
from modelway.operators.package import PackageCodeOperator
from modelway.operators.select import SelectCheckpointOperator
from modelway.operators.train import TrainModelOperator

PARAMS = [{"epochs": 1, "lr": rate, "batch_size": 64} for rate in (0.003, 0.0001)]

with DAG(dag_id="example-mapped-training", schedule=None, tags=["modelway", "example"], doc_md=__doc__) as dag:
    code = PackageCodeOperator(task_id="package", model="digits", module="digits.py").output
    # Each is a stage of its own: train-0, train-1, and so are its checkpoints.
    train = TrainModelOperator.partial(task_id="train", code=code, max_active_tis_per_dagrun=2).expand(
        job_params=PARAMS
    )
    # A job for the checkpoints of each training.
    evaluated = EvaluateCheckpointOperator.partial(task_id="evaluate", code=code).expand(checkpoint=train.output)
    selected = SelectCheckpointOperator(task_id="select", checkpoints=train.output, evaluations=evaluated.output).output
    FreezeModelOperator(task_id="freeze", code=code, selected=selected, training=train.output["report"])
