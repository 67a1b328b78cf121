"""A sweep whose run was cleared with fewer candidates: what Airflow still gives of the others decides nothing."""

from typing import Any

import pytest
from modelway.errors import NothingToSelect
from modelway.operators import select_candidate
from modelway.operators.arguments import check_final
from modelway.operators.choose_candidates import ChooseCandidatesOperator
from modelway.operators.draw_candidates import DrawCandidatesOperator
from modelway.operators.select_candidate import SelectCandidateOperator
from modelway.runs.messages.checkpoints import Checkpoint, StageReport
from modelway.runs.messages.evaluation import Evaluation

CODE = {"model": "tiny", "module": "tiny.py", "uri": "file:///code.zip", "digest": "sha256:c", "size": 1}


class Pushed:
    """The task instance of a context: what a task pushes."""

    def __init__(self) -> None:
        self.xcoms: dict[str, Any] = {}

    def xcom_push(self, *, key: str, value: Any) -> None:
        self.xcoms[key] = value


def run(operator: Any) -> Any:
    ti = Pushed()
    return operator.run({"ti": ti}), ti.xcoms


def returned(name: str, place: int, *, digest: str, stage: str = "short", step: int = 1) -> tuple[Any, Any]:
    """Return the checkpoints and the report of a training."""
    made = Checkpoint(
        **{"id": f"{name}-{stage}-{step}", "uri": "file:///x", "digest": digest, "size": 1, "stage": stage},
        **{"step": step, "candidate": name, "params": {"lr": 1}, "place": place},
    )
    report = StageReport(stage=stage, candidate=name, place=place, seconds=1.0)
    return [made.to_xcom()], report.to_xcom()


def candidates(*names: str) -> list[dict[str, Any]]:
    return [{"id": name, "params": {"lr": 1}, "place": place} for place, name in enumerate(names)]


def test_candidates_say_where_they_are_in_the_list() -> None:
    search = {"method": "grid", "params": {"lr": [1, 2, 3]}}
    drawn, _ = run(DrawCandidatesOperator(task_id="d", code=CODE, search=search))
    assert [(each["id"], each["place"]) for each in drawn] == [("c01", 0), ("c02", 1), ("c03", 2)]
    checkpoints, reports = zip(*(returned(f"c0{n + 1}", n, digest=f"{n}") for n in (0, 2)), strict=True)
    chosen, _ = run(
        ChooseCandidatesOperator(
            task_id="c", candidates=drawn, stage="short", reports=list(reports), checkpoints=list(checkpoints)
        )
    )
    assert [(each["id"], each["place"]) for each in chosen] == [("c01", 0), ("c03", 1)]


def test_a_candidate_that_is_no_more_is_not_selected() -> None:
    """The search had three candidates, its spec was changed to two, and the run was cleared."""
    trained = [returned("c01", 0, digest="a"), returned("c02", 1, digest="b"), returned("c03", 2, digest="old")]
    checkpoints, reports = zip(*trained, strict=True)
    losses = {"c01-short-1": 0.5, "c02-short-1": 0.4, "c03-short-1": 0.1}
    operator = SelectCandidateOperator(
        task_id="s",
        checkpoints=[list(checkpoints)],
        evaluations=[Evaluation(checkpoint=name, metrics={"loss": loss}).to_xcom() for name, loss in losses.items()],
        stages=["short"],
        candidates=[candidates("c01", "c02")],
        reports=[list(reports)],
    )
    selected, xcoms = run(operator)
    assert selected["checkpoint"]["id"] == "c02-short-1"
    assert selected["rule"] == "least loss of 2 checkpoints"
    assert [each["id"] for each in xcoms["sweep"]["candidates"]] == ["c01", "c02"]


def test_a_candidate_that_moved_to_another_place_is_what_was_trained_there() -> None:
    """One failed after the clear, so that the last one moved up, and its former place is no more."""
    trained = [returned("c01", 0, digest="a"), returned("c03", 1, digest="new"), returned("c03", 2, digest="old")]
    trained.append(returned("c03", 2, digest="older", step=2))
    checkpoints, reports = zip(*trained, strict=True)
    chosen, _ = run(
        ChooseCandidatesOperator(
            **{"task_id": "c", "candidates": candidates("c01", "c03"), "stage": "short"},
            **{"reports": list(reports), "checkpoints": list(checkpoints)},
        )
    )
    assert [each["checkpoint"]["digest"] for each in chosen] == ["a", "new"]


def test_a_training_that_failed_is_not_taken_for_one_of_before_at_another_place() -> None:
    checkpoints, reports = zip(returned("c01", 0, digest="a"), returned("c02", 2, digest="old"), strict=True)
    chosen, _ = run(
        ChooseCandidatesOperator(
            **{"task_id": "c", "candidates": candidates("c01", "c02"), "stage": "short"},
            **{"reports": list(reports), "checkpoints": list(checkpoints)},
        )
    )
    assert [each["id"] for each in chosen] == ["c01"]


def test_where_the_task_before_failed_it_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """All candidates failed in the first stage: nobody chose who trains the second one, which Airflow gives as None."""
    about: dict[str, Any] = {"reports": [], "checkpoints": [], "evaluations": []}
    choose = ChooseCandidatesOperator(task_id="c", candidates=candidates("c01"), stage="longer", **about)
    choose.candidates = None
    select = SelectCandidateOperator(
        **{"task_id": "s", "stages": ["short", "longer"], "candidates": [candidates("c01"), []], "reports": [[], []]},
        **{"checkpoints": [[], []], "evaluations": []},
    )
    select.candidates = [candidates("c01"), None]
    check_final(choose)
    with pytest.raises(NothingToSelect, match="no candidate trained the stage 'longer'. See why the task"):
        run(choose)
    check_final(select)
    monkeypatch.setattr(select_candidate, "run_failures", lambda *_: [])
    with pytest.raises(NothingToSelect, match="1 of 1 candidates failed in the stage 'short', at most 0 may: c01. "):
        run(select)
