"""Trainings that are expanded over parameters: a job, a stage and checkpoints of its own for each, and one list."""

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, task_group
from modelway.errors import NothingToSelect
from modelway.operators.evaluate import EvaluateCheckpointOperator
from modelway.operators.select import SelectCheckpointOperator
from modelway.operators.train import TrainModelOperator
from modelway.runs.messages.checkpoints import checkpoints_from_xcom
from modelway.runs.messages.message import flat

CODE = {"model": "tiny", "module": "tiny.py", "uri": "file:///code.zip", "digest": "sha256:c", "size": 1}


def job(index: int, **given: Any) -> Any:
    """Return the job of one mapped training."""
    run = SimpleNamespace(dag_id="tiny", run_id="now", clear_number=0)
    ti = SimpleNamespace(task_id="train", map_index=index)
    with DAG("tiny", schedule=None):
        if index < 0:
            operator = TrainModelOperator(task_id="train", code=CODE, **given)
        else:
            mapped = {name: [value] for name, value in given.items()}
            operator = TrainModelOperator.partial(task_id="train", code=CODE).expand(**mapped).unmap(given)
    return operator.job({"ti": ti, "dag_run": run})  # type: ignore[typeddict-item]


def checkpoint(name: str, **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "stage": "train",
        "step": 1,
        "uri": f"file:///{name}",
        "digest": f"sha256:{name}",
        "size": 1,
    } | more


def test_each_training_has_a_job_and_a_stage_of_its_own() -> None:
    first, second = job(0, job_params={"lr": 1}), job(1, job_params={"lr": 2})
    assert (first.stage, second.stage) == ("train-0", "train-1")
    assert first.name(1) != second.name(1)
    assert (first.params, second.params) == ({"lr": 1}, {"lr": 2})
    assert job(-1, job_params={"lr": 1}).stage == "train"
    assert job(-1, job_params={"lr": 1}).key == "train"


def test_a_training_in_a_mapped_group_is_one_of_several_too() -> None:
    with DAG("tiny", schedule=None) as dag:

        @task_group
        def each(rate: float) -> None:
            TrainModelOperator(task_id="train", code=CODE, job_params={"lr": rate})

        each.expand(rate=[1, 2])
    run = SimpleNamespace(dag_id="tiny", run_id="now", clear_number=0)
    context: Any = {"ti": SimpleNamespace(task_id="each.train", map_index=1), "dag_run": run}
    operator = dag.get_task("each.train")
    operator.job_params = {"lr": 2}
    assert operator.job(context).stage == "train-1"


@pytest.mark.parametrize(
    "changed", [{"job_params": {"lr": 2}}, {"seed": 5}, {"command": ["a"]}, {"start_from": [checkpoint("x")]}]
)
def test_a_place_that_is_given_something_else_after_a_clear_continues_no_job_of_before(changed: Any) -> None:
    before = {"job_params": {"lr": 1}}
    assert job(0, **before).name(1) == job(0, **before).name(1)
    assert job(0, **before).name(1) != job(0, **{**before, **changed}).name(1)


def test_the_results_of_all_are_one_list() -> None:
    start = checkpoint("warmup-1")
    given = [[start, checkpoint("train-0-1")], None, [start, checkpoint("train-1-1")]]
    assert [each.id for each in checkpoints_from_xcom(given)] == ["warmup-1", "train-0-1", "train-1-1"]
    assert [each["id"] for each in flat(given)] == ["warmup-1", "train-0-1", "warmup-1", "train-1-1"]
    evaluations = [
        [{"checkpoint": "train-0-1", "metrics": {"loss": 0.5}}],
        {"checkpoint": "train-1-1", "metrics": {"loss": 0.1}},
    ]
    operator = SelectCheckpointOperator(task_id="select", checkpoints=given, evaluations=evaluations)
    chosen: Any = operator.run({})  # type: ignore[typeddict-item]
    assert chosen["checkpoint"]["id"] == "train-1-1"


def test_two_checkpoints_of_one_name_are_refused() -> None:
    with pytest.raises(NothingToSelect, match="two checkpoints are called train-1: .* Give each training a stage"):
        checkpoints_from_xcom([[checkpoint("train-1")], [checkpoint("train-1", digest="sha256:other")]])


CANDIDATE = {"id": "c02", "params": {"lr": 2, "width": 8}}


def test_a_candidate_has_the_stage_its_own_parameters_and_a_job_that_a_clear_finds_again() -> None:
    first = job(1, candidate=CANDIDATE, job_params={"lr": 1, "epochs": 3})
    assert (first.stage, first.params) == ("train", {"lr": 2, "width": 8, "epochs": 3})
    assert first.key.startswith("train/c02-")
    assert first.inputs == {}
    # Another place in the list, as after a clear that left others out, is the same job.
    assert job(0, candidate=CANDIDATE, job_params={"lr": 1, "epochs": 3}) == first
    assert first.clear_number == 0
    started = job(1, candidate=CANDIDATE | {"checkpoint": checkpoint("c02-short-1")}, job_params={"lr": 1, "epochs": 3})
    assert started.inputs["checkpoint"].digest == "sha256:c02-short-1"
    others = [
        job(1, candidate=CANDIDATE | {"params": {"lr": 3, "width": 8}}),
        job(1, candidate=CANDIDATE | {"id": "c03"}),
        started,
    ]
    assert len({first.key, *(each.key for each in others)}) == 4


def test_a_candidate_ends_early_where_its_search_says_so_and_nothing_else_does() -> None:
    stop = {"metric": "loss", "above": 3.0}
    assert job(1, candidate=CANDIDATE, stop=stop).contract()["stop"] == stop
    assert "stop" not in job(1, candidate=CANDIDATE).contract()
    assert "stop" not in job(-1, stop=stop).contract()


def test_an_evaluation_gets_the_parameters_of_each_candidate_but_those_that_it_sets_itself() -> None:
    run = SimpleNamespace(dag_id="tiny", run_id="now", clear_number=0)
    context: Any = {"ti": SimpleNamespace(task_id="evaluate", map_index=0), "dag_run": run}
    some = [
        checkpoint(name, candidate=name[:3], params={"lr": number, "width": 8})
        for number, name in enumerate(("c01-train-1", "c02-train-1"))
    ]
    operator = EvaluateCheckpointOperator(task_id="evaluate", code=CODE, checkpoint=some, job_params={"width": 4})
    operator._present = operator.checkpoints
    known = operator.job(context).contract()
    assert known["params"] == {"width": 4}
    assert [each["params"] for each in known["checkpoints"].values()] == [{"lr": 0}, {"lr": 1}]
