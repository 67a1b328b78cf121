"""An operator of your own between the stages of training: here it lets only the last checkpoints through."""

from collections.abc import Sequence
from typing import Any

from airflow.sdk import DAG, BaseOperator, Context
from modelway.operators.evaluate import EvaluateCheckpointOperator
from modelway.operators.package import PackageCodeOperator
from modelway.operators.select import SelectCheckpointOperator
from modelway.operators.train import TrainModelOperator


class KeepLastCheckpointsOperator(BaseOperator):
    """Pass on the last checkpoints of a stage, so that the earlier ones are not evaluated.

    What goes from operator to operator is plain data: ``[{id, stage, step, uri, digest, size}]``.
    """

    template_fields: Sequence[str] = ("checkpoints", "number")

    def __init__(self, *, checkpoints: Any, number: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.checkpoints = checkpoints
        self.number = number

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Return the last ones."""
        kept = list(self.checkpoints)[-self.number :]
        self.log.info("kept %s of %d checkpoints", [each["id"] for each in kept], len(self.checkpoints))
        return kept


with DAG(dag_id="example-custom-operator", schedule=None, tags=["modelway", "example"], doc_md=__doc__) as dag:
    code = PackageCodeOperator(task_id="package", model="digits", module="digits.py").output
    warmup = TrainModelOperator(
        task_id="warmup", stage="warmup", code=code, job_params={"epochs": 2, "lr": 0.003, "batch_size": 64}
    ).output
    kept = KeepLastCheckpointsOperator(task_id="keep_last", checkpoints=warmup).output
    # The stage starts from the last of the checkpoints that it is given, and returns them together with its own.
    finetune = TrainModelOperator(
        task_id="finetune",
        stage="finetune",
        code=code,
        start_from=kept,
        job_params={"epochs": 1, "lr": 0.001, "batch_size": 64},
    ).output
    evaluated = EvaluateCheckpointOperator.partial(task_id="evaluate", code=code).expand(checkpoint=finetune)
    SelectCheckpointOperator(task_id="select", checkpoints=finetune, evaluations=evaluated.output)
