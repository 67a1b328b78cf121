"""One measurement in a process of its own: CPU seconds as JSON on the last line of standard output."""

import json
import sys
import time

SAMPLES = 5


def tasks_of_digits() -> dict[str, list[str]]:
    """The tasks of the model digits with those before each, in an order in which they can be made."""
    from modelway.dag import load_dags

    dag = load_dags()["digits"]
    return {task.task_id: sorted(task.upstream_task_ids) for task in dag.topological_sort()}


def load(folder: str) -> dict[str, float]:
    """Parse a folder of DAG files and serialise its DAGs, as the dag-processor does."""
    from airflow.dag_processing.dagbag import DagBag
    from airflow.serialization.serialized_objects import DagSerialization

    DagBag(dag_folder="/dev/null")
    began = time.process_time()
    bag = DagBag(dag_folder=folder)
    parsed = time.process_time()
    for dag in bag.dags.values():
        DagSerialization.to_dict(dag)
    serialised = time.process_time()
    if bag.import_errors:
        raise SystemExit(f"import errors: {bag.import_errors}")
    tasks = sum(len(dag.tasks) for dag in bag.dags.values())
    return {"dags": len(bag.dags), "tasks": tasks, "parse": parsed - began, "serialise": serialised - parsed}


def start(folder: str) -> dict[str, float]:
    """Load the one DAG that a task of it needs; the caller sets Airflow's parsing context."""
    from airflow.dag_processing.dagbag import DagBag

    began = time.process_time()
    bag = DagBag(dag_folder=f"{folder}/models.py")
    return {"dags": len(bag.dags), "parse": time.process_time() - began, "whole": time.process_time()}


def imported(module: str) -> dict[str, float]:
    """Import a module."""
    __import__(module)
    return {"whole": time.process_time()}


def names_of_sdk() -> dict[str, float]:
    """Import what a hand-written DAG file of operators imports: airflow.sdk gives its names lazily."""
    from airflow.sdk import DAG, BaseOperator, Param, TaskGroup  # noqa: F401

    return {"whole": time.process_time()}


if __name__ == "__main__":
    what, *words = sys.argv[1:]
    actions = {"tasks": tasks_of_digits, "load": load, "start": start, "import": imported, "sdk": names_of_sdk}
    print(json.dumps(actions[what](*words)))
