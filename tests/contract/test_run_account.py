"""What fails in a real operator, its job on the local backend, comes to the lineage as it happened."""

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from modelway.errors import DatasetUnavailable, InvalidModelCode
from modelway.lineage.records.version import RunAccount
from modelway.lineage.store import open_lineage
from modelway.operators.base import ModelwayOperator
from modelway.operators.evaluate import EvaluateCheckpointOperator
from modelway.operators.package import PackageCodeOperator
from modelway.operators.train import TrainModelOperator

from tests.job_folders import store_code
from tests.job_tasks import own_home

#: fails until the file "mended" is beside the job's generations
CODE = """
def train(job):
    print("step 1", flush=True)
    if not (job.folder.parent / "mended").exists():
        raise ValueError("no digits")
    with job.checkpoint(step=1) as path:
        path.write_text("weights")
"""


def context(task_id: str = "train.fine", *, attempt: int = 1, map_index: int = -1) -> Any:
    dag_run = SimpleNamespace(
        dag_id="tiny",
        run_id="manual__1",
        run_type=SimpleNamespace(value="manual"),
        start_date=None,
        run_after=datetime(2026, 3, 10, tzinfo=UTC),
        clear_number=0,
        triggering_user_name="mia",
    )
    ti = SimpleNamespace(
        task_id=task_id, try_number=attempt, max_tries=2, map_index=map_index, xcom_push=lambda **_: None
    )
    return {"dag_run": dag_run, "ti": ti}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return own_home(tmp_path, monkeypatch)


def account(home: Path) -> RunAccount:
    return open_lineage(f"sqlite:///{home}/lineage.db").account("manual__1")


def trainer(tmp_path: Path, **more: Any) -> TrainModelOperator:
    code = {"model": "tiny", "module": "tiny.py", **store_code(tmp_path, CODE).to_dict()}
    return TrainModelOperator(task_id="train.fine", code=code, stage="fine", **more)


def test_a_job_that_raises_is_reported_with_its_last_lines_and_is_not_tried_again(home, tmp_path):
    with pytest.raises(AirflowFailException):
        trainer(tmp_path).execute(context())
    (failure,) = account(home).failures
    assert (failure.model, failure.key, failure.stage, failure.attempt) == ("tiny", "train.fine", "fine", 1)
    assert (failure.kind, failure.rule, failure.tried_again) == ("bad_exit", "fail", False)
    assert "ValueError: no digits" in failure.cause
    assert "step 1" in failure.last_lines
    assert failure.job
    assert failure.advice


def test_a_try_that_succeeds_mends_the_one_before(home, tmp_path):
    rules = {"retry_rules": {"bad_exit": "retry"}}
    with pytest.raises(Exception, match="no digits"):
        trainer(tmp_path, options=rules).execute(context())
    (failure,) = account(home).failures
    assert (failure.rule, failure.tried_again, failure.resolved_by) == ("retry", True, None)
    (generation,) = home.glob("jobs/tiny/*/*/g0")
    (generation.parent / "mended").touch()
    trainer(tmp_path, options=rules).execute(context(attempt=2))
    (failure,) = account(home).failures
    assert failure.resolved_by == 2


def test_the_last_attempt_is_not_reported_as_one_that_is_followed(home, tmp_path):
    with pytest.raises(Exception, match="no digits"):
        trainer(tmp_path, options={"retry_rules": {"bad_exit": "retry"}}).execute(context(attempt=3))
    (failure,) = account(home).failures
    assert (failure.rule, failure.tried_again) == ("retry", False)


def test_a_mapped_task_is_named_by_what_it_evaluates(home, tmp_path):
    code = {"model": "tiny", "module": "tiny.py", **store_code(tmp_path, CODE).to_dict()}
    checkpoint = {"id": "fine-2", "uri": "file:///nowhere", "digest": "sha256:" + "0" * 64, "size": 1}
    operator = EvaluateCheckpointOperator(task_id="checkpoint", code=code, checkpoint=checkpoint)
    with pytest.raises(Exception, match="nowhere"):
        operator.execute(context("checkpoint", map_index=3))
    (failure,) = account(home).failures
    assert (failure.key, failure.kind) == ("checkpoint/fine-2", None)


class Raises(ModelwayOperator):
    """Raises what it is given."""

    def __init__(self, *, error: BaseException, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.error = error

    def run(self, context: Any) -> Any:
        raise self.error


@pytest.mark.parametrize(
    ("error", "cause", "advice", "rule"),
    [
        (
            InvalidModelCode("no such file", where="/models/x", do="Write it"),
            "/models/x: no such file",
            "Write it",
            "fail",
        ),
        (
            DatasetUnavailable("the lake is unavailable", known=("a", "b")),
            "the lake is unavailable. Known: a, b",
            "",
            "retry",
        ),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero", "", "retry"),
    ],
)
def test_a_task_that_fails_without_a_job_is_requested_too(home, error, cause, advice, rule):
    with pytest.raises((type(error), AirflowFailException)):
        Raises(error=error, task_id="plan").execute(context("plan", map_index=2))
    (failure,) = account(home).failures
    assert (failure.key, failure.model, failure.kind, failure.job) == ("plan[2]", "tiny", None, None)
    assert (failure.cause, failure.advice, failure.rule) == (cause, advice, rule)


def test_a_task_that_is_skipped_has_not_failed(home):
    with pytest.raises(AirflowSkipException):
        Raises(error=AirflowSkipException("not now"), task_id="plan").execute(context("plan"))
    assert not (home / "lineage.db").exists()


def test_a_first_try_that_succeeds_does_not_open_the_lineage(home, tmp_path):
    (tmp_path / "tiny.py").write_text("def train(job): ...\n")
    PackageCodeOperator(task_id="package", model="tiny", module="tiny.py", folder=str(tmp_path)).execute(context())
    assert not (home / "lineage.db").exists()


def test_a_lineage_that_is_unavailable_hides_no_failure(home, monkeypatch, tmp_path):
    (tmp_path / "taken").write_text("")
    monkeypatch.setenv("MODELWAY_LINEAGE_URL", f"sqlite:///{tmp_path}/taken/lineage.db")
    operator = Raises(error=InvalidModelCode("no such file"), task_id="plan")
    reported = []
    log = SimpleNamespace(error=print, warning=lambda text, *args: reported.append(text % args))
    monkeypatch.setattr(Raises, "log", log)
    with pytest.raises(AirflowFailException, match="no such file"):
        operator.execute(context("plan"))
    assert reported[-1].startswith("the failure is not in the lineage")
