"""Only evaluate and select: which of the checkpoints in a folder is the best, wherever they were trained?"""

from pathlib import Path

from airflow.sdk import DAG, Param, task
from modelway.operators.evaluate import EvaluateCheckpointOperator
from modelway.operators.package import PackageCodeOperator
from modelway.operators.select import SelectCheckpointOperator

with DAG(
    dag_id="example-evaluate-only",
    schedule=None,
    tags=["modelway", "example"],
    doc_md=__doc__,
    params={"folder": Param("/tmp/checkpoints", type="string", description="Folder of *.pt files on the worker")},
) as dag:
    code = PackageCodeOperator(task_id="package", model="digits", module="digits.py").output

    @task
    def checkpoints(folder: str) -> list[dict]:
        """Put the files into the artifact store: from there jobs take them, on any machine."""
        # Inside the task: whatever a DAG file imports at its top, every task of it waits for.
        from airflow.sdk.exceptions import AirflowFailException
        from modelway.artifacts.store import ArtifactStore
        from modelway.hooks.settings import load_settings

        store = ArtifactStore(load_settings().artifact_root)
        files = sorted(Path(folder).glob("*.pt"))
        if not files:
            raise AirflowFailException(f"{folder}: there are no *.pt files. Trigger with another folder.")
        return [{"id": file.stem, **store.put(file, model="digits").to_dict()} for file in files]

    found = checkpoints(folder="{{ params.folder }}")
    evaluated = EvaluateCheckpointOperator.partial(task_id="evaluate", code=code).expand(checkpoint=found)
    # all_done_min_one_success: a checkpoint that cannot be loaded is left out, the others are still compared.
    SelectCheckpointOperator(
        task_id="select",
        checkpoints=found,
        evaluations=evaluated.output,
        metric="accuracy",
        mode="max",
        trigger_rule="all_done_min_one_success",
    )
