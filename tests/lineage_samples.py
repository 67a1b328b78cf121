"""Records that the lineage, page and command tests write."""

import hashlib
import math
from datetime import UTC, datetime
from typing import Any

from modelway.lineage.record import DatasetRecord, EvaluationRecord, FileRecord, MetricPoint, RunRecord, VersionRecord


def digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


#: what PackageCodeOperator returns
CODE = {
    "model": "digits",
    "module": "digits.py",
    "uri": "file:///code.zip",
    "digest": digest("code"),
    "size": 10,
    "commit": {"commit": None, "branch": None, "dirty": None},
}


def make_record(run_id: str = "manual__1", *, model: str = "digits", **changes: Any) -> VersionRecord:
    run = RunRecord(
        dag_id=model,
        run_id=run_id,
        actor="mia",
        started_at=datetime(2026, 3, 1, 12, 0, tzinfo=UTC),
        code_digest=digest("code"),
        commit="c0ffee",
        branch="main",
        dirty=True,
        spec={"name": model, "train": {"backend": "local"}},
        seed=7,
        inputs_digest=digest("inputs"),
        interval_start=datetime(2026, 2, 28, tzinfo=UTC),
        interval_end=datetime(2026, 3, 1, tzinfo=UTC),
        partition="2026-02-28T00:00:00",
        reason="the data of <February> is whole",
        seconds=120.0,
        gpu_seconds=240.0,
        datasets=(
            DatasetRecord(
                stage="coarse", name="images", uri="/data/images", digest=digest("images"), version="7", rows=60_000
            ),
            DatasetRecord(stage="coarse", name="sales", uri="warehouse://sales"),
        ),
    )
    fields: dict[str, Any] = {
        "model": model,
        "run": run,
        "description": "handwritten digits",
        "archive_uri": "file:///artifacts/a.zip",
        "archive_digest": digest("archive" + run_id),
        "archive_size": 4321,
        "model_digest": digest("model" + run_id),
        "checkpoint": "fine-3",
        "checkpoint_digest": digest("checkpoint" + run_id),
        "checkpoint_uri": "file:///artifacts/fine-3",
        "metrics": {"loss": 0.125, "accuracy": 0.97},
        "evaluations": (
            EvaluationRecord(
                checkpoint="coarse-1", metrics={"loss": 0.5}, stage="coarse", step=10, digest=digest("c1")
            ),
            EvaluationRecord(checkpoint="fine-2", metrics={"loss": math.nan}, stage="fine", step=20, note="diverged"),
            EvaluationRecord(checkpoint="fine-3", metrics={"loss": 0.125, "accuracy": 0.97}, stage="fine", step=30),
        ),
        "params": {"coarse": {"lr": 0.01, "layers": [8, 16]}, "fine": {"lr": 0.001, "schedule": None}},
        "points": tuple(MetricPoint(stage="fine", name="loss", step=step, value=1.0 / step) for step in (3, 1, 2)),
        "files": (
            FileRecord(path="model/model.onnx", digest=digest("onnx"), size=100, role="model"),
            FileRecord(path="outputs/meta.yml", digest=digest("meta" + run_id), size=10),
        ),
    }
    return VersionRecord(**fields | changes)
