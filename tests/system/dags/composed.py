"""An author's own Airflow DAGs, composed of modelway's operators."""

import json
import os
import time
from pathlib import Path

from airflow.sdk import DAG, BaseOperator, TriggerRule, task
from modelway.operators.divide import DivideCheckpointsOperator
from modelway.operators.evaluate import EvaluateCheckpointOperator
from modelway.operators.package import PackageCodeOperator
from modelway.operators.select import SelectCheckpointOperator
from modelway.operators.train import TrainModelOperator
from modelway.triggers.rollout import RolloutTrigger

CODE = Path("CODE_FOLDER")
QUICK = {"retries": 0}
#: backend and options of jobs on Vertex AI
VERTEX = json.loads(os.environ.get("LAB_VERTEX", "{}"))


def select_only(name: str, *, code: str, params: dict, per_job: int = 1, place: dict | None = None) -> DAG:
    """Train, evaluate, select; then a task of the author's own."""
    with DAG(dag_id=name, schedule=None, default_args=QUICK) as dag:
        package = PackageCodeOperator(task_id="package", model=name, folder=str(CODE / code), module=f"{code}.py")
        train = TrainModelOperator(task_id="train", code=package.output, job_params=params, **(place or {}))
        shares = train.output
        if per_job > 1:
            shares = DivideCheckpointsOperator(
                task_id="divide", code=package.output, checkpoints=train.output, per_job=per_job
            ).output
        evaluate = EvaluateCheckpointOperator.partial(
            task_id="evaluate",
            code=package.output,
            job_params=params,
            map_index_template="{{ task.which }}",
            **(place or {}),
        ).expand(checkpoint=shares)
        select = SelectCheckpointOperator(
            task_id="select",
            checkpoints=train.output,
            evaluations=evaluate.output,
            trigger_rule=TriggerRule.ALL_DONE_MIN_ONE_SUCCESS,
        )

        @task
        def report(selected: dict) -> str:
            return selected["checkpoint"]["id"]

        report(select.output)
    return dag


some_nan = select_only("some-nan", code="nan", params={"losses": ["nan", 0.5, 0.25, "inf"]}, place=VERTEX)
all_nan = select_only("all-nan", code="nan", params={"losses": ["nan", "inf"]})
truncated = select_only("truncated", code="truncated", params={})
#: two jobs of three checkpoints, one of each kills its process
crashes = select_only("crashes", code="crashes", params={"losses": [4, "crash", 2, 1, 3, "crash"]}, per_job=3)
unloadable = select_only("unloadable", code="truncated", params={"refuse": '{"loss": 0.5}'})

for seconds in (30, 121, 122):
    with DAG(dag_id=f"slow-{seconds}", schedule=None, default_args=QUICK) as slow:
        code = PackageCodeOperator(
            task_id="package", model=f"slow-{seconds}", folder=str(CODE / "slow"), module="slow.py"
        )
        TrainModelOperator(task_id="train", code=code.output, job_params={"seconds": seconds})
    globals()[f"slow_{seconds}"] = slow


class WaitOperator(BaseOperator):
    """Waits as a rollout does between two of its steps."""

    def execute(self, context):
        trigger = RolloutTrigger(until=time.time() + 600, endpoint="elsewhere", target="local", run="waits/1")
        self.defer(trigger=trigger, method_name="resume")

    def resume(self, context, event):
        raise AssertionError("nobody ended the task")


with DAG(dag_id="waits", schedule=None, default_args=QUICK):
    WaitOperator(task_id="wait")
