"""From a job to the record: train, evaluate, select, freeze and register on the real local backend, both databases."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import Header
from modelway.lineage.store import open_lineage
from modelway.operators.evaluate import EvaluateCheckpointOperator
from modelway.operators.freeze import FreezeModelOperator
from modelway.operators.register import RegisterModelOperator
from modelway.operators.select import SelectCheckpointOperator
from modelway.operators.train import TrainModelOperator
from modelway.ui.app import create_app
from starlette.testclient import TestClient

from tests.job_folders import store_code
from tests.task_instance import Ti

LONG = "n" * 500
CODE = f"""
import math

def train(job):
    columns = {{"town": ["Ulm", "Bonn", None], "size": [1, 2, math.inf]}}
    job.dataset(name="towns/🙂", uri="s3://x", rows=3, columns=columns)
    job.figure(name="rate", kind="line", data={{"x": [1, 2], "y": [0.1, math.nan]}})
    for step in (1, 2):
        job.log(step=step, **{{"val/loss 🙂": math.nan if step == 1 else 0.5, "{LONG}": math.inf}})
        with job.checkpoint(step=step) as path:
            path.write_text(str(step))

def evaluate(job, checkpoint):
    step = int(checkpoint.read_text())
    job.predictions(labels=[0, 1, 1, 0], scores=[0.1, 0.9, 0.8, 0.2] if step == 2 else [0.9, 0.1, 0.2, 0.8])
    job.importance(features={{"size": [1.0, 2.0, 3.0], "b/c 🙂": [1, 1, 1]}}, score=lambda f: sum(
        abs(a - b) for a, b in zip(f["size"], [1, 2, 3])))
    return {{"loss": 1.0 / step}}

def export(job, checkpoint):
    import torch
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 100), torch.nn.ReLU(), torch.nn.Linear(100, 2)), torch.rand(2, 4)
"""


def context(task: str) -> Any:
    dag_run = SimpleNamespace(
        dag_id="tiny",
        run_id="now",
        run_type=SimpleNamespace(value="manual"),
        start_date=None,
        run_after=datetime(2026, 3, 10, tzinfo=UTC),
        clear_number=0,
        triggering_user_name="mia",
    )
    ti = Ti(task_id=task, try_number=1, max_tries=2, map_index=0, dag_id="tiny", run_id="now", pushed={})
    return {"dag_run": dag_run, "ti": ti}


@dataclass(frozen=True)
class Done:
    """What the jobs of a run left, as registering needs it."""

    home: Path
    code: dict[str, Any]
    needs: dict[str, Any]


@contextmanager
def settings(home: Path, url: str) -> Iterator[None]:
    """Make tasks of this process use a home and a lineage."""
    with pytest.MonkeyPatch.context() as patch:
        # A first import of torch, with other tests beside it, takes longer than a worker waits without deferring.
        patch.setattr("modelway.operators.job_operator.PATIENCE_SECONDS", 200.0)
        patch.setenv("MODELWAY_HOME", str(home))
        patch.setenv("MODELWAY_LINEAGE_URL", url)
        patch.delenv("MODELWAY_ARTIFACT_ROOT", raising=False)
        patch.setenv("AIRFLOW_CONN_MODELWAY_REGISTRY", "http://registry")
        yield


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """Train, evaluate, select and freeze, once for both databases."""
    root = tmp_path_factory.mktemp("whole")
    commit = {"commit": "1" * 40, "branch": "main", "dirty": True, "diff_digest": "sha256:d", "repository": "git@x:y"}
    with settings(root / "home", f"sqlite:///{root / 'lineage.db'}"):
        code = {"model": "tiny", "module": "tiny.py", **store_code(root, CODE).to_dict(), "commit": commit}
        now = context("train")
        checkpoints = TrainModelOperator(task_id="train", code=code, seed=4).execute(now)
        report = now["ti"].pushed["report"]
        evaluations = EvaluateCheckpointOperator(task_id="e", code=code, checkpoint=checkpoints).execute(context("e"))
        assert all(each["report"]["events"]["uri"].startswith("file:") for each in evaluations)
        selected = SelectCheckpointOperator(
            task_id="s", checkpoints=checkpoints, evaluations=[evaluations], metric="loss"
        ).execute(context("s"))
        freeze = FreezeModelOperator(task_id="f", code=code, selected=selected, training=[report], seed=4)
        archive = freeze.execute(context("f"))
    skipped = {"stage": "warmup", "params": {}, "seed": 4, "events": None, "seconds": None, "gpu": 0, "skipped": True}
    needs = {"training": [skipped, report], "selected": selected, "archive": archive, "verified": {}, "spec": {}}
    return Done(home=root / "home", code=code, needs=needs)


@pytest.fixture
def registered(done: Done, url: str) -> Any:
    """Register what the jobs left and return the version's record."""
    with settings(done.home, url):
        RegisterModelOperator(task_id="r", code=done.code, **done.needs).execute(context("r"))
        return open_lineage(url).version("tiny", 1)


def test_what_jobs_report_is_the_versions_record_and_on_its_page(registered: Any, url: str) -> None:
    run = registered.run
    assert (run.diff_digest, run.repository) == ("sha256:d", "git@x:y")
    stages = {stage.name: stage for stage in run.stages}
    assert list(stages) == ["warmup", "train", "evaluate", "freeze"]
    assert (stages["warmup"].skipped, stages["warmup"].environment) == (True, None)
    for name in ("train", "evaluate", "freeze"):
        assert stages[name].backend == "local"
        assert stages[name].cpu_seconds > 0
        assert stages[name].seconds > 0
        assert stages[name].gpu_seconds == 0
    assert stages["train"].environment.packages["numpy"]
    assert stages["train"].environment == stages["freeze"].environment
    assert stages["evaluate"].environment is None

    figures = {(figure.name, figure.stage, figure.checkpoint): figure for figure in run.figures}
    chosen = "train-000002"
    assert list(figures) == [
        ("rate", "train", None),
        *((kind, "train", chosen) for kind in ("roc", "pr", "confusion", "calibration")),
    ]
    assert figures["rate", "train", None].data["curves"][0]["y"] == [0.1, "nan"]
    # The checkpoint that is not chosen has an area of 0.
    assert figures["roc", "train", chosen].data["area"] == 1.0
    assert figures["confusion", "train", chosen].data["values"] == [[2, 0], [0, 2]]
    importances = {each.feature: each for each in run.importances}
    assert set(importances) == {"size", "b/c 🙂"}
    assert importances["b/c 🙂"].importance == 0
    assert importances["size"].importance > 0
    assert {each.checkpoint for each in run.importances} == {chosen}

    (data,) = run.datasets
    assert (data.name, data.schema) == ("towns/🙂", {"town": "str", "size": "float"})
    assert data.statistics["size"]["max"] == "inf"
    assert data.statistics["town"]["missing"] == 1
    series = {each.name: each for each in registered.series}
    assert set(series) == {"val/loss 🙂", LONG}
    assert [str(value) for value in series["val/loss 🙂"].values] == ["nan", "0.5"]

    assert registered.architecture.parameters == 4 * 100 + 100 + 200 + 2
    assert {"name": "0", "type": "Linear", "parameters": 500} in registered.architecture.layers
    tensors = {tensor["name"]: tensor for tensor in registered.architecture.tensors}
    assert sum(tensor["count"] for tensor in tensors.values()) == registered.architecture.parameters
    assert all(tensor["norm"] > 0 and tensor["datatype"] == "FP32" for tensor in tensors.values())

    def reader(who: str = Header("tiny")) -> frozenset[str]:
        return frozenset([who])

    client = TestClient(create_app(store_url=lambda: url, readable_dags=reader))
    text = client.get("/models/tiny/versions/1", headers={"accept": "text/html"}).text
    for part in (
        'aria-label="ROC"',
        "b/c 🙂",
        "towns/🙂",
        "702 parameters",
        "sha256:d",
        "git@x:y",
        "Environment of",
    ):
        assert part in text, part
