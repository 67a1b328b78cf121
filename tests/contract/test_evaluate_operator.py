"""EvaluateCheckpointOperator with jobs of several checkpoints on the real local backend."""

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from modelway.artifacts.store import Artifact, ArtifactStore
from modelway.errors import JobLost
from modelway.job.freezing.rows import read_recorded
from modelway.operators.evaluate import EvaluateCheckpointOperator
from modelway.operators.select import SelectCheckpointOperator
from modelway.runs.messages.message import flat

from tests.job_folders import store_code
from tests.task_instance import Store, Ti

#: a checkpoint's text says what its evaluation does
CODE = """
import os, random, signal
def evaluate(job, checkpoint):
    text = checkpoint.read_text()
    with open(job.folder / 'calls.txt', 'a') as file: file.write(text + ' ')
    if text == 'raise': raise ValueError('spoilt')
    if text == 'kill job': os.kill(os.getppid(), signal.SIGKILL); os.kill(os.getpid(), signal.SIGKILL)
    if text == 'memory': room = bytearray(400 * 2**20); import time; time.sleep(60)
    if text in ('7', '8', '9'):
        job.predictions(labels=[0, 1], scores=[0.2, float(text) / 10], inputs={'x': [1.0, 2.0]})
    if text == '9':
        (left,) = (job.output / 'rows').glob('*0003*.rows.safetensors')
        left.unlink()
        left.symlink_to('/etc/hostname')
    return {'loss': float(text), 'draw': random.random()}
"""


def context() -> Any:
    dag_run = SimpleNamespace(
        dag_id="tiny",
        run_id="now",
        run_type=SimpleNamespace(value="manual"),
        start_date=None,
        run_after=datetime(2026, 3, 10, tzinfo=UTC),
        clear_number=0,
        triggering_user_name="mia",
    )
    ti = Ti(task_id="evaluate", try_number=1, max_tries=2, map_index=0, pushed={})
    return {"dag_run": dag_run, "ti": ti, "task_state_store": Store()}


@pytest.fixture
def evaluator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that makes the operator for checkpoints of these texts."""
    monkeypatch.setenv("MODELWAY_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MODELWAY_LINEAGE_URL", raising=False)
    monkeypatch.delenv("MODELWAY_ARTIFACT_ROOT", raising=False)
    monkeypatch.setenv("AIRFLOW_CONN_MODELWAY_REGISTRY", "http://registry")
    code = {"model": "tiny", "module": "tiny.py", **store_code(tmp_path, CODE).to_dict()}
    store = ArtifactStore(f"file://{tmp_path}/store")

    def make(*texts: str, single: bool = False, **more: Any) -> EvaluateCheckpointOperator:
        made = []
        for step, text in enumerate(texts, start=1):
            (tmp_path / "checkpoint").write_text(text)
            artifact = store.put(tmp_path / "checkpoint", model="tiny").to_dict()
            made.append({"id": f"train-{step:06d}", "stage": "train", "step": step, **artifact})
        given = made[0] if single else made
        return EvaluateCheckpointOperator(task_id="evaluate", code=code, checkpoint=given, **more)

    return make


def calls(tmp_path: Path) -> str:
    return " ".join(sorted(path.read_text().strip() for path in tmp_path.glob("home/jobs/tiny/*/*/g0/calls.txt")))


def losses(results: list[dict[str, Any]]) -> dict[str, Any]:
    return {each["checkpoint"][-1]: each.get("error", each.get("metrics", {}).get("loss")) for each in results}


def test_a_list_of_checkpoints_is_one_job_and_gives_a_list(evaluator, tmp_path):
    results = evaluator("0.3", "nan", "0.1").execute(context())
    assert losses(results) == {"1": 0.3, "2": None, "3": 0.1}
    assert results[1]["not_finite"] == {"loss": "nan"}
    assert calls(tmp_path) == "0.3 nan 0.1"
    assert all(each["seconds"] >= 0 and each["startup_seconds"] > 0 for each in results)
    assert len({each["startup_seconds"] for each in results}) == 1, "it is the job's"


def test_checkpoints_that_are_gone_are_left_out_unless_all_are(evaluator):
    operator = evaluator("0.3", "0.2", "0.1")
    places = [Path(each["uri"].removeprefix("file://")) for each in operator.checkpoint]
    for place in places[:2]:
        place.unlink()
    results = operator.execute(context())
    assert losses(results[:1]) == {"3": 0.1}
    assert [each["error"] for each in results[1:]] == ["it is gone", "it is gone"]
    last = evaluator("0.1")
    places[2].unlink()
    with pytest.raises(AirflowFailException, match="is gone. Run the stage that made it again"):
        last.execute(context())


def test_the_rows_that_were_evaluated_are_stored_once_and_go_on_with_the_selection(evaluator, tmp_path):
    results = evaluator("7", "8", "9", "10").execute(context())
    first, second, linked, without = results
    assert first["rows"]["rows"] == second["rows"]["rows"]
    assert first["rows"]["scores"] != second["rows"]["scores"]
    assert "rows" not in linked, "what it left leads out of the job's folder"
    assert "rows" not in without
    files = {name: tmp_path / name for name in ("rows", "scores")}
    for name, path in files.items():
        store_at(tmp_path).fetch(Artifact.from_dict(second["rows"][name]), to=path)
    found = read_recorded(files["rows"], files["scores"])
    assert found.inputs["x"].tolist() == [1.0, 2.0]
    assert found.scores.tolist() == [[0.2], [0.8]]
    chosen = selected(results)
    assert (chosen["rows"], chosen["metric"]) == (first["rows"], "loss")


def selected(evaluations: list[Any]) -> Any:
    """Return what is selected of checkpoints that all were evaluated."""
    known = {"uri": "file:///c", "digest": "sha256:0", "size": 1}
    checkpoints = [{"id": each["checkpoint"], **known} for each in flat(evaluations)]
    operator = SelectCheckpointOperator(task_id="select", checkpoints=checkpoints, evaluations=evaluations)
    return operator.run({})  # type: ignore[typeddict-item]


def store_at(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(f"file://{tmp_path}/home/artifacts")


def test_the_metrics_are_those_of_jobs_of_one(evaluator):
    together = evaluator("0.3", "0.2", seed=4).execute(context())
    alone = evaluator("0.3", single=True, seed=4).execute(context())
    assert alone["metrics"] == together[0]["metrics"]
    assert alone["checkpoint"] == "train-000001"


def test_a_failed_task_leaves_what_the_others_gave_for_the_selection(evaluator):
    now = context()
    with pytest.raises(AirflowFailException, match="1 of 3 evaluations failed: train-000002: ValueError: spoilt"):
        evaluator("0.3", "raise", "0.1").execute(now)
    left = now["ti"].pushed["return_value"]
    assert losses(left) == {"1": 0.3, "2": "ValueError: spoilt (tiny.py:6 in evaluate)", "3": 0.1}
    chosen = selected([left])
    assert chosen["checkpoint"]["id"] == "train-000003"
    assert chosen["evaluations"][1]["left_out"].startswith("its evaluation failed: ValueError: spoilt")


def test_a_single_one_that_fails_leaves_its_reason(evaluator):
    now = context()
    with pytest.raises(AirflowFailException, match="spoilt"):
        evaluator("raise", single=True).execute(now)
    left = now["ti"].pushed["return_value"]
    assert left == {"format": 1, "checkpoint": "train-000001", "error": left["error"]}
    assert "ValueError: spoilt" in left["error"]


def test_a_job_that_was_killed_is_tried_again_for_what_is_left(evaluator, tmp_path):
    operator, now = evaluator("0.3", "kill job", "0.1"), context()
    with pytest.raises(JobLost):
        operator.execute(now)
    assert losses(now["ti"].pushed["return_value"])["1"] == 0.3
    now = context()
    with pytest.raises(JobLost):
        operator.execute(now)
    assert calls(tmp_path) == "0.3 kill job 0.1 kill job"
    now = context()
    with pytest.raises(AirflowFailException, match="the job died 2 times while it evaluated this checkpoint"):
        operator.execute(now)
    assert calls(tmp_path) == "0.3 kill job 0.1 kill job", "nothing was evaluated that had a result"
    assert list(losses(now["ti"].pushed["return_value"]).values())[::2] == [0.3, 0.1]


def test_one_that_needs_too_much_memory_loses_none_of_the_others(evaluator, tmp_path):
    limits = {"memory_bytes": 200 * 2**20}
    operator, now = evaluator("0.3", "memory", "0.1", options=limits), context()
    with pytest.raises(JobLost, match="out of memory: .*; 1 more are evaluated by the next attempt"):
        operator.execute(now)
    now = context()
    with pytest.raises(AirflowFailException, match="out of memory"):
        operator.execute(now)
    left = losses(now["ti"].pushed["return_value"])
    assert (left["1"], left["3"]) == (0.3, 0.1)
    assert "out of memory" in left["2"]
    assert calls(tmp_path) == "0.3 memory 0.1", "what took too much memory is not tried again with the same"


def test_there_is_time_for_each_checkpoint(evaluator):
    operator = evaluator("0.3", "0.2", "0.1", options={"timeout_seconds": 20})
    operator.execute(context())
    assert operator.options["timeout_seconds"] == 60


def test_the_jobs_key_is_made_of_its_checkpoints_and_not_of_their_place(evaluator):
    first, same, other = evaluator("0.3", "0.2"), evaluator("0.3", "0.2"), evaluator("0.3", "0.2", "0.1")
    assert first.job(context()).key == same.job(context()).key != other.job(context()).key


def test_people_see_which_checkpoints_a_job_has(evaluator):
    assert evaluator("0.3", "0.2", "0.1").which == "train-000001 … train-000003 (3)"
    assert evaluator("0.3").which == evaluator("0.3", single=True).which == "train-000001"


def test_a_rule_that_retries_code_that_raises_brings_back_nothing_that_took_too_much(evaluator, tmp_path):
    options = {"memory_bytes": 200 * 2**20, "retry_rules": {"bad_exit": "retry"}}
    operator = evaluator("memory", "raise", options=options)
    with pytest.raises(JobLost, match="1 more are evaluated by the next attempt"):
        operator.execute(context())
    for _ in range(2):
        with pytest.raises(JobLost, match="2 of 2 evaluations failed"):
            operator.execute(context())
    assert calls(tmp_path) == "memory raise raise", "only the code that raised is tried again"


def test_a_task_whose_only_failure_took_too_much_is_not_tried_again(evaluator, tmp_path):
    options = {"memory_bytes": 200 * 2**20, "retry_rules": {"bad_exit": "retry"}}
    operator = evaluator("memory", "0.1", options=options)
    with pytest.raises(JobLost):
        operator.execute(context())
    with pytest.raises(AirflowFailException, match="out of memory"):
        operator.execute(context())
    assert calls(tmp_path) == "memory 0.1"
