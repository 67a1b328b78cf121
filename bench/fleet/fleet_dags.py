"""The DAGs of the benchmark: ours, and those of the same tasks and edges whose operators do nothing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

BUNDLE = {"name": "bench", "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle", "kwargs": {}}
#: the task whose result the mapped ones follow
DIVIDE = "evaluate.divide"
SPEC = """model: {name}
train:
  stages: [{{name: warmup}}, {{name: finetune}}]
select: {{metric: loss}}
max_active_runs: 16
"""
CODE = "def train(job): ...\ndef evaluate(job, checkpoint): ...\ndef export(job, checkpoint): ...\n"
#: at the end of the name of an empty one
EMPTY = "_empty"


def name_of(number: int) -> str:
    """Return the name of a model."""
    return f"m{number:04}"


def build(models: int, folder: Path) -> list[Any]:
    """Return the DAGs of so many models."""
    from modelway.dag import load_dags

    place = folder / "models"
    for number in range(models):
        own = place / name_of(number)
        own.mkdir(parents=True)
        (own / "model.yaml").write_text(SPEC.format(name=own.name))
        (own / f"{own.name}.py").write_text(CODE)
    return list(load_dags(place).values())


def emptied(dag: Any) -> Any:
    """Return a DAG with the same tasks and edges, whose operators do nothing."""
    from airflow.sdk import DAG, BaseOperator

    class Empty(BaseOperator):
        def __init__(self, *, item: Any = None, **kwargs: Any) -> None:
            super().__init__(**kwargs)

    with DAG(dag_id=dag.dag_id + EMPTY, schedule=None, max_active_runs=dag.max_active_runs) as empty:
        made: dict[str, Any] = {}
        for task in dag.topological_sort():
            if task.is_mapped:
                source = made[DIVIDE].output
                made[task.task_id] = Empty.partial(task_id=task.task_id).expand(item=source)
            else:
                made[task.task_id] = Empty(task_id=task.task_id, trigger_rule=task.trigger_rule)
        for task in dag.tasks:
            for after in task.downstream_task_ids:
                made[task.task_id] >> made[after]
    return empty


def store(dags: Sequence[Any], session: Any, *, folder: Path) -> None:
    """Write the DAGs into the database, as the DAG processor does."""
    from airflow.dag_processing.collection import update_dag_parsing_results_in_db
    from airflow.models.dagbundle import DagBundleModel
    from airflow.serialization.serialized_objects import LazyDeserializedDAG

    session.merge(DagBundleModel(name="bench"))
    session.commit()
    for dag in dags:
        path = folder / "dags" / f"{dag.dag_id}.py"
        path.write_text("# the DAG is made by the benchmark\n")
        dag.fileloc, dag.relative_fileloc = str(path), path.name
    serialized = [LazyDeserializedDAG.from_dag(dag) for dag in dags]
    update_dag_parsing_results_in_db("bench", None, serialized, {}, None, set(), session)
    session.commit()
