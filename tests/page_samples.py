"""A lineage that asks much of the pages: every chart, numbers that are not finite, and names that break them."""

import math
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from modelway.job.figures.predictions import prediction_figures
from modelway.lineage.records.monitoring import Check, MonitorSlice, MonitorState, RetrainRequest
from modelway.lineage.records.version import (
    ArchitectureRecord,
    EvaluationRecord,
    FigureRecord,
    ImportanceRecord,
    MetricPoint,
    VersionRecord,
)
from modelway.lineage.store import Lineage

from tests.lineage_samples import digest, make_record

CHOSEN = "fine-3"
#: in every text that a model gives
HOSTILE = "\"><img src=x onerror=\"document.title='broken'\"></title><script>document.title='broken'</script>'"
LONG = "名" * 20 + "🚀" + "n" * 400
SLASHES = "team/vision/a b?c#d%2F&e=1"
CLASSES = [str(number) for number in range(10)]


def predicted(*, classes: int, rows: int = 600, names: list[str] | None = None) -> tuple[FigureRecord, ...]:
    """Return the charts of predictions of so many classes, 2 with one score for each row, of the chosen checkpoint."""
    drawn = random.Random(7)
    labels = [drawn.randrange(classes) for _ in range(rows)]
    scores: list[Any] = []
    for label in labels:
        if classes == 2:
            scores.append(min(1.0, max(0.0, drawn.gauss(0.3 + 0.4 * label, 0.22))))
        else:
            raw = [math.exp(drawn.gauss(2.0 if each == label else 0.0, 1.2)) for each in range(classes)]
            scores.append([each / sum(raw) for each in raw])
    figures, _ = prediction_figures(labels=labels, scores=scores, classes=names)
    return tuple(FigureRecord(name=n, kind=kind, data=data, checkpoint=CHOSEN) for n, kind, data in figures)


def training(*, steps: int = 100) -> tuple[MetricPoint, ...]:
    """Return curves of three metrics of two stages, one with points that are not finite, and one of those alone."""
    points = []
    for step in range(1, steps + 1):
        loss = {20: math.nan, 50: math.inf}.get(step, 2.3 * math.exp(-step / 30) + 0.05 * math.sin(step))
        values = {"loss": loss, "accuracy": 1 - 0.9 * math.exp(-step / 25), "learning_rate": 1e-5 * (1 + step % 10)}
        points += [MetricPoint(stage="coarse", name=name, step=step, value=value) for name, value in values.items()]
        points.append(MetricPoint(stage="fine", name="loss", step=1000 + step * 10, value=0.3 / step))
        points.append(MetricPoint(stage="fine", name="diverged", step=step, value=math.nan))
    return tuple(points)


def rich_record(run_id: str, *, model: str = "digits", **changes: Any) -> VersionRecord:
    """Return a record with everything that the pages can show."""
    record = make_record(run_id, model=model)
    lines = {
        "x_label": "step",
        "y_label": "images per second",
        "curves": [
            {"name": f"worker {number}", "x": list(range(50)), "y": [1e4 * number + each * 37 for each in range(50)]}
            for number in range(3)
        ],
    }
    figures = (
        FigureRecord(name="throughput", kind="line", data=lines, stage="fine"),
        FigureRecord(
            name="errors by kind",
            kind="bars",
            data={"names": ["blurred", "cut off at the left edge", "turned"], "values": [12, 3.5, -1]},
            stage="fine",
        ),
        *predicted(classes=10, names=CLASSES),
    )
    importances = tuple(
        ImportanceRecord(
            checkpoint=CHOSEN,
            feature=f"feature_{number:02}_of_the_customer" if number % 3 else f"f{number}",
            importance=0.5 / (number + 1) - 0.02,
            deviation=0.1 / (number + 1),
            metric="loss",
        )
        for number in range(30)
    )
    architecture = ArchitectureRecord(
        parameters=1_663_370,
        layers=[
            {"name": f"block.{number}.conv", "type": "Conv2d", "parameters": 9248 * number} for number in range(12)
        ],
        tensors=[
            {
                "name": f"block.{number}.conv.weight",
                "shape": [64, 32, 3, 3],
                "datatype": "FP32",
                "count": 18432,
                "norm": 7.5312,
                "mean": -0.000123,
                "deviation": 0.0551,
                "min": -0.41,
                "max": 0.39,
            }
            for number in range(12)
        ],
    )
    metrics = {"loss": 0.0312, "accuracy": 0.9733, "top5_accuracy": 0.9991, "latency_ms": 12.25}
    evaluations = (
        *(
            EvaluationRecord(
                checkpoint=f"coarse-{step:06}",
                metrics={name: value * (1 - 1 / (step + 1)) for name, value in metrics.items()},
                stage="coarse",
                step=step * 100,
                digest=digest(f"c{step}"),
            )
            for step in range(1, 6)
        ),
        EvaluationRecord(checkpoint="fine-2", metrics={"loss": math.nan}, stage="fine", step=20, note="diverged"),
        EvaluationRecord(checkpoint=CHOSEN, metrics=metrics, stage="fine", step=30, digest=digest("c")),
    )
    fields: dict[str, Any] = {
        "run": replace(record.run, figures=figures, importances=importances, commit="c0ffee" + "0" * 34),
        "architecture": architecture,
        "metrics": metrics,
        "evaluations": evaluations,
        "points": training(),
    }
    return replace(record, **fields | changes)


def changed_record(run_id: str, *, base: int) -> VersionRecord:
    """Return a record that differs from ``rich_record`` in every part."""
    record = rich_record(run_id, base=base)
    images, *_ = record.run.datasets
    stages = [
        replace(
            stage,
            seconds=130.5,
            environment=stage.environment
            and replace(
                stage.environment,
                digest=digest("newer"),
                packages={"numpy": "2.4.0", "torch": "2.13.0", "pillow": "12.0"},
            ),
        )
        for stage in record.run.stages
    ]
    run = replace(
        record.run,
        seed=8,
        seconds=230.5,
        code_digest=digest("newer code"),
        commit="decaf0" + "0" * 34,
        stages=tuple(stages),
        datasets=(
            replace(images, digest=digest("newer"), version="8", statistics={"pixel": {"mean": 0.51, "missing": 3}}),
        ),
    )
    assert record.architecture
    layers = [*record.architecture.layers, {"name": "head", "type": "Linear", "parameters": 650}]
    return replace(
        record,
        run=run,
        architecture=replace(record.architecture, parameters=1_664_020, layers=layers),
        metrics={"loss": 0.0288, "accuracy": 0.9867, "top5_accuracy": 0.9991, "latency_ms": 13.5},
        params={"coarse": {"lr": 0.02, "layers": [8, 32]}, "fine": {"lr": 0.001}},
    )


def hostile_record(word: str = HOSTILE, *, model: str, dag_id: str) -> VersionRecord:
    """Return a record in which every text that a model can give is ``word``."""
    record = make_record("manual__1", model=model)
    run = replace(
        record.run,
        dag_id=dag_id,
        run_id=word,
        actor=word,
        branch=word,
        reason=word,
        repository=word,
        partition=word,
        spec={word: word},
        datasets=tuple(
            replace(each, name=word, uri=word, version=word, schema={word: word}, statistics={word: {"top": word}})
            for each in record.run.datasets[:1]
        ),
        figures=tuple(
            FigureRecord(name=f"{kind} {word}", kind=kind, data=data, checkpoint=CHOSEN)
            for kind, data in {
                "line": {"x_label": word, "y_label": word, "curves": [{"name": word, "x": [1, 2], "y": [1, 2]}]},
                "bars": {"names": [word], "values": [1]},
                "confusion": {"rows": [word, "b"], "columns": [word, "b"], "values": [[1, 0], [0, 2]]},
                "matrix": {"rows": ["W" * 20, "@@"], "columns": ["Mm" * 9, "名" * 30], "values": [[1, 1e300], [-1, 2]]},
            }.items()
        ),
        importances=(ImportanceRecord(checkpoint=CHOSEN, feature=word, importance=1.0, metric=word),),
    )
    return replace(
        record,
        run=run,
        description=word,
        metrics={word: 0.5},
        evaluations=(EvaluationRecord(checkpoint=CHOSEN, metrics={word: 0.5}, stage="fine", note=word),),
        params={"fine": {word: word}},
        points=tuple(MetricPoint(stage="fine", name=word, step=step, value=step) for step in range(3)),
        files=tuple(replace(each, path=f"{each.path}{word.replace('/', '')}") for each in record.files),
    )


def check(store: Lineage, *, checks: int = 40) -> None:
    """Let the monitor have watched digits for ten days: version 5 drifts, and version 6 was trained for it."""
    now = datetime.now(UTC)
    effect = {"key": f"input {LONG[:60]}", "psi": 0.31, "distance": 0.2, "p": 1e-9, "strength": 1.55}
    for number in range(checks):
        at, version = now - timedelta(hours=6 * (checks - number)), 5 if number < checks // 2 else 6
        psi = 0.02 + (0.6 * number / checks if version == 5 else 0.01)
        drift = {"rows": 900, "features": 75, "drifted": int(psi > 0.2), "psi": psi, "over": psi > 0.2}
        drift["effects"] = [effect | {"psi": psi, "strength": psi / 0.2}]
        quality = {"labelled": 300, "right": 280, "share": 0.94 - psi / 4, "reference": 0.96, "p": 0.2, "over": False}
        schema = {"rows": 900, "changes": [f"input {HOSTILE} is missing in 3% of the rows"], "over": True}
        numbers = {"drift": drift, "schema": schema, "quality": quality if number % 7 else {"undecided": True}}
        if number == 3:
            numbers["drift"] = {"rows": 3, "undecided": True, "over": False}
        counted = MonitorSlice(
            endpoint="digits",
            version=version,
            begin=at - timedelta(hours=6),
            end=at,
            rows=225,
            tallies={},
            numbers=numbers,
        )
        request = None
        if number == checks // 2 - 1:
            reason = f"drift of 9 of 75 features on 900 rows: {HOSTILE}"
            about = {"model": "digits", "endpoint": "digits", "version": 5, "rule": "drift", "rebuild": False}
            request = RetrainRequest(**about, at=at, reason=reason, numbers=drift)
        before = store.monitoring.state("digits") or MonitorState(endpoint="digits", model="digits")
        made = store.monitoring.save_check(
            Check(before=before, at=at, counted=counted, request=request), state=lambda key: {"version": 5}
        )
        if made is not None:
            store.monitoring.record_sent(made, at=at)
            store.monitoring.record_answer(made, run="digits/scheduled__2026-03-06T00:00:00+00:00")
            store.monitoring.record_outcome(made, outcome="version 6")


#: whose runs made the models
DAGS = frozenset({"digits", "churn", "many", "wide", "long", "hostile", "bare"})


def fill(store: Lineage) -> None:
    """Register the models: digits with a chain of 6 versions, churn, wide, long and hostile ones."""
    for number in range(1, 6):
        store.register(rich_record(f"scheduled__2026-03-{number:02}T00:00:00+00:00", base=number - 1 or None))
    store.register(changed_record("scheduled__2026-03-06T00:00:00+00:00", base=5))
    store.set_alias(model="digits", alias="champion", version=5, actor="mia", reason="better on rain & snow")
    store.set_alias(model="digits", alias="candidate", version=6, actor="airflow", reason="")
    for number in (5, 6):
        store.record_image(
            model="digits",
            version=number,
            builder="oci",
            digest=digest(f"image {number}"),
            reference=f"europe-west4-docker.pkg.dev/project-with-a-name/models/digits:v{number}",
        )
    store.record_weights(endpoint="digits", model="digits", weights={5: 90, 6: 10})
    store.record_weights(endpoint="digits-eu", model="digits", weights={5: 100})
    check(store)
    churn = make_record("manual__1", model="churn")
    store.register(replace(churn, run=replace(churn.run, figures=predicted(classes=2, names=["stays", "leaves"]))))
    many = make_record("manual__1", model="many")
    classes = [f"kind {number}" for number in range(60)]
    many = replace(many, run=replace(many.run, figures=predicted(classes=60, rows=900, names=classes)))
    long = tuple(MetricPoint(stage="fine", name="loss", step=step, value=1 / step) for step in range(1, 5001))
    store.register(replace(many, points=long))
    wide = {f"encoder.block_{number // 10}.dropout_{number}": number / 1000 for number in range(1000)}
    store.register(make_record("manual__1", model="wide", params={"train": wide}))
    store.register(hostile_record(LONG, model=LONG, dag_id="long"))
    store.register(hostile_record(model="hostile", dag_id="hostile"))
    for number in (1, 2):
        store.register(
            replace(
                make_record(f"r/{number}", model=SLASHES), run=replace(make_record(f"r/{number}").run, dag_id="long")
            )
        )
    bare = make_record("manual__1", model="bare")
    store.register(
        replace(
            bare,
            run=replace(bare.run, datasets=(), stages=(), figures=(), importances=()),
            metrics={},
            evaluations=(),
            params={},
            points=(),
            files=(),
            architecture=None,
            description="",
        )
    )
