"""The candidates of a sweep: drawn by the seed alone, halved by their last checkpoints, and what became of each."""

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from modelway.errors import ModelwayError, NothingToSelect
from modelway.job.early_end import early_end
from modelway.lineage.records.version import FailureRecord
from modelway.runs.candidates import candidate_params, survivors
from modelway.runs.messages.candidates import Candidate, Sweep
from modelway.runs.messages.checkpoints import Checkpoint, StageReport
from modelway.runs.messages.evaluation import Evaluation, FailedEvaluation
from modelway.runs.selection import select_checkpoint
from modelway.runs.sweep import Halving, check_failures, next_candidates, sweep_of, training_of
from modelway.spec.search import SearchSection

RANDOM = {
    "method": "random",
    "params": {
        "lr": {"log_uniform": [0.001, 1.0]},
        "momentum": {"uniform": [0.0, 0.5]},
        "width": {"int": [3, 5]},
        "optimizer": ["sgd", "adam"],
    },
    "candidates": 200,
}
BY_LOSS = Halving(eta=2, metric="loss", mode="min", constraints={})


def search(**changes: Any) -> SearchSection:
    return SearchSection.model_validate(RANDOM | changes)


def trained(name: str, stage: str = "short", *, steps: int = 2, **more: Any) -> tuple[StageReport, list[Checkpoint]]:
    """Return what the training of a candidate's stage reports."""
    checkpoints = [
        Checkpoint(
            id=f"{name}-{stage}-{step}",
            uri="file:///x",
            digest=f"sha256:{name}{stage}{step}",
            size=1,
            stage=stage,
            step=step,
            candidate=name,
            params={"lr": 1},
        )
        for step in range(1, steps + 1)
    ]
    return StageReport(stage=stage, candidate=name, seconds=2.0, cpu_seconds=1.5, gpu=1, **more), checkpoints


def candidates(*names: str) -> list[Candidate]:
    return [Candidate(id=name, params={"lr": 1}) for name in names]


def scored(losses: dict[str, float | None], stage: str = "short", *, step: int = 2) -> list[Any]:
    return [Evaluation(checkpoint=f"{name}-{stage}-{step}", metrics={"loss": loss}) for name, loss in losses.items()]


def test_the_same_seed_draws_the_same_candidates_and_more_of_them_leave_the_first_as_they_were() -> None:
    drawn = candidate_params(search(candidates=20), seed=7)
    assert list(drawn) == [f"c{number:02d}" for number in range(1, 21)]
    assert candidate_params(search(candidates=20), seed=7) == drawn
    assert candidate_params(search(candidates=20), seed=8) != drawn
    more = candidate_params(search(candidates=60), seed=7)
    assert {name: more[name] for name in drawn} == drawn
    # One parameter more leaves the values of the others as they were.
    wider = candidate_params(search(candidates=20, params=RANDOM["params"] | {"depth": [1, 2]}), seed=7)
    assert [{**each, "depth": None} for each in wider.values()] == [{**each, "depth": None} for each in drawn.values()]
    # What is drawn for a seed is recorded in versions and must stay.
    assert drawn["c01"]["lr"] == pytest.approx(0.028725971, rel=1e-6)


def test_draws_are_within_their_bounds_and_spread_as_they_should() -> None:
    drawn = list(candidate_params(search(), seed=1).values())
    assert all(0.001 <= each["lr"] <= 1.0 and 0.0 <= each["momentum"] <= 0.5 for each in drawn)
    assert {each["width"] for each in drawn} == {3, 4, 5}
    assert {each["optimizer"] for each in drawn} == {"sgd", "adam"}
    decades = [sum(low <= math.log10(each["lr"]) < low + 1 for each in drawn) for low in (-3, -2, -1)]
    assert min(decades) > 40, "each order of magnitude is as likely as the others"


def test_a_grid_has_every_combination_once_in_order() -> None:
    grid = SearchSection.model_validate({"method": "grid", "params": {"lr": [0.1, 0.01], "width": [8, 16, 32]}})
    found = candidate_params(grid, seed=0)
    assert list(found.values())[:4] == [
        {"lr": 0.1, "width": 8},
        {"lr": 0.1, "width": 16},
        {"lr": 0.1, "width": 32},
        {"lr": 0.01, "width": 8},
    ]
    assert len(found) == grid.size == 6
    assert candidate_params(grid, seed=99) == found


def test_no_two_draws_are_equal_and_too_few_combinations_are_refused() -> None:
    few = {"a": [1, 2], "b": [1, 2, 3]}
    drawn = candidate_params(search(candidates=6, params=few), seed=3)
    assert len({str(each) for each in drawn.values()}) == 6
    # Equal where it counts, though the section cannot know it.
    same = {"a": {"uniform": [1.0, 1.0000000000000002]}}
    with pytest.raises(ModelwayError, match=r"5 candidates are wanted, and 1,000 draws gave \d different ones"):
        candidate_params(search(candidates=5, params=same), seed=0)


@pytest.mark.parametrize(
    ("entered", "eta", "left"), [(27, 3, 9), (9, 3, 3), (10, 3, 3), (2, 3, 1), (1, 2, 1), (8, 2, 4)]
)
def test_one_of_eta_continues_and_at_least_one(entered: int, eta: int, left: int) -> None:
    scores: dict[str, float | None] = {f"c{number}": float(entered - number) for number in range(entered)}
    best = survivors(scores, entered=entered, eta=eta, mode="min")
    assert best == list(scores)[-left:]
    assert survivors(scores, entered=entered, eta=eta, mode="max") == list(scores)[:left]


def test_of_equal_scores_the_earlier_candidate_continues_and_one_without_a_score_never() -> None:
    scores = {"c1": None, "c2": 0.5, "c3": 0.5, "c4": 0.5}
    assert survivors(scores, entered=4, eta=2, mode="min") == ["c2", "c3"]
    assert survivors({"c1": None}, entered=1, eta=3, mode="min") == []


def test_halving_ranks_by_the_last_checkpoint_within_the_constraints() -> None:
    some = candidates("c1", "c2", "c3", "c4")
    reports, checkpoints = zip(*(trained(each.id) for each in some), strict=True)
    evaluations = [
        *scored({"c1": 0.01, "c2": 0.9, "c3": 0.9, "c4": 0.9}, step=1),
        *scored({"c1": 0.8, "c2": 0.3, "c3": 0.2, "c4": None}),
    ]
    about = {"stage": "short", "reports": reports, "checkpoints": [each for those in checkpoints for each in those]}
    chosen = next_candidates(some, **about, evaluations=evaluations, halving=BY_LOSS)
    assert [each.id for each in chosen] == ["c2", "c3"]
    assert [each.checkpoint.id for each in chosen if each.checkpoint] == ["c2-short-2", "c3-short-2"]
    limited = Halving(eta=2, metric="loss", mode="min", constraints={"loss": "> 0.25"})
    chosen = next_candidates(some, **about, evaluations=evaluations, halving=limited)
    assert [each.id for each in chosen] == ["c1", "c2"]
    failed = [FailedEvaluation(checkpoint=f"{each.id}-short-2", error="spoilt") for each in some]
    with pytest.raises(NothingToSelect, match="no candidate is left after the stage 'short' with a usable loss"):
        next_candidates(some, **about, evaluations=failed, halving=BY_LOSS)


def test_all_that_trained_a_stage_continue_without_halving_but_those_that_ended_early_or_failed() -> None:
    some = candidates("c1", "c2", "c3")
    (one, first), (two, second) = trained("c1"), trained("c2", stopped="loss is 9, above 3")
    chosen = next_candidates(some, stage="short", reports=[one, two], checkpoints=[*first, *second])
    assert [each.id for each in chosen] == ["c1"]
    with pytest.raises(NothingToSelect, match="no candidate is left after the stage 'short'"):
        next_candidates(some[1:], stage="short", reports=[two], checkpoints=second)


def test_a_stage_that_the_run_skips_leaves_all_candidates_as_they_are() -> None:
    some = candidates("c1", "c2")
    reports = [StageReport(stage="short", candidate=each.id, skipped=True) for each in some]
    assert next_candidates(some, stage="short", reports=reports, checkpoints=[], halving=BY_LOSS) == some


def test_how_many_candidates_may_fail() -> None:
    some, report = candidates("c1", "c2", "c3"), trained("c2")[0]
    assert check_failures(some, [report], stage="short", allowed=None) == ["c1", "c3"]
    assert check_failures(some, [report], stage="short", allowed=2) == ["c1", "c3"]
    with pytest.raises(NothingToSelect, match="2 of 3 candidates failed in the stage 'short', at most 1 may: c1, c3"):
        check_failures(some, [report], stage="short", allowed=1)
    with pytest.raises(NothingToSelect, match="3 of 3 candidates failed"):
        check_failures(some, [], stage="short", allowed=None)
    about = {"model": "m", "dag_id": "m", "run_id": "r", "stage": "short", "at": datetime(2026, 3, 1, tzinfo=UTC)}
    causes = [("train.short/c1-0123456789", "killed"), ("train.short/c1-0123456789", "ValueError: spoilt")]
    failures = [FailureRecord(**about, key=key, cause=cause, attempt=1) for key, cause in causes]
    with pytest.raises(NothingToSelect, match="at most 2 may: c1, c2, c3; c1: ValueError: spoilt. Look into"):
        check_failures(some, [], stage="short", allowed=None, failures=lambda: failures)
    with pytest.raises(NothingToSelect, match="no candidate trained the stage 'full'"):
        check_failures([], [], stage="full", allowed=None)


def test_what_became_of_each_candidate_and_the_training_of_the_selected_one() -> None:
    everyone = candidates("c1", "c2", "c3", "c4", "c5")
    reports, checkpoints = [], []
    for name in ("c1", "c2", "c3", "c4"):
        stopped = "loss is 9, above 3" if name == "c4" else None
        report, made = trained(name, stopped=stopped)
        reports.append(report)
        checkpoints += made
    for name in ("c1", "c2"):
        report, made = trained(name, "full")
        reports.append(report)
        checkpoints += made
    evaluations = [
        *scored({"c1": 0.5, "c2": 0.6, "c3": 0.7, "c4": 9.0}),
        *scored({"c1": 0.6, "c2": 0.5, "c3": 0.8, "c4": 8.0}, step=1),
        *scored({"c1": 0.2, "c2": 0.3}, "full"),
        *scored({"c1": 0.4, "c2": None}, "full", step=1),
    ]
    selection = select_checkpoint(checkpoints=checkpoints, evaluations=evaluations, metric="loss", mode="min")
    assert selection.checkpoint.id == "c1-full-2"
    sweep = sweep_of(
        method="halving",
        entered={"short": everyone, "full": everyone[:2]},
        reports=reports,
        selection=selection,
        mode="min",
    )
    found = {each.id: (each.state, each.stage, each.checkpoint, each.metrics.get("loss")) for each in sweep.candidates}
    assert found == {
        "c1": ("selected", "full", "c1-full-2", 0.2),
        "c2": ("trained", "full", "c2-full-2", 0.3),
        "c3": ("dropped", "short", "c3-short-2", 0.7),
        "c4": ("stopped", "short", "c4-short-1", 8.0),
        "c5": ("failed", "short", None, None),
    }
    costs = {each.id: (each.seconds, each.cpu_seconds, each.gpu_seconds) for each in sweep.candidates}
    assert costs["c1"] == (4.0, 3.0, 4.0)
    assert costs["c5"] == (None, None, None)
    assert Sweep.from_xcom(sweep.to_xcom()) == sweep
    assert sweep.candidates[3].reason == "loss is 9, above 3"
    # The selected candidate's record is that of a training alone; a stage that it did not reach was skipped.
    own = training_of("c3", stages=["short", "full"], reports=reports)
    assert [(each.stage, each.skipped) for each in own] == [("short", False), ("full", True)]


@pytest.mark.parametrize(
    ("stop", "last", "step", "reason"),
    [
        (None, {"loss": 9.0}, 5, None),
        ({"metric": "loss", "above": 3.0}, {"loss": 3.0}, 5, None),
        ({"metric": "loss", "above": 3.0}, {"loss": 3.5}, 5, "loss is 3.5, above 3"),
        ({"metric": "loss", "above": 3.0, "from_step": 6}, {"loss": 3.5}, 5, None),
        ({"metric": "loss", "above": 3.0}, {"loss": math.nan}, 5, "loss is nan"),
        ({"metric": "loss", "above": 3.0}, {"loss": -math.inf}, 5, "loss is -inf"),
        ({"metric": "accuracy", "below": 0.2}, {"accuracy": 0.1, "loss": 9.0}, 0, "accuracy is 0.1, below 0.2"),
        ({"metric": "accuracy", "below": 0.2}, {"loss": 9.0}, 5, None),
    ],
)
def test_when_a_training_ends_early(
    stop: dict[str, Any] | None, last: dict[str, float], step: int, reason: str | None
) -> None:
    assert early_end(stop, last, step=step) == reason
