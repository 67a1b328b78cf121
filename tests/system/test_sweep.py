"""A sweep on a real Airflow: one candidate raises, one is killed once, and the run is cleared."""

import pytest
from conftest import wait_for
from modelway.cli.candidate_jobs import first_key
from modelway.names import slug
from modelway.runs.candidates import candidate_params
from modelway.spec.load import load_spec

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]
#: the model of tests/system/models
MODEL = "swept"


def test_the_best_candidate_becomes_the_version_though_one_raised_and_one_was_killed(lab):
    assert lab.finish(MODEL) == "success", lab.states(MODEL)
    states = lab.states(MODEL)
    assert [states[f"train.short[{place}]"] for place in range(4)] == ["success", "success", "failed", "success"]
    # Of the four that entered two continue: those of the rates 0.3 and 0.5.
    assert [states[f"train.full[{place}]"] for place in range(2)] == ["success", "success"]
    assert "train.full[2]" not in states
    chosen = lab.xcom(MODEL, "train.candidates_full")
    assert [(each["id"], each["params"]) for each in chosen] == [("c02", {"rate": 0.3}), ("c04", {"rate": 0.5})]
    assert "failed in the stage 'short': c03" in lab.log(MODEL, "train.candidates_full")
    attempts = {(task.task_id, task.map_index): task.try_number for task in lab.api.tasks(MODEL, lab.runs[MODEL])}
    assert [attempts["train.short", place] for place in range(4)] == [1, 2, 1, 1], "only what was killed runs again"
    assert "resuming from checkpoint short-000001" in lab.log(MODEL, "train.short", try_number=2, map_index=1)

    detail = lab.lineage.version(MODEL, 1)
    assert {each.name: (each.state, each.stage) for each in detail.run.candidates} == {
        "c01": ("dropped", "short"),
        "c02": ("trained", "full"),
        "c03": ("failed", "short"),
        "c04": ("selected", "full"),
    }
    assert "the rate -1.0 is negative" in detail.run.candidates[2].reason
    assert detail.summary.checkpoint == "c04-full-000002"
    assert detail.summary.metrics == pytest.approx({"loss": 0.5**6 * 204 / 64 / 8})
    # The record is that of the selected candidate, as if it had been trained alone.
    assert detail.params == {"short": {"steps": 1, "rate": 0.5}, "full": {"steps": 2, "rate": 0.5}}
    assert [stage.name for stage in detail.run.stages] == ["short", "full", "evaluate", "freeze"]
    assert {each.checkpoint for each in detail.evaluations} == {
        *("c01-short-000001", "c02-short-000001", "c04-short-000001"),
        *("c02-full-000001", "c02-full-000002", "c04-full-000001", "c04-full-000002"),
    }
    assert lab.lineage.weights(MODEL) == {1: 100}
    assert lab.xcom(MODEL, "serve.accept") == {"metrics": {"rate": 0.5}}
    # What `modelway render` prints of the first stage has the names that jobs get.
    spec = load_spec(lab.models / MODEL)
    drawn = candidate_params(spec.search, seed=spec.train.seed)
    jobs = {job.name for job in (lab.home / "jobs" / MODEL).glob("*/train-short-c*")}
    assert jobs == {slug(first_key(spec, name, params)) for name, params in drawn.items()}


def test_a_cleared_run_finds_its_finished_candidates_again(lab):
    assert lab.finish(MODEL) == "success"
    run_id = lab.runs[MODEL]
    jobs = [job for stage in ("short", "full") for job in (lab.home / "jobs" / MODEL).glob(f"*/train-{stage}-c*")]
    assert len(jobs) == 6
    before = {attempt for job in jobs for attempt in job.glob("g*/try-*")}
    lab.api.clear(MODEL, run_id)
    assert lab.finish(MODEL) == "success", lab.states(MODEL)
    after = {attempt for job in jobs for attempt in job.glob("g*/try-*")}
    # The one that raised does so again; nothing that succeeded is trained again.
    assert {attempt.parents[1].name.split("-")[2] for attempt in after - before} <= {"c03"}
    assert [version.number for version in lab.lineage.versions(MODEL)] == [1]


def test_a_sweep_in_which_all_candidates_fail_says_why_and_registers_nothing(lab):
    assert lab.finish("all-raise") == "failed"
    states = lab.states("all-raise")
    assert [states[f"train.short[{place}]"] for place in range(2)] == ["failed", "failed"]
    assert states["train.candidates_full"] == states["evaluate.select"] == "failed"
    assert states["freeze.register"] == states["serve.deploy"] == "upstream_failed"
    reason = "2 of 2 candidates failed in the stage 'short', at most 1 may: c01, c02; c01: ValueError: no data for"
    for task in ("train.candidates_full", "evaluate.select"):
        assert reason in lab.log("all-raise", task)
    assert "all-raise" not in {model.name for model in lab.lineage.models()}
    (account,) = lab.lineage.accounts_of_run(dag_id="all-raise", run_id=lab.runs["all-raise"])
    causes = {failure.key.partition("-")[0]: failure.cause for failure in account.failures}
    assert "ValueError: no data for the rate 0.1" in causes["train.short/c01"]
    assert "ValueError: no data for the rate 0.3" in causes["train.short/c02"]
    wait_for(lambda: [event["eventType"] for event in lab.events("all-raise")] == ["START", "FAIL"])
    assert reason in lab.events("all-raise")[-1]["run"]["facets"]["errorMessage"]["message"]
