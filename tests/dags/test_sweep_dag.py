"""The DAG of a sweep: each stage once for every candidate, and who decides between two stages."""

import json

import pytest
from airflow.sdk import TriggerRule
from airflow.serialization.serialized_objects import DagSerialization

STAGES = "train: {params: {width: 8, batch: 64}, stages: [{name: short}, {name: longer}, {name: full}]}\n"
RANDOM = STAGES + "search: {method: random, candidates: 5, parallel: 2, params: {lr: {uniform: [0.0, 1.0]}}}\n"
HALVING = RANDOM.replace("random", "halving").replace("parallel: 2", "eta: 4, allowed_failures: 1") + (
    "select: {metric: accuracy, mode: max, constraints: {loss: '< 2'}}\nevaluate: {params: {batch: 512}}\n"
)
SOME = TriggerRule.ALL_DONE_MIN_ONE_SUCCESS


def ids(dag, group):
    return [task.task_id for task in dag.topological_sort() if task.task_id.startswith(f"{group}.")]


def test_each_stage_is_one_mapped_task_over_the_candidates(dag_of):
    dag = dag_of(RANDOM)
    assert ids(dag, "train") == [
        *("train.candidates_short", "train.short", "train.candidates_longer", "train.longer"),
        *("train.candidates_full", "train.full"),
    ]
    for name in ("short", "longer", "full"):
        task = dag.get_task(f"train.{name}")
        assert task.max_active_tis_per_dagrun == 2
        assert f"train.candidates_{name}" in task.upstream_task_ids
    decide = dag.get_task("train.candidates_longer")
    assert decide.trigger_rule == SOME, "a candidate that failed does not end the sweep"
    assert (decide.eta, decide.allowed_failures) == (None, None)
    # Trained to the end, all checkpoints are evaluated at once.
    assert dag.get_task("evaluate.divide").upstream_task_ids == {"plan", "train.short", "train.longer", "train.full"}


def test_halving_evaluates_a_stage_before_it_decides_who_trains_the_next(dag_of):
    dag = dag_of(HALVING)
    assert ids(dag, "train") == [
        *("train.candidates_short", "train.short", "train.divide_short", "train.evaluate_short"),
        *("train.candidates_longer", "train.longer", "train.divide_longer", "train.evaluate_longer"),
        *("train.candidates_full", "train.full"),
    ]
    decide = dag.get_task("train.candidates_full")
    assert decide.upstream_task_ids == {"train.candidates_longer", "train.longer", "train.evaluate_longer"}
    assert (decide.eta, decide.metric, decide.mode, decide.allowed_failures) == (4, "accuracy", "max", 1)
    assert decide.constraints == {"loss": "< 2.0"}
    assert dag.get_task("evaluate.divide").upstream_task_ids == {"plan", "train.full"}
    select = dag.get_task("evaluate.select")
    assert select.upstream_task_ids >= {"train.evaluate_short", "train.evaluate_longer", "evaluate.checkpoint"}
    assert select.trigger_rule == SOME


def test_no_failed_candidate_is_upstream_of_the_version(dag_of):
    dag = dag_of(HALVING)
    assert dag.get_task("freeze.freeze").upstream_task_ids == {"plan", "evaluate.select"}
    assert dag.get_task("freeze.register").upstream_task_ids == {
        *("plan", "evaluate.select", "freeze.freeze", "freeze.verify"),
    }


def test_an_evaluation_has_the_parameters_of_the_spec_but_those_searched(dag_of):
    spec = HALVING.replace("lr: {uniform: [0.0, 1.0]}", "width: {int: [4, 9]}, batch: {int: [1, 9]}")
    mapped = dag_of(spec).get_task("train.evaluate_short")
    assert mapped.partial_kwargs["job_params"].value == {"batch": 512}, "evaluate.params precede what is searched"


def test_the_tests_of_a_version_get_what_was_searched_but_what_they_set(dag_of):
    tested = "rollout: {acceptance: {params: {width: 3}, command: [python, check.py]}}\n"
    search = "search: {method: grid, params: {width: [4, 9], lr: [0.1, 0.2]}}\n"
    accept = dag_of(STAGES + search + tested).get_task("serve.accept")
    assert accept.searched == ["lr"]
    assert accept.job_params.value == {"width": 3, "batch": 64}
    assert dag_of(STAGES + tested).get_task("serve.accept").searched is None


def test_a_gate_against_a_version_is_evaluated_beside_the_candidates(dag_of):
    dag = dag_of(RANDOM + "verify: {gates: {loss: '<= champion'}}\n")
    assert "evaluate.against_champion" in dag.task_dict
    assert dag.get_task("evaluate.against_champion").upstream_task_ids == {"plan", "evaluate.select"}


@pytest.mark.parametrize("spec", [RANDOM, HALVING, RANDOM.replace("search: {", "search: {stop: {above: 3.0}, ")])
def test_it_can_be_serialised_and_is_the_same_again(dag_of, spec):
    first, second = (json.dumps(DagSerialization.to_dict(dag_of(spec)), sort_keys=True) for _ in range(2))
    assert first == second


def test_the_page_says_what_is_searched(dag_of):
    assert "5 by halving over `lr`, 4 at a time, of which the best of 4 train the next stage" in dag_of(HALVING).doc_md
