"""Records that the lineage, page and command tests write."""

import hashlib
import math
from datetime import UTC, datetime
from typing import Any

from modelway.lineage.records.version import (
    ArchitectureRecord,
    DatasetRecord,
    EnvironmentRecord,
    EvaluationRecord,
    FigureRecord,
    FileRecord,
    ImportanceRecord,
    MetricPoint,
    RunRecord,
    StageRecord,
    VersionRecord,
)


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


ENVIRONMENT = EnvironmentRecord(
    digest=digest("environment"),
    python="3.11.7",
    platform="Linux x86_64",
    packages={"numpy": "2.3.1", "torch": "2.13.0"},
    image="registry/train@sha256:" + "0" * 64,
)


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
                stage="coarse",
                name="images",
                uri="/data/images",
                digest=digest("images"),
                version="7",
                rows=60_000,
                schema={"pixel": "float", "label": "int"},
                statistics={"pixel": {"mean": 0.5, "missing": 0}},
            ),
            DatasetRecord(stage="coarse", name="sales", uri="warehouse://sales"),
        ),
        diff_digest=digest("diff"),
        repository="https://example.org/models.git",
        stages=(
            StageRecord(
                name="coarse", backend="local", seed=7, seconds=20.0, cpu_seconds=18.5, environment=ENVIRONMENT
            ),
            StageRecord(
                name="fine",
                backend="kubernetes",
                seed=7,
                seconds=100.0,
                cpu_seconds=90.0,
                gpu_seconds=240.0,
                peak_memory_bytes=2**31,
                environment=ENVIRONMENT,
            ),
            StageRecord(name="polish", skipped=True),
        ),
        figures=(
            FigureRecord(
                name="roc", kind="roc", data={"x": [0.0, 0.5, 1.0], "y": [0.0, 0.9, 1.0]}, checkpoint="fine-3"
            ),
        ),
        importances=(
            ImportanceRecord(checkpoint="fine-3", feature="height", importance=0.4, deviation=0.1, metric="loss"),
            ImportanceRecord(checkpoint="fine-3", feature="age", importance=0.1, deviation=0.05, metric="loss"),
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
        "architecture": ArchitectureRecord(
            parameters=24,
            layers=[{"name": "dense", "type": "Linear"}],
            tensors=[{"name": "dense.weight", "shape": [4, 6], "datatype": "FP32", "count": 24, "norm": 1.5}],
        ),
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
