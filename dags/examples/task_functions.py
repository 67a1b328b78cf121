"""`@task` functions around modelway's operators: one chooses the parameters of training, one reports the result."""

from airflow.sdk import DAG, task
from modelway.operators.evaluate import EvaluateCheckpointOperator
from modelway.operators.package import PackageCodeOperator
from modelway.operators.select import SelectCheckpointOperator
from modelway.operators.train import TrainModelOperator

with DAG(dag_id="example-task-functions", schedule=None, tags=["modelway", "example"], doc_md=__doc__) as dag:

    @task
    def choose() -> dict:
        """Return what the model's code finds in ``job.params``; here it could come from a table or a search."""
        return {"epochs": 2, "lr": 0.003, "batch_size": 64}

    @task
    def report(selected: dict, training: dict) -> str:
        """Return one line for people; here it could go into a chat."""
        best = selected["checkpoint"]["id"]
        accuracy = selected["metrics"]["accuracy"]
        return f"{best}: accuracy {accuracy:.3f} after {training['seconds']:.0f} s with {training['params']}"

    code = PackageCodeOperator(task_id="package", model="digits", module="digits.py").output
    train = TrainModelOperator(task_id="train", code=code, job_params=choose())
    evaluated = EvaluateCheckpointOperator.partial(task_id="evaluate", code=code).expand(checkpoint=train.output)
    selected = SelectCheckpointOperator(task_id="select", checkpoints=train.output, evaluations=evaluated.output).output
    # What an operator returns is its `.output`; a TrainModelOperator leaves its report under a key of its own.
    report(selected=selected, training=train.output["report"])
