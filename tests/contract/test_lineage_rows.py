"""Rows written many at a time: what comes back is what was given, on both databases."""

from dataclasses import replace

import pytest
from modelway.errors import UnknownVersion
from modelway.lineage.read import models as model_lists
from modelway.lineage.records.version import DatasetRecord, MetricPoint, MetricSeries
from modelway.lineage.store import Lineage, open_lineage
from sqlalchemy import Connection, event

from tests.lineage_samples import make_record


@pytest.fixture
def store(url: str) -> Lineage:
    return open_lineage(url)


def test_values_of_every_kind_come_back_from_a_statement_for_many_rows(store: Lineage) -> None:
    params = {
        "train": {
            "lines": "one\ntwo\r\n\tthree",
            "nothing": None,
            "tenth": 0.1,
            "exact": 0.12345678901234568,
            "big": 2**53 + 1,
            "text of a number": "1",
            "list": [1, 2.5, {"quoted \"'{},": "\u2028\\"}],
            "flag": True,
        },
        'a "stage", {odd}\n': {"NULL": "NULL", "": ""},
    }
    data = (
        DatasetRecord(stage="train", name="plain", uri="file:///a"),
        DatasetRecord(stage="train", name="full", uri="file:///b", rows=7, schema={"x": "int"}, statistics={"x": {}}),
    )
    record = make_record(params=params)
    store.register(replace(record, run=replace(record.run, datasets=data)))
    found = store.version("digits", 1)
    assert found.params == store.params("digits", [1])[1] == params
    assert found.run.datasets == data


def test_metrics_that_share_their_steps_keep_their_own_values(store: Lineage) -> None:
    values = {"loss": (0.5, 0.25), "accuracy": (0.0, 1.0), "late": (3.0,), "backwards": (1.5, 2.5)}
    steps = {"loss": (1, 2), "accuracy": (1, 2), "late": (2,), "backwards": (2, 1)}
    points = [
        MetricPoint(stage="train", name=name, step=step, value=value)
        for name, numbers in values.items()
        for step, value in zip(steps[name], numbers, strict=True)
    ]
    store.register(make_record(points=points))
    assert store.version("digits", 1).series == (
        MetricSeries(stage="train", name="accuracy", steps=(1, 2), values=(0.0, 1.0)),
        MetricSeries(stage="train", name="backwards", steps=(1, 2), values=(2.5, 1.5)),
        MetricSeries(stage="train", name="late", steps=(2,), values=(3.0,)),
        MetricSeries(stage="train", name="loss", steps=(1, 2), values=(0.5, 0.25)),
    )


def test_models_are_listed_as_far_as_runs_of_their_dags_may_be_read(
    store: Lineage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        dag = f"dag-{number % 3}"
        record = make_record(f"r{number}", alias=f"of-{number % 2}")
        store.register(replace(record, run=replace(record.run, dag_id=dag)))
    store.register(make_record("other", model="another"))
    another, digits = found = store.models()
    # Where the models have many versions, their DAGs are found otherwise.
    monkeypatch.setattr(model_lists, "_SCANNED", 0)
    assert store.models() == found
    assert (another.name, another.latest, another.dags) == ("another", 1, ("another",))
    assert (digits.latest, digits.count, digits.dags) == (5, 5, ("dag-0", "dag-1", "dag-2"))
    assert digits.aliases == {"of-0": 5, "of-1": 4}
    (part,) = store.models(dags={"dag-0", "dag-2"})
    assert (part.latest, part.count, part.dags, part.aliases) == (4, 3, ("dag-0", "dag-2"), {"of-1": 4})


def test_the_newest_versions_of_several_models_are_those_of_readable_dags(store: Lineage) -> None:
    for number in range(6):
        record = make_record(f"r{number}", metrics={"loss": number})
        store.register(replace(record, run=replace(record.run, dag_id=f"dag-{number % 2}")))
    store.register(make_record("other", model="another"))

    def numbers(*names: str, each: int, dags: list[str] | None = None) -> dict[str, list[int]]:
        found = store.newest(names, each=each, dags=dags)
        return {name: [version.number for version in versions] for name, versions in found.items()}

    assert numbers("digits", "another", each=2) == {"digits": [6, 5], "another": [1]}
    assert numbers("digits", "another", each=2, dags=["dag-0"]) == {"digits": [5, 3], "another": []}
    assert numbers("digits", each=3, dags=["dag-1"]) == {"digits": [6, 4, 2]}
    assert numbers("digits", "nobody", each=50) == {"digits": [6, 5, 4, 3, 2, 1], "nobody": []}


def test_reads_within_a_block_share_one_transaction(store: Lineage) -> None:
    store.register(make_record("r"))
    begun: list[Connection] = []
    event.listen(store.engine, "begin", lambda connection: begun.append(connection))
    with store.reading_once():
        assert store.models()
        assert store.find("digits", "latest") == 1
        with pytest.raises(UnknownVersion):
            store.find("digits", "2")
        assert store.version("digits", 1).summary.number == 1
    assert len(begun) == 1
    store.register(make_record("r2"))
    assert store.find("digits", "latest") == 2
