"""The summary of a run: of one that trained, of one that took a version, of one that moved nothing."""

import io
from typing import Any

from modelway.cli.output.summary import Extras, print_summary
from rich.console import Console

VERSION = {"model": "digits", "version": 3, "model_digest": "m", "archive": {"digest": "a", "size": 1000}, "held": None}
VALUES: dict[str, Any] = {
    "package": {"digest": "c", "commit": {"commit": None}},
    "plan": {"plan": {"taken": None}},
    "evaluate.select": {"checkpoint": {"id": "fine-3"}, "rule": "least loss", "metrics": {"loss": 0.5, "worst": None}},
    "freeze.verify": {"rows": 0, "batches": True, "max_abs_difference": 1e-7},
    "freeze.register": VERSION,
    "serve.build_image": {"reference": "r@d", "tag": "v3"},
    "serve.promote": {"url": "http://here", "weights": {"3": 100}},
}


def summary(**changes: Any) -> list[str]:
    values = {**VALUES, **{task.replace("__", "."): value for task, value in changes.items()}}
    text = io.StringIO()
    print_summary(
        Console(file=text),
        xcom=lambda task, key: values.get(task if key == "return_value" else f"{task} {key}"),
        extras=Extras(),
    )
    return text.getvalue().splitlines()


def test_a_run_that_trained() -> None:
    assert summary() == [
        "",
        "digits version 3",
        "  checkpoint     fine-3 (least loss)",
        "  metrics        loss 0.5, worst not finite",
        "  code           c (not in git)",
        "  model          m",
        "  archive        a (1,000 bytes)",
        "  verified       on example rows alone, differs by at most 1.0e-07",
        "  image          r@d (v3)",
        "  endpoint       http://here/v2/models/digits/infer (version 3 100 %)",
    ]


def test_a_run_that_trained_several_candidates() -> None:
    states = {"c01": "dropped", "c02": "selected", "c03": "failed", "c04": "dropped"}
    candidates = [{"id": name, "state": state, "params": {"lr": 0.0125}} for name, state in states.items()]
    printed = summary(**{"evaluate.select sweep": {"selected": "c02", "candidates": candidates}})
    assert printed[4] == "  candidates     c02 of 4 (lr=0.0125); 2 dropped, 1 failed"


def test_a_run_that_reused_a_version() -> None:
    reported = summary(
        plan={"plan": {"reuse_reason": "the run asks for it"}}, evaluate__select=None, freeze__verify=None
    )
    assert reported[2:4] == ["  reused         the run asks for it", "  code           c (not in git)"]


def test_a_run_that_moved_nothing() -> None:
    reported = summary(
        serve__promote=None, freeze__register={**VERSION, "blocked_reason": "the run's parameter rollout is no"}
    )
    assert reported[-1] == "  endpoint       as it was: the run's parameter rollout is no"


def test_what_was_found_in_each_step() -> None:
    counts = {"2": {"requests": 900, "errors": 9}, "3": {"requests": 100, "errors": 1}}
    tests = {"errors": {"e": 0.412, "limit": 66.667}, "split": {"e": 1e-9, "limit": 400.0}}
    step = {"weight": 10, "counts": counts, "action": "promote", "reason": "", "tests": tests}
    alone = {"weight": 100, "counts": {"3": counts["3"]}, "action": "promote", "reason": "", "tests": {}}
    served = {"url": "http://here", "version": 3, "weights": {"3": 100}, "steps": [step, alone]}
    assert summary(serve__promote=served)[-1] == (
        "  judged at 10 % 100 requests, 1 failed (version 2: 900 requests, 9 failed); "
        "evidence errors 0.412 of 66.67, split <0.001 of 400: promote"
    )


def test_steps_of_an_earlier_modelway_have_counts_alone() -> None:
    step = {"weight": 10, "counts": {"3": {"requests": 100, "errors": 1}}}
    served = {"url": "http://here", "version": 3, "weights": {"3": 100}, "steps": [step]}
    assert "endpoint" in summary(serve__promote=served)[-1]
