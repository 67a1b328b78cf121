"""What a task carries of its DAG: little, since Airflow copies, checks and serialises it once per task."""

from airflow.serialization.serialized_objects import DagSerialization


def test_the_form_is_serialised_once_and_not_with_each_task(dag_of):
    serialised = DagSerialization.to_dict(dag_of("params: {epochs: 4}\n"))["dag"]
    assert "epochs" in [name for name, _ in serialised["params"]]
    for task in serialised["tasks"]:
        assert not task["__var"].get("params"), task["__var"]["task_id"]


def test_a_templates_parameter_is_that_of_the_run(dag_of):
    from airflow.sdk.definitions.param import process_params

    dag = dag_of("params: {epochs: 4}\ntrain: {seed: 3}\n")
    task = dag.get_task("train.train")
    given = process_params(dag, task, {"epochs": 5}, suppress_exception=False)
    assert (given["epochs"], given["seed"], given["rollout"]) == (5, 3, "auto")
