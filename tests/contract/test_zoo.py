"""The kinds of models that people have go through freeze, verify and serve, or are refused in one line.

Libraries take seconds to load: one process freezes all kinds of a module, and another one verifies them.
"""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from modelway.artifacts.archive import write_archive
from modelway.artifacts.store import file_digest

from tests.zoo.marker import write_pickles
from tests.zoo.serve import served_difference

# Tens of models in one process, beside other tests.
pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).parents[2]
ZOO = ROOT / "tests" / "zoo"
#: where the libraries of estimators are (tests/system/install_estimators.sh)
ESTIMATORS = ROOT / ".venv-estimators"
#: torch modules by kind, in the module's order, to why the default format refuses them
MODULES = {
    "two inputs with a mask": None,
    "LSTM with state": None,
    "tokens and an embedding bag": None,
    "nested outputs": None,
    "a dict with boolean outputs": None,
    "an output with the batch last": None,
    "a transformer with tied weights over any length": None,
    "images of any size, left in training mode": None,
    "buffers and constants": None,
    "half weights": None,
    "bfloat16 weights": r"the weight 'body.0.weight' \(4 in all\) is bfloat16, .* write freeze.format: torch_export$",
    "a GRU in both directions": None,
    "an autoencoder": None,
    "a graph": None,
    "a branch by values": r"decides by the values of a tensor \(\S*torch_kinds.py:\d+ in forward\), .*torch.where",
}
#: those that torch's own operators refuse too
EXACTLY = {**dict.fromkeys(MODULES), "a branch by values": MODULES["a branch by values"]}
#: estimators by kind, in the module's order, to why they are refused
FITTED = {
    "a pipeline with a scaler, classes that are text": None,
    "a table with columns of text and numbers": None,
    "a forest that regresses, of 64 bits": None,
    "histogram gradient boosting with missing values": None,
    "distances to a boundary": None,
    "clusters": None,
    "outliers": None,
    "LightGBM, classes that are text": None,
    "LightGBM behind a scaler": None,
    "a booster of LightGBM": None,
    "XGBoost with missing values": None,
    "XGBoost that regresses": None,
    "a booster of XGBoost": None,
    "texts with words of any language": None,
    "a table of numbers whose names have spaces, classes 0.0 and 1.0": None,
    "XGBoost that was fitted on a table": None,
    "pixels of 8 bits": None,
    "text with a missing value": r"'colour' is text with a value that is none \(None\), .* fillna",
    "a sparse matrix": r"'x' is a sparse matrix, .*toarray",
    "a booster of LightGBM on a table": r"failed: .*Give all columns as one array in place of a table$",
    "not fitted": r"sklearn.Ridge does not answer the example inputs: NotFittedError: .*Call 'fit'",
    "a function of one's own": r"converter to ONNX failed: .*FunctionTransformer is not supported .* files$",
    "columns that are missing": r"does not answer the example inputs: ValueError: X has 2 features, but Ridge is exp",
}


@dataclass(frozen=True)
class Zoo:
    """The folders of frozen models, and why others were refused."""

    folder: Path
    verified: dict[Path, dict[str, Any]]

    def frozen(self, kind: str, kinds: dict[str, Any], *, format: str = "onnx") -> Path:
        """Return the folder of a frozen model."""
        return self.folder / format / str(list(kinds).index(kind))

    def refused(self, kind: str, kinds: dict[str, Any], *, format: str = "onnx") -> str | None:
        """Return why a model was refused; None: it was not."""
        path = self.frozen(kind, kinds, format=format).with_suffix(".refused")
        return path.read_text() if path.exists() else None

    def check(self, kind: str, kinds: dict[str, str | None], *, format: str = "onnx") -> Path | None:
        """Check that a kind was refused as expected, or was verified; return the folder of the frozen model."""
        said, expected = self.refused(kind, kinds, format=format), kinds[kind]
        if expected is not None:
            assert said is not None
            assert "\n" not in said
            assert re.search(expected, said), said
            return None
        assert said is None
        folder = self.frozen(kind, kinds, format=format)
        report = self.verified[folder]
        assert report.get("error") is None
        assert report["calls"] > 0
        assert report["max_abs_difference"] < 0.01
        return folder


def run(python: Path | str, script: str, *words: object) -> str:
    done = subprocess.run(
        [str(python), "-W", "ignore", str(ZOO / script), *map(str, words)],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join([str(ROOT / "plugins"), str(ROOT)]),
            "OMP_NUM_THREADS": "1",
            # A job makes the converters' environment of these.
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(ESTIMATORS / "wheels"),
        },
        capture_output=True,
        text=True,
        timeout=580,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def verify(folders: list[Path]) -> dict[Path, dict[str, Any]]:
    """Return the report of each frozen model."""
    archives = {}
    for folder in folders:
        archives[folder] = folder.parent / f"{folder.name}.zip"
        shutil.copytree(folder, tree := folder.parent / f"{folder.name}.tree")
        write_archive(folder=tree, documents={}, to=archives[folder])
    run(sys.executable, "verify_all.py", *archives.values())
    return {folder: json.loads(archive.with_suffix(".json").read_text()) for folder, archive in archives.items()}


def frozen_zoo(python: Path | str, module: Path, folder: Path, *formats: str) -> Zoo:
    run(python, "freeze_all.py", module, folder, *formats)
    # Torch's first, see verify_all.py.
    names = sorted(formats, reverse=True)
    found = [path.parents[1] for format in names for path in sorted((folder / format).glob("*/outputs/model.yml"))]
    return Zoo(folder=folder, verified=verify(found))


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    return frozen_zoo(
        sys.executable, ZOO / "torch_kinds.py", tmp_path_factory.mktemp("modules"), "onnx", "torch_export"
    )


@pytest.fixture(scope="module")
def estimators(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    if not (ESTIMATORS / ".installed").exists():
        assert os.environ.get("CI") != "true", "the libraries of estimators are not installed"
        pytest.skip("the libraries of estimators are not installed: make services")
    python = ESTIMATORS / "bin" / "python"
    return frozen_zoo(python, ZOO / "estimator_kinds.py", tmp_path_factory.mktemp("estimators"), "onnx")


@pytest.mark.parametrize("kind", MODULES)
def test_a_torch_module_is_served_by_onnx_runtime(modules: Zoo, kind: str) -> None:
    if (folder := modules.check(kind, MODULES)) is not None:
        assert served_difference(folder) < 0.01


@pytest.mark.parametrize("kind", EXACTLY)
def test_a_torch_module_is_served_by_its_own_operators_exactly(modules: Zoo, kind: str) -> None:
    if (folder := modules.check(kind, EXACTLY, format="torch_export")) is not None:
        served = json.loads((modules.folder / "served.json").read_text())
        # The module itself may go a way of fewer operators than its program, as a transformer does in eval mode.
        assert served[folder.name] < 1e-5
        assert modules.verified[folder]["max_abs_difference"] < 1e-5


@pytest.mark.parametrize("kind", FITTED)
def test_an_estimator_is_served_by_onnx_runtime(estimators: Zoo, kind: str) -> None:
    if (folder := estimators.check(kind, FITTED)) is not None:
        assert served_difference(folder) < 1e-3


def inventory(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in files}


def described(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "outputs" / "model.yml").read_text())
    return document


def test_all_formats_have_the_same_bytes_for_code_in_another_folder(modules: Zoo, tmp_path: Path) -> None:
    elsewhere = tmp_path / "an other" / "deeper"
    elsewhere.mkdir(parents=True)
    kinds = ("images of any size, left in training mode", "a transformer with tied weights over any length")
    text = (ZOO / "torch_kinds.py").read_text()
    # Two of the kinds, in their places, are enough.
    text += "\nall_kinds = kinds\ndef kinds():\n"
    text += f"    return {{kind: given if kind in {kinds} else None for kind, given in all_kinds().items()}}\n"
    (elsewhere / "torch_kinds.py").write_text(text)
    run(sys.executable, "freeze_all.py", elsewhere / "torch_kinds.py", tmp_path / "again", "onnx", "torch_export")
    again = Zoo(folder=tmp_path / "again", verified={})
    for format in ("onnx", "torch_export"):
        for kind in kinds:
            frozen, other = (each.frozen(kind, MODULES, format=format) for each in (modules, again))
            assert inventory(frozen) == inventory(other)
            for path in frozen.rglob("*"):
                text = path.read_bytes() if path.is_file() else b""
                assert not any(leak in text for leak in (b"torch_kinds", b"/tmp", b"site-packages"))


def test_a_weight_with_two_names_is_stored_once(modules: Zoo) -> None:
    kind = "a transformer with tied weights over any length"
    for format in ("onnx", "torch_export"):
        folder = modules.frozen(kind, MODULES, format=format)
        names = [each["name"] for each in described(folder)["tensors"] if each["shape"] in ([40, 8], [8, 40])]
        assert len([name for name in names if name in ("embed.weight", "out.weight")]) == 1


def test_weights_of_16_bits_need_a_wider_tolerance_and_verifying_says_so(modules: Zoo) -> None:
    strict = modules.verified[modules.frozen("half weights", MODULES)]["strict"]
    assert "The weights are float16" in strict
    assert "verify.tolerance: {absolute: 0.01, relative: 0.01}" in strict


def test_text_comes_back_as_text(estimators: Zoo) -> None:
    folder = estimators.frozen("a pipeline with a scaler, classes that are text", FITTED)
    label, probabilities = described(folder)["outputs"]
    assert label == {"name": "label", "datatype": "BYTES", "shape": [-1]}
    assert probabilities == {"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]}
    assert [each["type"] for each in described(folder)["layers"]] == ["StandardScaler", "LogisticRegression"]
    table = described(estimators.frozen("a table with columns of text and numbers", FITTED))
    assert [(each["name"], each["datatype"], each["shape"]) for each in table["inputs"]] == [
        ("colour", "BYTES", [-1, 1]),
        ("size", "FP32", [-1, 1]),
        ("weight", "FP32", [-1, 1]),
    ]
    assert table["outputs"][0]["name"] == "prediction"
    numbers = described(estimators.frozen("a table of numbers whose names have spaces, classes 0.0 and 1.0", FITTED))
    assert [(each["name"], each["datatype"]) for each in numbers["inputs"]] == [
        ("body size", "FP32"),
        ("näme.1", "INT64"),
        ("flag", "BOOL"),
    ]
    texts = described(estimators.frozen("texts with words of any language", FITTED))
    assert texts["inputs"] == [{"name": "x", "datatype": "BYTES", "shape": [-1, 1]}]


def test_the_converters_have_an_environment_of_their_own_where_protobuf_does_not_suit(estimators: Zoo) -> None:
    assert [path.name for path in (estimators.folder / "venvs").glob("*/complete")] == ["complete"]
    frozen = estimators.frozen("histogram gradient boosting with missing values", FITTED)
    assert described(frozen)["operators"] == ["TreeEnsembleClassifier"]
    assert "scikit-learn" in (frozen / "outputs" / "graph_version.txt").read_text()


def test_requests_are_joined_where_rows_are_independent(modules: Zoo, estimators: Zoo) -> None:
    for kind in ("two inputs with a mask", "a dict with boolean outputs", "bfloat16 weights"):
        assert modules.verified[modules.frozen(kind, MODULES, format="torch_export")]["batches"] is True
    for kind in ("an output with the batch last", "a graph", "LSTM with state"):
        for format in ("onnx", "torch_export"):
            assert modules.verified[modules.frozen(kind, MODULES, format=format)]["batches"] is False
    assert all(report["batches"] is True for report in estimators.verified.values())


#: files of a frozen model that are replaced by a pickle, by format
READ = {
    "onnx": ("model/model.onnx", "model/model.safetensors", "golden/inputs.safetensors", "outputs/model.yml"),
    "torch_export": ("model/program.json", "model/model.safetensors", "golden/inputs.safetensors", "outputs/model.yml"),
}


def test_nothing_is_unpickled_by_what_verifies_and_serves(modules: Zoo, tmp_path: Path) -> None:
    """A pickle beside the files of a model is left alone, and one in the place of a file is refused."""
    marker = tmp_path / "unpickled"
    (tmp_path / "pickle").mkdir()
    write_pickles(tmp_path / "pickle", marker)
    beside, instead = [], []
    for format in sorted(READ, reverse=True):
        frozen = modules.frozen("a transformer with tied weights over any length", MODULES, format=format)
        for name in (None, *READ[format]):
            folder = tmp_path / format / ("beside" if name is None else name.replace("/", "-"))
            shutil.copytree(frozen, folder)
            if name is None:
                write_pickles(folder / "model", marker)
                write_pickles(folder / "golden", marker)
                beside.append(folder)
            else:
                shutil.copyfile(tmp_path / "pickle" / "model.pkl", folder / name)
                instead.append(folder)
    # Torch's first, see verify_all.py.
    reports = verify(sorted([*beside, *instead], key=lambda folder: "torch_export" not in folder.parts))
    assert [reports[folder].get("error") for folder in beside] == [None, None]
    assert all(reports[folder]["error"].startswith("VerificationError: ") for folder in instead), reports
    loaded = run(sys.executable, "load_all.py", *beside, *instead).splitlines()
    assert loaded[:2] == ["served", "served"]
    said = dict(zip(instead, loaded[2:], strict=True))
    assert all(text.startswith("CannotServe: ") for folder, text in said.items() if "golden" not in folder.name), said
    assert not marker.exists()
    pickle.loads((tmp_path / "pickle" / "model.pkl").read_bytes())
    assert marker.exists()
