"""What training may hand over by mistake or by right: it is registered all the same, on both databases."""

import math
from dataclasses import replace

import pytest
from modelway.lineage.records.version import (
    DatasetRecord,
    EvaluationRecord,
    FigureRecord,
    FileRecord,
    MetricPoint,
    StageRecord,
)
from modelway.lineage.store import open_lineage
from modelway.lineage.write.truncation import MOST_BYTES, truncate_name

from tests.lineage_samples import digest, make_record

LONG = "n" * 10_000
HUGE_EMOJI = "🦭" * 10_000
NAMES = ["a/b\\c", "🦭 seal", "with space\tand tab", LONG, HUGE_EMOJI, "nul\0inside", "half\ud800", "é" * 700]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_registered_and_read_back_as_one(url: str, name: str) -> None:
    record = make_record("bad")
    record = replace(
        record,
        run=replace(
            record.run,
            reason=f"because {name}",
            datasets=(DatasetRecord(stage=name, name=name, uri=f"/{name}"),),
            stages=(StageRecord(name=name),),
            figures=(FigureRecord(name=name, kind="line", data={name: [1.0]}, stage=name),),
        ),
        metrics={name: 1.0, name + "2": 2.0},
        params={name: {name: name, name + "2": 2}},
        points=[MetricPoint(stage=name, name=name, step=1, value=0.5)],
        evaluations=[EvaluationRecord(checkpoint=name, metrics={name: 1.0}, note=name)],
        files=[FileRecord(path=name, digest=digest("file"), size=1)],
    )
    store = open_lineage(url)
    assert store.register(record) == 1
    found, fit = store.version("digits", 1), truncate_name(name)
    assert len(fit.encode()) <= MOST_BYTES
    assert found.summary.metrics == {fit: 1.0, truncate_name(name + "2"): 2.0}
    assert list(found.params) == [fit]
    assert list(found.params[fit]) == sorted([fit, truncate_name(name + "2")])
    assert [(each.stage, each.name) for each in found.series] == [(fit, fit)]
    assert [each.path for each in found.files] == [fit]
    assert [each.name for each in (*found.run.stages, *found.run.figures, *found.run.datasets)] == [fit] * 3
    assert [each.checkpoint for each in found.evaluations] == [fit]
    reported = found.events[0].detail.get("shortened", {})
    assert (fit in reported) == (fit != name)
    assert store.register(record) == 1


def test_names_that_begin_alike_stay_apart() -> None:
    fitted = {truncate_name(name) for name in (LONG, LONG + "1", LONG + "2", "a\0", "a", HUGE_EMOJI, HUGE_EMOJI + "x")}
    assert len(fitted) == 7
    assert truncate_name("loss") == "loss"
    assert truncate_name(truncate_name(LONG)) == truncate_name(LONG)


def test_numbers_that_are_none_are_kept_and_two_at_one_step_in_order(url: str) -> None:
    values = [1.0, math.nan, math.inf, -math.inf]
    points = [MetricPoint(stage="fine", name="loss", step=step, value=value) for step, value in enumerate(values)]
    points += [MetricPoint(stage="fine", name="twice", step=5, value=value) for value in (2.0, 1.0)]
    metrics = dict(zip("abcd", values, strict=True))
    store = open_lineage(url)
    store.register(make_record(points=points, metrics=metrics))
    found = store.version("digits", 1)
    assert str(found.series[0].values) == "(1.0, nan, inf, -inf)"
    assert (found.series[1].steps, found.series[1].values) == ((5, 5), (2.0, 1.0))
    assert str(found.summary.metrics) == str(metrics)


def test_a_hundred_thousand_params_and_huge_values_are_registered(url: str) -> None:
    params = {f"p{number}": number for number in range(100_000)}
    odd = {"text": "x" * 1_000_000, "big": 2**70, "huge": 10**5000, "nul": "a\0b", "half": "\ud800"}
    store = open_lineage(url)
    store.register(make_record(params={"coarse": params, "fine": odd}))
    found = store.version("digits", 1).params
    assert found["coarse"] == params
    assert found["fine"] == odd | {"huge": hex(10**5000)}


def test_numbers_beyond_64_bits_do_not_lose_a_training(url: str) -> None:
    record = make_record()
    run = replace(
        record.run,
        seed=2**64,
        stages=(StageRecord(name="fine", seed=2**70),),
        datasets=(DatasetRecord(stage="fine", name="images", uri="/", rows=2**80),),
    )
    evaluations = [EvaluationRecord(checkpoint="fine-1", metrics={}, step=2**64)]
    store = open_lineage(url)
    store.register(replace(record, run=run, evaluations=evaluations))
    found = store.version("digits", 1)
    assert (found.run.seed, found.run.stages[0].seed, found.run.datasets[0].rows) == (None, None, None)
    assert found.evaluations[0].step is None
