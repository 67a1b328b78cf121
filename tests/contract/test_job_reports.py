"""What a job reports besides metrics: charts of its own, importances, data sets' columns, what it ran in and took."""

import json
import math
import random
import sys

import numpy
import pytest
import torch
from modelway.job import Job
from modelway.job.agent.usage import usage_in
from modelway.job.contract import read_events, recorded_datasets
from modelway.job.environment import environment, installed_packages, with_image
from modelway.job.figures.importance import importances
from modelway.job.figures.statistics import summarised
from modelway.job.freezing.weights import summary
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LinearRegression

from tests.job_folders import write_job

LONG = "x" * 501


@pytest.fixture
def job(tmp_path):
    return Job(write_job(tmp_path / "job", seed=5))


def test_own_charts_are_kept_with_any_name_and_number(job):
    job.figure(name="a/b 🙂", kind="line", data={"x": [1, 2, 3], "y": [math.nan, math.inf, numpy.float32(0.5)]})
    job.figure(name="bars", kind="bars", data={"names": ["a", "b"], "values": torch.tensor([1.0, 2.0])})
    job.figure(name="m", kind="confusion", data={"classes": ["a", "b"], "values": numpy.eye(2), "note": "n"})
    line, bars, matrix = (event["data"] for event in read_events(job.folder))
    assert line == {"curves": [{"name": "a/b 🙂", "x": [1.0, 2.0, 3.0], "y": ["nan", "inf", 0.5]}]}
    assert bars["values"] == [1.0, 2.0]
    assert matrix == {"rows": ["a", "b"], "columns": ["a", "b"], "values": [[1.0, 0.0], [0.0, 1.0]], "note": "n"}


def test_a_long_curve_is_thinned(job):
    job.figure(name="long", kind="line", data={"x": range(10_001), "y": range(10_001)})
    (curve,) = read_events(job.folder)[0]["data"]["curves"]
    assert (len(curve["x"]), curve["x"][0], curve["x"][-1]) == (200, 0, 10_000)


@pytest.mark.parametrize(
    ("figure", "said"),
    [
        ({"name": LONG, "kind": "line", "data": {}}, "the name of a figure must have 1 to 500 characters"),
        ({"name": "", "kind": "line", "data": {}}, "it is empty"),
        ({"name": "a\0", "kind": "line", "data": {}}, "contains an invalid character"),
        ({"name": "\ud800", "kind": "line", "data": {}}, "contains an invalid character"),
        (
            {"name": "f", "kind": "pie", "data": {}},
            "figure 'f': 'pie' is not a kind of chart. Known: bars, calibration",
        ),
        ({"name": "f", "kind": "line", "data": [1]}, "data must be a mapping, got list"),
        ({"name": "f", "kind": "line", "data": {"x": [1]}}, "line takes .*KeyError"),
        ({"name": "f", "kind": "line", "data": {"x": [1], "y": []}}, "1 values of x and 0 of y"),
        ({"name": "f", "kind": "bars", "data": {"names": ["a"], "values": []}}, "1 names and 0 values"),
        ({"name": "f", "kind": "bars", "data": {"names": [LONG], "values": [1]}}, "the name of a bar must have"),
        ({"name": "f", "kind": "matrix", "data": {"rows": ["a"], "columns": ["b"], "values": [[1, 2]]}}, "1 rows of 1"),
    ],
)
def test_a_chart_that_cannot_be_drawn_is_refused_at_once(job, figure, said):
    with pytest.raises(ValueError, match=said):
        job.figure(**figure)
    assert read_events(job.folder) == []


def test_names_over_500_characters_are_refused_before_anything_is_written(job):
    for call in (
        lambda: job.log(step=1, loss=1.0, **{LONG: 2.0}),
        lambda: job.dataset(name=LONG, uri="x"),
        lambda: job.dataset(name="d", uri="x", columns={LONG: [1]}),
        lambda: job.importance(features={LONG: 0.5}),
        lambda: job.predictions(labels=[0, 1], scores=[0.1, 0.9], classes=["a", LONG]),
    ):
        with pytest.raises(ValueError, match="must have 1 to 500 characters: 'x{40}…' has 501 characters"):
            call()
    assert read_events(job.folder) == []
    job.log(step=1, **{"val/loss 🙂": math.nan, "y" * 500: 1.0})
    assert [event["name"] for event in read_events(job.folder)] == ["val/loss 🙂", "y" * 500]


def columns_of(rows, form):
    return {
        "lists": {"a": rows[:, 0].tolist(), "b": rows[:, 1].tolist(), "c": rows[:, 2].tolist()},
        "arrays": {"a": rows[:, 0], "b": rows[:, 1], "c": rows[:, 2]},
        "tensors": {name: torch.tensor(rows[:, place]) for place, name in enumerate("abc")},
        "rows": rows.tolist(),
        "matrix": rows,
        "tensor": torch.tensor(rows),
    }[form]


@pytest.mark.parametrize("form", ["lists", "arrays", "tensors", "rows", "matrix", "tensor"])
def test_importance_is_that_of_scikit_learn_up_to_chance(form):
    chance = numpy.random.default_rng(0)
    rows = chance.normal(size=(2000, 3))
    target = 3 * rows[:, 0] + rows[:, 1]
    model = LinearRegression().fit(rows, target)
    theirs = permutation_importance(model, rows, target, scoring="neg_mean_squared_error", n_repeats=5, random_state=0)
    features = columns_of(rows, form)

    def loss(given):
        table = given if not isinstance(given, dict) else numpy.stack([numpy.asarray(c) for c in given.values()], 1)
        return float(((model.predict(numpy.asarray(table)) - target) ** 2).mean())

    names = None if isinstance(features, dict) else ["a", "b", "c"]
    found = importances(features=features, score=loss, names=names, repeats=5, seed=1)
    again = importances(features=features, score=loss, names=names, repeats=5, seed=1)
    assert found == again, "the same seed gives the same"
    assert found != importances(features=features, score=loss, names=names, repeats=5, seed=2)
    assert [each["feature"] for each in found] == ["a", "b", "c"]
    values = [each["importance"] for each in found]
    assert values == pytest.approx(theirs.importances_mean, rel=0.1, abs=1e-6)
    assert 0 < found[0]["deviation"] < 2
    assert numpy.array_equal(rows, numpy.random.default_rng(0).normal(size=(2000, 3))), "what was given is left alone"


def test_importances_become_one_event(job):
    job.importance(features={"a": 0.5, "b": math.nan}, metric="gain")
    (event,) = read_events(job.folder)
    assert (event["kind"], event["metric"]) == ("importance", "gain")
    assert [each["importance"] for each in event["values"]] == [0.5, "nan"]
    job.importance(features={"a": [1, 2], "b": [3, 4]}, score=lambda features: math.nan)
    assert read_events(job.folder)[1]["values"][0] == {"feature": "a", "importance": "nan", "deviation": "nan"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"features": [[1, 2]]}, "give score=, or the importance of each feature"),
        ({"features": {"a": [1], "b": []}, "score": len}, r"the features have \[0, 1\] values"),
        ({"features": [[1, 2]], "score": len, "names": ["a"]}, "1 names for 2 columns"),
        ({"features": {"a": [1]}, "score": len, "repeats": 0}, "repeats is 0"),
    ],
)
def test_features_of_no_known_form_are_refused(job, given, said):
    with pytest.raises(ValueError, match=said):
        job.importance(**given)


def test_columns_of_numbers_are_summarised_as_numpy_does(monkeypatch):
    chance = random.Random(2)
    values = [chance.gauss(5, 2) for _ in range(1000)]
    expected = numpy.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95])
    for given in ([*values, None, math.nan], numpy.array([*values, math.nan, math.nan]), torch.tensor([*values])):
        kinds, reported = summarised({"c": given})
        assert kinds == {"c": {list: "float", numpy.ndarray: "float64", torch.Tensor: "float32"}[type(given)]}
        found = reported["c"]
        assert found["count"] == 1000
        assert found["missing"] == (0 if isinstance(given, torch.Tensor) else 2)
        assert (found["mean"], found["deviation"]) == pytest.approx((numpy.mean(values), numpy.std(values)), rel=1e-5)
        assert (found["min"], found["max"]) == pytest.approx((min(values), max(values)), rel=1e-5)
        assert list(found["quantiles"]) == ["5", "25", "50", "75", "95"]
        assert list(found["quantiles"].values()) == pytest.approx(expected, rel=1e-5)


def test_other_columns_are_reported_by_what_is_frequent():
    kinds, reported = summarised(
        {
            "town": ["Ulm", "Ulm", None, "Bonn", "🙂" * 200],
            "flag": [True, False, True],
            "whole": numpy.array([1, 2, 3], dtype="int16"),
            "image": numpy.zeros((4, 2, 2), dtype="float32"),
            "mixed": [1, "a"],
            "nothing": [None],
            "endless": [1.0, math.inf],
        }
    )
    assert kinds == {
        **{"town": "str", "flag": "bool", "whole": "int16", "image": "float32[2, 2]", "mixed": "mixed"},
        **{"nothing": "empty", "endless": "float"},
    }
    assert reported["town"]["frequent"] == [["Ulm", 2], ["Bonn", 1], ["🙂" * 100, 1]]
    assert (reported["town"]["count"], reported["town"]["missing"], reported["town"]["distinct"]) == (4, 1, 3)
    assert reported["flag"]["mean"] == pytest.approx(2 / 3)
    assert (reported["image"]["count"], reported["image"]["deviation"]) == (16, 0.0)
    assert reported["endless"]["mean"] == reported["endless"]["max"] == "inf"
    json.dumps(reported, allow_nan=False)


def test_a_data_set_tells_its_columns(job):
    job.dataset(name="d", uri="x", columns={"a": [1, 2]}, schema={"a": "INTEGER"})
    job.dataset(name="e", uri="y", statistics={"a": {"mean": math.nan, "at": numpy.float32(0.5)}})
    job.dataset(name="f", uri="z")
    first, second, third = recorded_datasets(read_events(job.folder))
    assert (first["schema"], first["statistics"]["a"]["mean"]) == ({"a": "INTEGER"}, 1.5)
    assert second["statistics"] == {"a": {"mean": "nan", "at": 0.5}}
    assert set(third) == {"name", "uri", "digest", "version", "rows"}
    with pytest.raises(ValueError, match="columns must be a mapping from names to values, got list"):
        job.dataset(name="d", uri="x", columns=[1])
    with pytest.raises(ValueError, match="the statistics of column 'a' must be a mapping"):
        job.dataset(name="d", uri="x", statistics={"a": 1})


def test_the_environment_names_interpreter_machine_packages_and_image(monkeypatch):
    import importlib.metadata

    monkeypatch.setenv("MODELWAY_IMAGE", "registry/train@sha256:1")
    found = environment()
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["image"] == "registry/train@sha256:1"
    for name in ("numpy", "torch", "scikit-learn", "apache-airflow"):
        assert found["packages"][name] == importlib.metadata.version(name), name
    monkeypatch.setenv("MODELWAY_IMAGE", "other")
    assert environment()["digest"] != found["digest"] == (monkeypatch.undo() or found["digest"])


def test_an_environment_whose_images_digest_is_known_is_called_by_it(monkeypatch):
    monkeypatch.setenv("MODELWAY_IMAGE", "registry/train:1")
    reported = environment()
    assert with_image(reported, None) == reported
    found, other = with_image(reported, "sha256:1"), with_image(reported, "sha256:2")
    assert found["image"] == "registry/train:1@sha256:1"
    assert len({each["digest"] for each in (reported, found, other)}) == 3, "a tag may have been moved"
    assert with_image(found, "sha256:2") == found, "a reference by digest is always the same"
    assert with_image({**reported, "image": None}, "sha256:1")["image"] is None


def test_packages_are_read_off_folders_and_the_first_counts(tmp_path):
    for folder, names in {
        "a": ["Foo_Bar-1.0.dist-info", "old-2.1-py3.9.egg-info", "no_version.egg-info", "x.py"],
        "b": ["foo_bar-9.dist-info", "local-1.0+cu121.dist-info"],
    }.items():
        for name in names:
            (tmp_path / folder / name).mkdir(parents=True)
    found = installed_packages([str(tmp_path / "missing"), str(tmp_path / "a"), str(tmp_path / "b")])
    assert found == {"foo-bar": "1.0", "local": "1.0+cu121", "old": "2.1"}


def test_what_all_tries_took_on_all_machines_is_added_up(tmp_path):
    assert usage_in(tmp_path) == (None, 0.0)
    accounts = {
        "try-2/usage-0-a.json": '{"seconds": 4.0, "cpu_seconds": 3.0}',
        "try-2/usage-1-b.json": '{"seconds": 3.5, "cpu_seconds": 2.0}',
        "try-9/usage-0-c.json": "",
        "try-10/usage-0-d.json": '{"seconds": 1.5, "cpu_seconds": 1.0}',
        "try-10/usage-0-e.json": '{"seconds": 1.0, "cpu_seconds": 0.5}',
    }
    for name, text in accounts.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert usage_in(tmp_path) == (6.5, 4.0), "the last attempt's own seconds are reported with how it ended"


@pytest.mark.parametrize("kind", ["float32", "float16", "int64", "bool"])
def test_a_tensor_is_summarised_the_same_however_long_it_is(kind):
    values = (numpy.random.default_rng(0).normal(size=(3, 700_000)) * 3).astype(kind)
    found, wide = summary(values), values.astype("float64")
    expected = [numpy.linalg.norm(wide), wide.mean(), wide.std(), wide.min(), wide.max()]
    assert [found[key] for key in ("norm", "mean", "deviation", "min", "max")] == pytest.approx(expected, rel=1e-8)
    assert found["count"] == 2_100_000


def test_a_tensor_that_is_not_finite_or_empty_is_requested_too():
    assert summary(numpy.array([1.0, math.nan])) == {
        **{"count": 2, "norm": "nan", "mean": "nan", "deviation": "nan", "min": "nan", "max": "nan"}
    }
    assert summary(numpy.array([math.inf, -math.inf, 1.0]))["max"] == "inf"
    assert summary(numpy.zeros((0, 3))) == {"count": 0}
