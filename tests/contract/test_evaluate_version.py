"""A new version against the champion: real evaluation jobs of both, each by its own code, and the gates."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred
from modelway.artifacts.store import ArtifactStore
from modelway.backends.base import Handle
from modelway.errors import VerificationFailed
from modelway.hooks.backend import backend_from_airflow
from modelway.lineage.store import open_lineage
from modelway.operators.evaluate import EvaluateCheckpointOperator
from modelway.operators.evaluate_version import EvaluateVersionOperator
from modelway.operators.select import SelectCheckpointOperator
from modelway.operators.verify import VerifyModelOperator

from tests.job_folders import ended, store_code
from tests.lineage_samples import make_record
from tests.task_instance import Ti

#: a checkpoint says which rows it answers wrongly: every so many-th
EVALUATE = """
def evaluate(job, checkpoint):
    every = int(checkpoint.read_text())
    rows = int(job.params.get('rows', 400))
    labels = [row % 2 for row in range(rows)]
    right = [bool(row % every) for row in range(rows)]
    scores = [0.9 if (label == 1) == good else 0.1 for label, good in zip(labels, right)]
    {recorded}
    return {{{metrics}}}
"""
PREDICTIONS = "job.predictions(labels=labels, scores=scores)"
ACCURACY = "'loss': 1 - sum(right) / rows, 'accuracy': sum(right) / rows"
CODE = EVALUATE.format(recorded=PREDICTIONS, metrics=ACCURACY)
#: the champion's code is older: it calls the metric otherwise, and needs a parameter of its own
OLDER = EVALUATE.format(recorded=f"assert job.params['width'] == 8; {PREDICTIONS}", metrics="'acc': sum(right) / rows")
LOSSES = "losses = [1.0 if good else 3.0 + row % 3 for row, good in enumerate(right)]; "
PER_ROW = LOSSES + "job.row_metrics(values={'loss': losses}, rows=list(range(rows)))"
MEAN_LOSS = "'loss': sum(losses) / rows"


def context(task: str, *, run: int, run_type: str = "scheduled") -> Any:
    dag_run = SimpleNamespace(
        dag_id="tiny",
        run_id=f"run{run}",
        run_type=SimpleNamespace(value=run_type),
        start_date=None,
        run_after=datetime(2026, 3, 10, tzinfo=UTC),
        clear_number=0,
        triggering_user_name="mia",
    )
    own = {"task_id": task, "dag_id": dag_run.dag_id, "run_id": dag_run.run_id, "map_index": -1}
    return {"dag_run": dag_run, "ti": Ti(**own, try_number=1, max_tries=2, pushed={})}


class Against:
    """A model with versions in a lineage, and a run that compares a new one with them."""

    def __init__(self, tmp_path: Path, url: str) -> None:
        self.tmp_path, self.lineage = tmp_path, open_lineage(url)
        self.store = ArtifactStore(f"file://{tmp_path}/home/artifacts")
        self.count = 0

    def checkpoint(self, text: str) -> dict[str, Any]:
        path = self.tmp_path / "checkpoint"
        path.write_text(text)
        stored = self.store.put(path, model="tiny").to_dict()
        return {"id": f"train-{int(text):06d}", "stage": "train", "step": 1, **stored}

    def code(self, text: str) -> dict[str, Any]:
        self.count += 1
        folder = self.tmp_path / f"code{self.count}"
        store_code(folder, text)
        return {"model": "tiny", "module": "tiny.py", **self.store.put(folder / "code.zip", model="tiny").to_dict()}

    def champion(self, every: str, code: str = OLDER) -> int:
        """Register a version with the alias champion; return its number."""
        checkpoint, package = self.checkpoint(every), self.code(code)
        record = make_record(run_id=f"run {self.count}", model="tiny")
        spec = {"code": "tiny.py", "params": {"width": {"default": 4}}, "train": {"params": {"more": 1}}}
        run = replace(record.run, code_digest=package["digest"], spec=spec)
        return self.lineage.register(
            replace(
                record,
                run=run,
                params={"train": {"width": 8, "more": 1}},
                checkpoint=checkpoint["id"],
                checkpoint_digest=checkpoint["digest"],
                checkpoint_uri=checkpoint["uri"],
                alias="champion",
            )
        )

    def evaluated(self, code: dict[str, Any], *, version: str = "champion", **more: Any) -> dict[str, Any]:
        """Run the evaluation of a version."""
        found: dict[str, Any] = EvaluateVersionOperator(task_id="against", code=code, version=version).execute(
            context("against", run=self.count, **more)
        )
        return found

    def verified(
        self, every: str, gates: dict[str, str], *, code: str = CODE, between: Any = None, **params: Any
    ) -> Any:
        """Evaluate a new version and the champion, and check the gates."""
        package = self.code(code)
        checkpoint = self.checkpoint(every)
        task = EvaluateCheckpointOperator(
            task_id="evaluate", code=package, checkpoint=checkpoint, job_params=params, row_metrics=True
        )
        evaluation = task.execute(context("evaluate", run=self.count))
        selected = SelectCheckpointOperator(
            task_id="select", checkpoints=[checkpoint], evaluations=[evaluation], metric="loss"
        ).execute(context("select", run=self.count))
        compared = [self.evaluated(package)]
        if between:
            between()
        verify = VerifyModelOperator(
            task_id="verify", model="tiny", archive={}, selected=selected, gates=gates, compared=compared
        )
        folder = self.tmp_path / "verify"
        (folder / "output").mkdir(parents=True, exist_ok=True)
        (folder / "output" / "verify.json").write_text(json.dumps({"rows": 0}))
        nothing: Any = None
        return verify.collect(context("verify", run=self.count), job=nothing, folder=folder, status=nothing)


@pytest.fixture
def against(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Against:
    monkeypatch.setattr("modelway.operators.job_operator.PATIENCE_SECONDS", 200.0)
    url = f"sqlite:///{tmp_path}/lineage.db"
    monkeypatch.setenv("MODELWAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MODELWAY_LINEAGE_URL", url)
    monkeypatch.setenv("MODELWAY_ARTIFACT_ROOT", f"file://{tmp_path}/home/artifacts")
    monkeypatch.setenv("AIRFLOW_CONN_MODELWAY_REGISTRY", "http://registry")
    return Against(tmp_path, url)


def test_both_are_evaluated_on_the_same_rows_each_by_its_own_code_and_the_record_has_the_interval(
    against: Against,
) -> None:
    against.champion("40")
    report = against.verified("50", {"accuracy": ">= champion - 0.02", "loss": "< 0.5"})
    assert report["gates"] == {"loss": ["<", 0.5]}
    (found,) = report["comparisons"]
    # The champion calls it acc: both are computed of the predictions.
    assert (found["version"], found["value"], found["other"]) == (1, 0.98, 0.975)
    assert found["difference"] == pytest.approx(0.005)
    assert -0.02 < found["low"] < 0 < found["high"]
    assert (found["rows"], found["method"], found["passes"]) == (400, "paired score interval", True)
    # The same difference is not enough where a margin is narrow, or none: it may be luck.
    for gate in (">= champion", "> champion - 0.001"):
        with pytest.raises(
            VerificationFailed, match=r"accuracy is 0.98, that of champion \(v1\) 0.975, .* on 400 rows"
        ):
            against.verified("50", {"accuracy": gate})


def test_losses_of_rows_are_compared_by_their_ids(against: Against) -> None:
    code = EVALUATE.format(recorded=PER_ROW, metrics=MEAN_LOSS)
    against.champion("20", code)
    (found,) = against.verified("40", {"loss": "<= champion * 1.05"}, code=code)["comparisons"]
    assert (found["method"], found["rows"], found["passes"]) == ("paired t interval", 400, True)
    assert found["high"] < 0
    other = EVALUATE.format(
        recorded=PER_ROW.replace("list(range(rows))", "list(range(1, rows + 1))"), metrics=MEAN_LOSS
    )
    with pytest.raises(VerificationFailed, match="its own code evaluated other rows, 400 against 400"):
        against.verified("40", {"loss": "<= champion * 1.05"}, code=other)
    wrong = EVALUATE.format(recorded=PER_ROW, metrics="'loss': 2 * sum(losses) / rows")
    with pytest.raises(VerificationFailed, match="over the rows of job.row_metrics is 1.0725, evaluate returned 2.145"):
        against.verified("40", {"loss": "<= champion"}, code=wrong)


def test_where_only_numbers_are_known_they_are_compared_and_the_record_says_so(against: Against) -> None:
    numbers = EVALUATE.format(recorded="pass", metrics=ACCURACY)
    against.champion("40", numbers)
    (found,) = against.verified("50", {"accuracy": ">= champion"})["comparisons"]
    assert (found["low"], found["rows"], found["method"].partition(":")[0]) == (None, None, "numbers alone")


def test_a_version_evaluated_on_other_rows_is_refused(against: Against) -> None:
    against.champion("40")
    with pytest.raises(VerificationFailed, match=r"champion \(v1\) cannot be compared: .* 400 against 300"):
        against.verified("50", {"accuracy": ">= champion"}, rows=300)


def test_without_a_champion_the_gate_is_passed_and_says_so(against: Against) -> None:
    (found,) = against.verified("50", {"accuracy": ">= champion"})["comparisons"]
    assert (found["version"], found["passes"]) == (None, True)
    assert found["method"] == "not compared: there is no version 'champion' besides this run's own"


def test_a_champion_that_cannot_be_evaluated_is_refused_with_its_reason(against: Against) -> None:
    against.champion("40", "def evaluate(job, checkpoint):\n    return {'loss': len(job.datasets['sales'].path)}\n")
    code = against.code(CODE)
    with pytest.raises(AirflowFailException, match=r"evaluate version 1 \(champion\).*KeyError: 'sales'"):
        against.evaluated(code)
    gone = against.lineage.version("tiny", 1).summary.checkpoint_uri
    assert gone
    Path(gone.removeprefix("file://")).unlink()
    with pytest.raises(AirflowFailException, match="the checkpoint of version 1 is gone. Compare with another version"):
        against.evaluated(code)
    with pytest.raises(AirflowFailException, match="has no version"):
        against.evaluated(code, version="v7")


def test_a_deferred_task_continues_with_the_version_that_it_found(
    against: Against, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    waits = f"import os, time\n    while not os.path.exists('{go}'): time.sleep(0.02)\n    {PREDICTIONS}"
    against.champion("40", EVALUATE.format(recorded=waits, metrics=ACCURACY))
    code, now = against.code(CODE), context("against", run=1)
    monkeypatch.setattr("modelway.operators.job_operator.PATIENCE_SECONDS", 0.0)
    with pytest.raises(TaskDeferred) as deferred:
        EvaluateVersionOperator(task_id="against", code=code, version="champion").execute(now)
    against.champion("60")
    go.touch()
    handle, backend = deferred.value.trigger.handle, backend_from_airflow("local", home=tmp_path / "home")
    status = ended(backend, Handle.from_dict(handle))
    event = {"handle": handle, "status": status.to_dict(), "follower": deferred.value.trigger.follower}
    found = EvaluateVersionOperator(task_id="against", code=code, version="champion").resume(now, event)
    assert (found["version"], found["evaluation"]["metrics"]["accuracy"]) == (1, 0.975)
    assert found["evaluation"]["row_metrics"]["digest"].startswith("sha256:")


def test_a_backfill_that_moves_nothing_compares_with_nothing(against: Against) -> None:
    against.champion("40")
    code = {**against.code(CODE), "plan": {"blocked_reason": "a backfill moves neither alias nor traffic"}}
    found = against.evaluated(code, run_type="backfill")
    assert (found["version"], found["reason"]) == (None, "a backfill moves neither alias nor traffic")


def test_a_champion_that_changed_since_is_refused(against: Against) -> None:
    against.champion("40")
    with pytest.raises(VerificationFailed, match="champion is version 2 since, this run was compared with version 1"):
        against.verified("50", {"accuracy": ">= champion - 0.02"}, between=lambda: against.champion("60"))
