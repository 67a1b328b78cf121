"""How two versions differ, from their records as both databases give them back."""

import math
from dataclasses import replace
from typing import Any

import pytest
from modelway.lineage.compare.difference import difference
from modelway.lineage.compare.significance import two_proportions
from modelway.lineage.records.difference import DiffRecord
from modelway.lineage.records.values import plain
from modelway.lineage.records.version import ArchitectureRecord, DatasetRecord, FigureRecord, FileRecord
from modelway.lineage.store import open_lineage

from tests.lineage_samples import ENVIRONMENT, digest, make_record


def compare(url: str, a: Any, b: Any) -> DiffRecord:
    store = open_lineage(url)
    numbers = [store.register(record) for record in (a, b)]
    return difference(*(store.version(each.model, n) for each, n in zip((a, b), numbers, strict=True)))


def of_run(record: Any, **changes: Any) -> Any:
    return replace(record, run=replace(record.run, **changes))


def test_two_versions_of_the_same_inputs_differ_in_nothing(url: str) -> None:
    found = compare(
        url, make_record("a"), make_record("b", files=make_record("a").files, model_digest=digest("modela"))
    )
    assert found.is_same_model
    assert (found.params, found.data, found.environment, found.files, found.run) == ((), (), (), (), {})
    assert (found.code.is_same, found.code.commit_range) == (True, None)
    assert (found.architecture.is_known, found.architecture.layers, found.architecture.tensors) == (True, (), ())
    assert {each.name: each.difference for each in found.metrics} == {"accuracy": 0, "loss": 0}


def test_parameters_code_and_run_are_reported_per_stage_and_with_the_commits_between(url: str) -> None:
    a = make_record("a", params={"coarse": {"lr": 0.01, "gone": 1}, "fine": {"🚀/x": [1]}})
    b = make_record("b", params={"coarse": {"lr": 0.1, "new": None}, "fine": {"🚀/x": [1]}, "polish": {"n": True}})
    b = of_run(b, code_digest=digest("other"), commit="decaf0", dirty=False, seed=8)
    found = compare(url, a, b)
    assert [(each.stage, each.name, each.kind, each.a, each.b) for each in found.params] == [
        ("coarse", "gone", "removed", 1, None),
        ("coarse", "lr", "changed", 0.01, 0.1),
        ("coarse", "new", "added", None, None),
        ("polish", "n", "added", None, True),
    ]
    code = found.code
    assert (code.is_same, code.a, code.b) == (False, digest("code"), digest("other"))
    assert (code.commit_range, code.command) == ("c0ffee..decaf0", "git log --stat c0ffee..decaf0")
    assert (code.dirty, code.repository) == ((True, False), "https://example.org/models.git")
    assert found.run == {"seed": (7, 8)}


def test_data_sets_are_compared_by_name_with_their_schema_and_statistics(url: str) -> None:
    a = make_record("a")
    images = replace(
        a.run.datasets[0],
        digest=digest("newer"),
        rows=70_000,
        schema={"pixel": "double", "weight": "float"},
        statistics={"pixel": {"mean": 0.6, "missing": 0}},
    )
    b = of_run(make_record("b"), datasets=(images, DatasetRecord(stage="coarse", name="prices", uri="warehouse://p")))
    found = {each.name: each for each in compare(url, a, b).data}
    assert {name: each.kind for name, each in found.items()} == {
        "images": "changed",
        "sales": "removed",
        "prices": "added",
    }
    assert [(each.name, each.a, each.b) for each in found["images"].changes] == [
        ("digest", digest("images"), digest("newer")),
        ("rows", 60_000, 70_000),
    ]
    assert [(each.name, each.kind) for each in found["images"].schema] == [
        ("label", "removed"),
        ("pixel", "changed"),
        ("weight", "added"),
    ]
    assert [(each.name, each.a, each.b) for each in found["images"].statistics] == [("pixel.mean", 0.5, 0.6)]


def test_the_environment_is_compared_by_stage_and_package(url: str) -> None:
    a = make_record("a")
    newer = replace(
        ENVIRONMENT, digest=digest("newer"), python="3.12.1", packages={"torch": "2.14.0", "scipy": "1.17.0"}
    )
    b = of_run(make_record("b"), stages=(replace(a.run.stages[0], environment=newer), *a.run.stages[1:]))
    (only,) = compare(url, a, b).environment
    assert only.stage == "coarse"
    assert [(each.name, each.a, each.b) for each in only.changes] == [("python", "3.11.7", "3.12.1")]
    assert [(each.name, each.kind, each.b) for each in only.packages] == [
        ("numpy", "removed", None),
        ("scipy", "added", "1.17.0"),
        ("torch", "changed", "2.14.0"),
    ]


def test_files_are_reported_as_changed_moved_added_and_removed(url: str) -> None:
    def files(**content: str) -> tuple[FileRecord, ...]:
        return tuple(FileRecord(path=path, digest=digest(text), size=1) for path, text in content.items())

    a = make_record("a", files=files(same="1", other="2", here="3", gone="4"))
    b = make_record("b", files=files(same="1", other="5", there="3", new="6"))
    found = [(each.kind, each.path, each.new_path) for each in compare(url, a, b).files]
    assert found == [
        ("removed", "gone", None),
        ("moved", "here", "there"),
        ("added", "new", None),
        ("changed", "other", None),
    ]


def test_the_architecture_is_reported_by_layer_and_tensor(url: str) -> None:
    wide = ArchitectureRecord(
        parameters=48,
        layers=[{"name": "dense", "type": "Linear"}, {"name": "drop", "type": "Dropout"}],
        tensors=[{"name": "dense.weight", "shape": [8, 6], "datatype": "FP32", "count": 48, "norm": 1.0}],
    )
    found = compare(url, make_record("a"), make_record("b", architecture=wide)).architecture
    assert found.parameters == (24, 48)
    assert [(each.name, each.kind) for each in found.layers] == [("drop", "added")]
    assert [(each.name, each.a, each.b) for each in found.tensors] == [("dense.weight", [4, 6], [8, 6])]
    unknown = compare(url, make_record("c"), make_record("d", architecture=None)).architecture
    assert (unknown.is_known, unknown.parameters) == (False, (24, None))


def with_rows(record: Any, rows: int) -> Any:
    data = DatasetRecord(stage="fine", name="test-images", uri="/data/test", digest=digest("test"), rows=rows)
    return of_run(record, datasets=(*record.run.datasets, data))


def test_a_share_of_rows_is_tested_and_nothing_is_claimed_of_others(url: str) -> None:
    values = [{"accuracy": 0.9, "loss": 0.5, "f1": 0.8, "one": 1.0}, {"accuracy": 0.93, "loss": math.nan, "f1": 0.9}]
    a, b = (with_rows(make_record(run, metrics=each), 1000) for run, each in zip("ab", values, strict=True))
    found = {each.name: each for each in compare(url, a, b).metrics}
    accuracy = found["accuracy"]
    # 0.9 and 0.93 of 1,000 rows each: z = 0.03 / sqrt(0.915 * 0.085 * 2 / 1000) = 2.405
    assert accuracy.p_value == pytest.approx(0.01616, abs=2e-5)
    assert accuracy.is_significant is True
    assert accuracy.why == "two-proportion z-test over 1,000 and 1,000 rows"
    assert [found[name].is_significant for name in ("loss", "f1", "one")] == [None, None, None]
    assert found["loss"].why == "not known: a value is not finite"
    assert found["f1"].why.startswith("not known: no share of rows")
    assert found["one"].why == "not known: only one version has it"
    assert plain(found["loss"])["b"] == "NaN"


def test_numbers_that_are_not_finite_are_equal_to_themselves_alone(url: str) -> None:
    a = {"both": math.nan, "one": math.nan, "far": math.inf, "apart": math.inf, "given": 0.5}
    b = {"both": math.nan, "one": 1.0, "far": math.inf, "apart": -math.inf, "given": None}
    found = {each.name: each for each in compare(url, make_record("a", metrics=a), make_record("b", metrics=b)).metrics}
    same = {name: (each.difference, each.is_significant, each.why) for name, each in found.items()}
    assert same["both"] == same["far"] == (0.0, None, "the same in both")
    assert same["one"] == same["apart"] == (None, None, "not known: a value is not finite")
    # A number that XCom could not carry is one that is not finite, not one that is not there.
    assert same["given"] == (None, None, "not known: a value is not finite")
    assert (found["one"].b, math.isnan(found["one"].a or 0)) == (1.0, True)


def test_a_mean_with_its_standard_error_is_tested(url: str) -> None:
    values = [
        {"loss": 0.50, "loss_stderr": 0.03, "same": 1.0, "same_stderr": 0.0, "far": 1.0, "far_stderr": 0.0},
        {"loss": 0.40, "loss_stderr": 0.04, "same": 1.0, "same_stderr": 0.0, "far": 1.1, "far_stderr": 0.0},
    ]
    a, b = (make_record(run, metrics=each) for run, each in zip("ab", values, strict=True))
    found = {each.name: each for each in compare(url, a, b).metrics}
    # z = 0.1 / sqrt(0.03² + 0.04²) = 2, and 4.55 % of a normal distribution lie beyond two standard deviations.
    assert found["loss"].p_value == pytest.approx(0.0455, abs=5e-5)
    assert found["loss"].is_significant is True
    assert found["loss"].why == "z-test with standard errors 0.03 and 0.04"
    assert (found["same"].p_value, found["far"].p_value) == (1.0, 0.0)
    assert found["loss_stderr"].why == "not known: how exact loss is"


@pytest.mark.parametrize("error", [math.nan, math.inf, -0.1, None])
def test_a_standard_error_that_is_none_claims_nothing(url: str, error: float | None) -> None:
    more = {} if error is None else {"loss_stderr": error}
    values = [{"loss": 0.5, "loss_stderr": 0.01}, {"loss": 0.4, **more}]
    a, b = (make_record(run, metrics=each) for run, each in zip("ab", values, strict=True))
    (loss,) = [each for each in compare(url, a, b).metrics if each.name == "loss"]
    assert (loss.p_value, loss.is_significant) == (None, None)
    assert loss.why == "not known: no share of rows such as accuracy, and no loss_stderr beside it"


def test_without_the_rows_of_the_evaluation_nothing_is_claimed(url: str) -> None:
    found = compare(url, make_record("a"), with_rows(make_record("b"), 50)).metrics
    (accuracy,) = [each for each in found if each.name == "accuracy"]
    assert (accuracy.p_value, accuracy.is_significant) == (None, None)
    assert accuracy.why == "not known: by how many rows v1 was evaluated is not recorded"


def test_a_confusion_matrix_tells_the_rows_of_the_chosen_checkpoint(url: str) -> None:
    def matrix(checkpoint: str, values: list[list[int]]) -> FigureRecord:
        data = {"rows": ["a", "b"], "columns": ["a", "b"], "values": values}
        return FigureRecord(name="confusion", kind="confusion", checkpoint=checkpoint, data=data)

    figures = (matrix("coarse-1", [[1, 0], [0, 1]]), matrix("fine-3", [[450, 50], [50, 450]]))
    a, b = (
        of_run(make_record(run, metrics={"accuracy": value}), figures=figures)
        for run, value in (("a", 0.9), ("b", 0.91))
    )
    (only,) = compare(url, a, b).metrics
    assert only.why == "two-proportion z-test over 1,000 and 1,000 rows"
    assert only.is_significant is False


def test_two_proportions_of_too_few_rows_are_no_test() -> None:
    assert two_proportions(0.5, 4, 0.75, 4) is None
    assert two_proportions(1.0, 10, 1.0, 10) == 1.0
    assert two_proportions(0.5, 100, 0.5, 400) == 1.0


def test_versions_of_two_models_are_compared(url: str) -> None:
    found = compare(url, make_record("a"), make_record("b", model="team/模型 🚀"))
    assert (found.a.model, found.b.model, found.b.number) == ("digits", "team/模型 🚀", 1)
