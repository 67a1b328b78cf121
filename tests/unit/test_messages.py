"""Messages between tasks: those of now, those of before they had a format number, and what is no message."""

from typing import Any

import pytest
from modelway.errors import ModelwayError
from modelway.runs.messages.candidates import Candidate, Sweep
from modelway.runs.messages.checkpoints import Checkpoint, StageReport
from modelway.runs.messages.code import CodePackage, RunPlan
from modelway.runs.messages.evaluation import (
    EvaluatedVersion,
    Evaluation,
    FailedEvaluation,
    Selection,
    evaluations_from_xcom,
)
from modelway.runs.messages.message import FORMAT, Message
from modelway.runs.messages.serving import BuiltImage, Deployment, FinishedRollout
from modelway.runs.messages.version import FrozenModel, RegisteredVersion, VerifiedModel

ARTIFACT = {"uri": "file:///store/digits/sha256/aa/bb", "digest": "sha256:aabb", "size": 10}
COST = {
    **{"seconds": 3.5, "cpu_seconds": 2.0, "gpu": 0, "peak_memory_bytes": 1000, "image_digest": None},
    "backend": "local",
}
COMMIT = {"commit": "1" * 40, "branch": "main", "dirty": True, "diff_digest": "sha256:d", "repository": "git@x:y"}
CODE = {"model": "digits", "module": "digits.py", **ARTIFACT, "commit": COMMIT}
CHECKPOINT = {"id": "fine-000002", "stage": "fine", "step": 2, **ARTIFACT}
VERSION = {"model": "digits", "version": 3, "archive": ARTIFACT, "model_digest": "sha256:cc"}
PLAN = {
    "inputs": "sha256:ee",
    "interval": {"start": "2026-03-01T00:00:00+00:00", "end": "2026-03-02T00:00:00+00:00"},
    "partition": "2026-03-01T00:00:00",
    "reason": None,
    "params": {"epochs": 4, "lr": 0.5},
    "datasets": [{"name": "rows", "uri": "/data/rows", "digest": "sha256:ff", "version": None}],
    "base": {"version": 2, "checkpoint": {"id": "fine-000001", **ARTIFACT}},
    "skip": ["warmup"],
    "version": VERSION,
    "taken": "the inputs are those of version 3 (run earlier)",
    "held": "a backfill moves nothing",
    "asked": False,
}
EVALUATION = {
    **{"checkpoint": "fine-000002", "metrics": {"loss": 0.5, "auc": None}, "not_finite": {"auc": "nan"}},
    **{"seconds": 1.5, "startup_seconds": 4.0, "cost": COST},
    "report": {"events": ARTIFACT, "input": "checkpoint.0001.fine"},
    "rows": {"rows": ARTIFACT, "scores": ARTIFACT},
}
CONSIDERED = {
    **{"checkpoint": "fine-000001", "stage": "fine", "step": 1, "digest": "sha256:aabb", "metrics": {}},
    **{"not_finite": {}, "seconds": None, "startup_seconds": None, "left_out": "its evaluation failed"},
}
#: what each operator wrote before messages had a format number, as an Airflow database has it
RECORDED: list[tuple[type[Message], dict[str, Any]]] = [
    (CodePackage, CODE),
    (RunPlan, {**CODE, "plan": PLAN}),
    (Checkpoint, CHECKPOINT),
    (StageReport, {"stage": "fine", **COST, "events": ARTIFACT, "params": {"lr": 0.1}, "seed": 7, "skipped": False}),
    (Evaluation, EVALUATION),
    (EvaluatedVersion, {"reference": "champion", "version": 2, "reason": "", "evaluation": EVALUATION}),
    (FailedEvaluation, {"checkpoint": "fine-000001", "error": "ValueError: spoilt"}),
    (
        Selection,
        {
            **{"checkpoint": CHECKPOINT, "metrics": {"loss": 0.5}, "metric": "loss"},
            **{"rule": "least loss of 2 checkpoints", "evaluations": [CONSIDERED], "cost": COST},
            **{name: EVALUATION[name] for name in ("report", "rows")},
        },
    ),
    (
        FrozenModel,
        {
            **ARTIFACT,
            "model_digest": "sha256:cc",
            "files": [{"path": "model/model.onnx", "size": 1, "sha256": "00", "role": "model"}],
            "description": ARTIFACT,
            "cost": {**COST, "seed": 7, "events": ARTIFACT},
        },
    ),
    (
        VerifiedModel,
        {"members": 9, "sizes": ["1", "2"], "rows": 100, "metric": None, "gates": {"accuracy": [">=", 0.9]}},
    ),
    (RegisteredVersion, {**VERSION, "held": "a later run has a version", "asked": True}),
    (
        BuiltImage,
        {**{"model": "digits", "version": 3, "digest": "sha256:dd"}, "reference": "r@x", "tag": "v3", "size": 9},
    ),
    (
        Deployment,
        {
            **{"endpoint": "digits", "target": "local", "url": "http://127.0.0.1:1", "host": "127.0.0.1", "port": None},
            **{"path": "/models", "version": 3, "weights": {"2": 100, "3": 0}},
        },
    ),
    (
        FinishedRollout,
        {
            **{"endpoint": "digits", "url": "http://127.0.0.1:1", "version": 3, "weights": {"3": 100}},
            "steps": [{"weight": 100, "counts": {"3": {"requests": 5, "errors": 0}}}],
        },
    ),
]
#: what has been written with a format number from the beginning
SINCE: list[tuple[type[Message], dict[str, Any]]] = [
    (Candidate, {"id": "c02", "params": {"lr": 0.1}, "checkpoint": {**CHECKPOINT, "candidate": "c02"}}),
    (
        Sweep,
        {
            "method": "halving",
            "selected": "c02",
            "candidates": [
                {
                    **{"id": "c02", "params": {"lr": 0.1}, "state": "selected", "stage": "fine", "reason": ""},
                    **{"checkpoint": "c02-fine-000002", "metrics": {"loss": 0.5}, "not_finite": {}},
                    **{"seconds": 3.5, "cpu_seconds": 2.0, "gpu_seconds": None},
                }
            ],
        },
    ),
]
RECORDED += SINCE
#: keys of before by those of now
RENAMED = {"held": "blocked_reason", "asked": "requested", "taken": "reuse_reason"}
by_kind = pytest.mark.parametrize(("kind", "recorded"), RECORDED, ids=[f"{kind.__name__}" for kind, _ in RECORDED])


def kinds(of: type[Message] = Message) -> set[type[Message]]:
    """Return all kinds of messages that operators return."""
    found = {each for one in of.__subclasses__() for each in (one, *kinds(one))}
    return {each for each in found if each.__subclasses__() == []}


def test_every_kind_of_message_has_a_recorded_one() -> None:
    assert {kind for kind, _ in RECORDED} == kinds()


@by_kind
def test_a_message_of_before_there_was_a_format_is_read_whole(kind: type[Message], recorded: dict[str, Any]) -> None:
    """A run that is in flight during an upgrade continues with what its tasks wrote before."""
    written = kind.from_xcom(recorded).to_xcom()
    assert written.pop("format") == FORMAT
    known = written.get("plan", written)
    for former, name in RENAMED.items():
        if former in known:
            assert known.pop(name) == known[former]
    # What was not recorded then has its default now.
    assert {name: part for name, part in written.items() if name in recorded} == with_unknown(recorded)
    assert {part for name, part in written.items() if name not in recorded} <= {None}


def with_unknown(recorded: dict[str, Any]) -> dict[str, Any]:
    """Return a recorded message with what nothing is known of as it is written now."""
    if base := recorded.get("plan", {}).get("base"):
        checkpoint = {**base["checkpoint"], "stage": None, "step": None}
        return {**recorded, "plan": {**recorded["plan"], "base": {**base, "checkpoint": checkpoint}}}
    return recorded


@by_kind
def test_a_message_of_now_is_read_as_it_was_written(kind: type[Message], recorded: dict[str, Any]) -> None:
    message = kind.from_xcom(recorded)
    assert kind.from_xcom(message.to_xcom()) == message


@by_kind
def test_a_worker_of_before_reads_a_message_of_now(kind: type[Message], recorded: dict[str, Any]) -> None:
    """While workers are upgraded one after another, a task may run on an older one."""
    written = kind.from_xcom(recorded).to_xcom()
    assert recorded.keys() <= written.keys()
    assert recorded.get("plan", {}).keys() <= written.get("plan", {}).keys()


@by_kind
def test_a_message_of_a_later_modelway_is_refused_with_what_to_do(
    kind: type[Message], recorded: dict[str, Any]
) -> None:
    with pytest.raises(ModelwayError, match=f"has format 2, this modelway reads up to {FORMAT}. Upgrade this worker"):
        kind.from_xcom({**recorded, "format": 2})


@by_kind
def test_keys_that_a_message_does_not_know_are_passed_over(kind: type[Message], recorded: dict[str, Any]) -> None:
    if kind is not VerifiedModel:
        assert kind.from_xcom({**recorded, "of_a_later_one": 1}) == kind.from_xcom(recorded)


def test_a_message_that_lacks_a_key_or_is_another_one_is_refused_with_each_problem() -> None:
    with pytest.raises(
        ModelwayError, match=r"Checkpoint cannot be read \(id: Field required; size: .*integer.*Give the"
    ):
        Checkpoint.from_xcom({"uri": "file:///c", "digest": "sha256:c", "size": "large"})
    with pytest.raises(ModelwayError, match=r"archive\.digest: Field required"):
        RegisteredVersion.from_xcom({**VERSION, "archive": {"uri": "file:///a", "size": 1}})
    with pytest.raises(ModelwayError, match="expected the message Selection of another task, got list"):
        Selection.from_xcom([])


def test_a_code_package_alone_is_the_plan_of_a_dag_without_one() -> None:
    plan = RunPlan.from_xcom(CODE)
    assert plan == RunPlan(code=CodePackage.from_xcom(CODE))
    assert (plan.interval, plan.params, plan.skip, plan.requested) == (None, {}, (), False)


def test_a_plan_holds_its_code_package() -> None:
    plan = RunPlan.from_xcom({**CODE, "plan": PLAN})
    assert plan.code.artifact.to_dict() == ARTIFACT
    assert plan.code.commit.branch == "main"
    assert plan.interval is not None
    assert plan.interval.to_dict() == PLAN["interval"]
    assert (plan.blocked_reason, plan.requested, plan.skip) == ("a backfill moves nothing", False, ("warmup",))
    assert plan.base is not None
    assert plan.base.checkpoint.id == "fine-000001"


def test_evaluations_of_several_jobs_are_one_list() -> None:
    failed = {"checkpoint": "fine-000001", "error": "spoilt"}
    found = evaluations_from_xcom([[EVALUATION, failed], None, EVALUATION])
    assert [type(each).__name__ for each in found] == ["Evaluation", "FailedEvaluation", "Evaluation"]


def test_what_an_evaluation_has_nothing_of_is_left_out() -> None:
    plain = {"checkpoint": "fine-000001", "metrics": {"loss": 0.1}}
    assert not {"cost", "report", "rows"} & Evaluation.from_xcom(plain).to_xcom().keys()
