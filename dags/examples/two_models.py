"""Two models in one DAG: side by side from code to a registered version each, then compared."""

from airflow.sdk import DAG, TaskGroup, task
from modelway.operators.evaluate import EvaluateCheckpointOperator
from modelway.operators.freeze import FreezeModelOperator
from modelway.operators.package import PackageCodeOperator
from modelway.operators.register import RegisterModelOperator
from modelway.operators.select import SelectCheckpointOperator
from modelway.operators.train import TrainModelOperator
from modelway.operators.verify import VerifyModelOperator
from modelway.spec.load import models_folder


def registered(model: str, *, epochs: int):
    """Return the tasks' results: the selected checkpoint and the version. A model of other code has another folder."""
    with TaskGroup(model):
        code = PackageCodeOperator(
            task_id="package", model=model, folder=str(models_folder() / "digits"), module="digits.py"
        ).output
        train = TrainModelOperator(
            task_id="train", code=code, job_params={"epochs": epochs, "lr": 0.003, "batch_size": 64}
        )
        evaluated = EvaluateCheckpointOperator.partial(task_id="evaluate", code=code).expand(checkpoint=train.output)
        selected = SelectCheckpointOperator(
            task_id="select", checkpoints=train.output, evaluations=evaluated.output
        ).output
        training = [train.output["report"]]
        archive = FreezeModelOperator(task_id="freeze", code=code, selected=selected, training=training).output
        verified = VerifyModelOperator(task_id="verify", model=model, archive=archive, selected=selected).output
        version = RegisterModelOperator(
            task_id="register", code=code, training=training, selected=selected, archive=archive, verified=verified
        ).output
    return selected, version


with DAG(dag_id="example-two-models", schedule=None, tags=["modelway", "example"], doc_md=__doc__) as dag:
    quick, quick_version = registered("digits-quick", epochs=1)
    careful, careful_version = registered("digits-careful", epochs=2)

    @task
    def compare(selections: list[dict], versions: list[dict]) -> str:
        """Return which is better; a BuildImageOperator could take that version from here."""
        pairs = zip(selections, versions, strict=True)
        selected, version = min(pairs, key=lambda pair: pair[0]["metrics"]["loss"])
        return f"{version['model']} version {version['version']}, loss {selected['metrics']['loss']:.3g}"

    compare([quick, careful], [quick_version, careful_version])
