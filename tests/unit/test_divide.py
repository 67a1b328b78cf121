"""The batches that the run's task makes, by what the lineage knows of the model's last version."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from modelway.lineage.records.version import EvaluationRecord
from modelway.lineage.store import Lineage, open_lineage
from modelway.operators.divide import DivideCheckpointsOperator
from modelway.operators.evaluate import EvaluateCheckpointOperator
from modelway.runs.messages.checkpoints import Checkpoint

from tests.lineage_samples import CODE, make_record

CHECKPOINTS = [
    Checkpoint(id=f"fine-{step}", uri="file:///c", digest=f"sha256:{step}", size=1, stage="fine", step=step).to_xcom()
    for step in range(1, 7)
]


@pytest.fixture
def lineage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lineage:
    monkeypatch.setenv("MODELWAY_HOME", str(tmp_path))
    monkeypatch.delenv("MODELWAY_LINEAGE_URL", raising=False)
    monkeypatch.setenv("AIRFLOW_CONN_MODELWAY_REGISTRY", "http://registry")
    return open_lineage(f"sqlite:///{tmp_path}/lineage.db")


def batches(**how: Any) -> list[int]:
    operator = DivideCheckpointsOperator(task_id="d", code=CODE, checkpoints=CHECKPOINTS, parallel=2, **how)
    divided = operator.run({})
    assert [one for batch in divided for one in batch] == CHECKPOINTS
    return [len(batch) for batch in divided]


def test_a_run_of_one_process_starts_one_job_since_no_two_would_run_at_the_same_time(lineage: Lineage) -> None:
    operator = DivideCheckpointsOperator(task_id="d", code=CODE, checkpoints=CHECKPOINTS, parallel=2)
    assert operator.run({"dag_run": SimpleNamespace(triggering_user_name="dag_test")}) == [CHECKPOINTS]
    assert len(operator.run({"dag_run": SimpleNamespace(triggering_user_name="anne")})) == 2


def took(startup: float | None, *seconds: float | None) -> dict[str, Any]:
    return {
        "evaluations": [
            EvaluationRecord(checkpoint=f"c{place}", metrics={}, seconds=each, startup_seconds=startup)
            for place, each in enumerate(seconds)
        ]
    }


def test_a_first_version_is_evaluated_by_as_many_jobs_as_run_at_the_same_time(lineage: Lineage) -> None:
    assert batches() == [3, 3]


def test_long_evaluations_of_the_last_version_give_each_checkpoint_its_job(lineage: Lineage) -> None:
    lineage.register(make_record("first", **took(2.0, 100.0, 90.0, None, 110.0)))
    assert batches() == [1] * 6


def test_short_ones_share_their_jobs(lineage: Lineage) -> None:
    lineage.register(make_record("first", **took(2.0, 100.0)))
    lineage.register(make_record("second", **took(5.0, 0.2)))
    assert batches() == [3, 3]


def test_a_version_of_before_the_times_were_recorded_tells_nothing(lineage: Lineage) -> None:
    lineage.register(make_record("first", **took(None, None)))
    assert batches() == [3, 3]


def test_a_number_is_not_second_guessed(lineage: Lineage) -> None:
    lineage.register(make_record("first", **took(5.0, 0.2)))
    assert batches(per_job=1) == [1] * 6


def test_a_lineage_that_does_not_answer_stops_nothing(
    lineage: Lineage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder.db").mkdir()
    monkeypatch.setenv("MODELWAY_LINEAGE_URL", f"sqlite:///{tmp_path}/folder.db")
    assert batches() == [3, 3]


def test_what_the_evaluations_took_is_recorded_with_the_version(lineage: Lineage) -> None:
    lineage.register(make_record("first", **took(2.0, 1.5)))
    (evaluation,) = lineage.version("digits", 1).evaluations
    assert (evaluation.seconds, evaluation.startup_seconds) == (1.5, 2.0)


def test_a_version_of_more_than_a_thousand_checkpoints_is_recorded_whole(lineage: Lineage) -> None:
    evaluations = [EvaluationRecord(checkpoint=f"fine-{step:06d}", metrics={"loss": step}) for step in range(1, 1501)]
    lineage.register(make_record("first", evaluations=evaluations))
    assert len(lineage.version("digits", 1).evaluations) == 1500


def test_of_no_checkpoints_there_is_one_empty_batch_which_needs_no_job(lineage: Lineage) -> None:
    """Airflow skips a task that is expanded over nothing, and then the one that says that all trainings failed."""
    divided = DivideCheckpointsOperator(task_id="d", code=CODE, checkpoints=[None, []]).run({})
    assert divided == [[]]
    evaluate = EvaluateCheckpointOperator(task_id="e", code=CODE, checkpoint=divided[0])
    assert evaluate.run({}) == []
    assert evaluate.which == "none"
