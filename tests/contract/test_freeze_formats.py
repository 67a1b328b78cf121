"""Freezing what is no torch module: ONNX files that export names or a command leaves, and files of any kind."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy
import onnx
import pytest
from modelway.artifacts.archive import write_archive
from modelway.job.freezing.exported import Exported
from modelway.job.freezing.freeze import freeze
from modelway.job.freezing.golden import read_calls
from modelway.server.core.refusal import CannotServe
from modelway.server.core.runtime import load_model
from onnx import TensorProto, helper, numpy_helper

from tests.job_folders import write_job
from tests.zoo.marker import write_pickles
from tests.zoo.serve import served_difference

ROOT = Path(__file__).parents[2]
WEIGHT = numpy.arange(400, dtype="float32").reshape(4, 100) / 100
ROWS = numpy.random.default_rng(1).normal(size=(6, 4)).astype("float32")


def program(
    path: Path, *, batch: str | int = "N", wrong: float = 0.0, labels: bool = False, parts: bool = False
) -> Path:
    """Write x @ w as other tools write it: own names, external data, an output without a shape."""
    weight = numpy_helper.from_array(WEIGHT + numpy.float32(wrong), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], doc_string="/home/me/secret.py")]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 100])]
    if labels:
        nodes += [
            helper.make_node("ArgMax", ["y"], ["place"], axis=1, keepdims=0),
            helper.make_node(
                "LabelEncoder",
                ["place"],
                ["name"],
                domain="ai.onnx.ml",
                keys_int64s=[*range(100)],
                values_strings=[f"ä{number}" for number in range(100)],
            ),
        ]
        outputs.append(helper.make_tensor_value_info("name", TensorProto.STRING, None))
    if parts:
        nodes.append(helper.make_node("SplitToSequence", ["y"], ["parts"]))
        outputs.append(helper.make_tensor_sequence_value_info("parts", TensorProto.FLOAT, None))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 4])]
    graph = helper.make_graph(nodes, "given", inputs, outputs, [weight])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="another tool")
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=0)
    return path


def answers(inputs: Any) -> dict[str, Any]:
    y = inputs["x"].astype("float64") @ WEIGHT
    return {"y": y, "score": y, "name": numpy.array([f"ä{number}" for number in y.argmax(1)])}


def frozen(folder: Path, model: Any, inputs: Any = None, format: str = "onnx", **options: Any) -> Path:
    freeze(exported=Exported.of((model, inputs, options)), name="given", seed=0, folder=folder, format=format)
    return folder


def described(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "outputs" / "model.yml").read_text())
    return document


def verified(*folders: Path) -> list[dict[str, Any]]:
    """Return the report of each frozen model, verified in a fresh process."""
    archives = [folder.parent / f"{folder.name}.zip" for folder in folders]
    for folder, archive in zip(folders, archives, strict=True):
        shutil.copytree(folder, tree := archive.with_suffix(".tree"))
        write_archive(folder=tree, documents={}, to=archive)
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "zoo" / "verify_all.py"), *map(str, archives)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join([str(ROOT / "plugins"), str(ROOT)])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(archive.with_suffix(".json").read_text()) for archive in archives]


def test_an_onnx_file_is_verified_against_the_checkpoints_own_answers_and_served(tmp_path: Path) -> None:
    path = program(tmp_path / "made" / "elsewhere.onnx", labels=True)
    folder = frozen(tmp_path / "good", path, ROWS, answers=answers, output_names=["score", "name"])
    wrong = program(tmp_path / "wrong" / "elsewhere.onnx", wrong=0.1)
    other = frozen(tmp_path / "bad", wrong, ROWS, answers=answers)
    assert described(folder)["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    assert described(folder)["outputs"] == [
        {"name": "score", "datatype": "FP32", "shape": [-1, 100]},
        {"name": "name", "datatype": "BYTES", "shape": [-1]},
    ]
    report, refused = verified(folder, other)
    assert report["sizes"] == [1, 2, 7, 32]
    assert report["batches"] is True
    assert report["max_abs_difference"] < 1e-5
    assert re.search("output 'y' at golden batch 1 is not what the checkpoint answered", refused["error"])
    assert served_difference(folder) < 1e-5
    # The weights are beside the program, as in every frozen model, and nothing of where it was made.
    assert sorted(each.name for each in (folder / "model").iterdir()) == ["model.onnx", "model.safetensors"]
    assert b"secret" not in (folder / "model" / "model.onnx").read_bytes()


def test_the_bytes_do_not_depend_on_where_an_onnx_file_was(tmp_path: Path) -> None:
    one, other = (
        frozen(tmp_path / name, program(tmp_path / f"in {name}" / "x.onnx"), ROWS) for name in ("one", "an other")
    )
    files = [path.relative_to(one) for path in one.rglob("*") if path.is_file()]
    assert len(files) == 6
    for file in files:
        assert (one / file).read_bytes() == (other / file).read_bytes()


def test_an_onnx_file_of_a_fixed_batch_is_served_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = frozen(tmp_path / "fixed", program(tmp_path / "x.onnx", batch=6), ROWS)
    assert "x.onnx is compared with itself, not with the checkpoint: export gives no answers" in capsys.readouterr().out
    assert described(folder)["inputs"][0]["shape"] == [6, 4]
    assert list(read_calls(folder)) == ["example"]
    assert verified(folder)[0]["batches"] is False
    assert served_difference(folder) == 0


REFUSED = {
    "no file": (
        lambda at: (at / "gone.onnx", ROWS, {}),
        "onnx",
        r"there is no file .*gone.onnx; give the path of an ONNX",
    ),
    "another file": (
        lambda at: (Path(__file__), ROWS, {}),
        "onnx",
        "test_freeze_formats.py is no file called .onnx; .* files",
    ),
    "no program": (lambda at: (_text(at / "x.onnx"), ROWS, {}), "onnx", "x.onnx is no ONNX program: "),
    "no examples": (
        lambda at: (program(at / "x.onnx"), None, {}),
        "onnx",
        "give example inputs of x.onnx by their names, x",
    ),
    "other examples": (
        lambda at: (program(at / "x.onnx"), {"z": ROWS}, {}),
        "onnx",
        "give example inputs of x.onnx by their names, x; got z",
    ),
    "too few columns": (
        lambda at: (program(at / "x.onnx"), ROWS[:, :3], {}),
        "onnx",
        r"input 'x' is float32 of shape \[6, 3\], x.onnx takes float of shape \[-1, 4\]",
    ),
    "a sequence": (
        lambda at: (program(at / "x.onnx", parts=True), ROWS, {}),
        "onnx",
        "output 'parts' of x.onnx is Sequence.*, which requests do not carry; let the converter give tensors",
    ),
    "answers without an output": (
        lambda at: (program(at / "x.onnx"), ROWS, {"answers": lambda inputs: {"z": 1}}),
        "onnx",
        "answers must give each output of the program by its name: y; it gives z, without 'y'",
    ),
    "an option of modules": (
        lambda at: (program(at / "x.onnx"), ROWS, {"dynamic": {"x": {1: "length"}}}),
        "onnx",
        "the option dynamic is for a torch module, the model is a path; leave it out",
    ),
    "exactly": (
        lambda at: (program(at / "x.onnx"), ROWS, {}),
        "torch_export",
        "torch_export is for a torch module, export gave a path; write format: onnx",
    ),
    "files of nothing": (lambda at: (at / "gone", None, {}), "files", "there is no file at .*gone; give the path of"),
    "files with examples": (
        lambda at: (program(at / "x.onnx"), {"x": ROWS}, {}),
        "files",
        "examples of files need answers, a function",
    ),
    "files of a model": (
        lambda at: (type("Model", (), {"predict": lambda self, x: x})(), ROWS, {}),
        "files",
        "freeze.format: files is for a path, export gave an estimator",
    ),
    "files with a link": (
        lambda at: (_linked(at / "linked"), None, {}),
        "files",
        "the link out leads out of the folder; put the file itself there",
    ),
    "no model": (
        lambda at: (lambda x: x, ROWS, {}),
        "onnx",
        "must give a torch.nn.Module, a fitted estimator .*got function",
    ),
}


def _text(path: Path) -> Path:
    path.write_text("this is no program")
    return path


def _linked(folder: Path) -> Path:
    folder.mkdir()
    (folder / "model.bin").write_text("x")
    (folder / "out").symlink_to(__file__)
    return folder


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_frozen_is_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    give, format, expected = REFUSED[kind]
    model, inputs, options = give(tmp_path)
    with pytest.raises((ValueError, TypeError)) as caught:
        frozen(tmp_path / "frozen", model, inputs, format, **options)
    said = str(caught.value)
    assert "\n" not in said
    assert re.search(expected, said), said


def branches(path: Path) -> Path:
    """Write x @ w or x @ -w, by the sign of their sum: all numbers are in a file beside it."""
    graphs = [
        helper.make_graph(
            [
                helper.make_node(
                    "Constant", [], ["one"], value=numpy_helper.from_array(numpy.ones((1, 100), "float32"))
                ),
                helper.make_node("MatMul", ["x", name], ["product"]),
                helper.make_node("Mul", ["product", "one"], [f"{name}_y"]),
            ],
            name,
            [],
            [helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(WEIGHT * sign, name)],
        )
        for name, sign in (("more", numpy.float32(1)), ("less", numpy.float32(-1)))
    ]
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["y"], then_branch=graphs[0], else_branch=graphs[1]),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size]) for name, size in (("x", 4), ("y", 100)))
    graph = helper.make_graph(nodes, "given", [x], [y], [numpy_helper.from_array(numpy.float32(0), "zero")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path, save_as_external_data=True, location="inner.data", size_threshold=0, convert_attribute=True)
    return path


def test_numbers_of_branches_and_small_ones_are_read_from_their_file(tmp_path: Path) -> None:
    path = branches(tmp_path / "branches.onnx")
    folder = frozen(tmp_path / "frozen", path, {"x": numpy.ones((1, 4), "float32")})
    for given in (path, tmp_path / "inner.data"):
        given.unlink()
    model = load_model(folder, threads=1)
    for sign in (1, -1):
        x = numpy.full((1, 4), sign, "float32")
        assert numpy.allclose(model.run({"x": x})["y"], abs(x) @ WEIGHT)


FILES = """
def export(job, checkpoint):
    return checkpoint, {"x": [[1.0], [2.0]]}, {"answers": lambda inputs: {"y": inputs["x"] * 2}}
"""
COMMAND = """
import os, pathlib, shutil
import numpy
folder = pathlib.Path(os.environ["MODELWAY_OUTPUT"]) / "export"
folder.mkdir(parents=True)
checkpoint = pathlib.Path(os.environ["MODELWAY_CHECKPOINT"])
for each in checkpoint.parent.iterdir():
    shutil.copy(each, folder / each.name.replace("checkpoint", "model.onnx") if each == checkpoint else folder)
x = numpy.load("rows.npy")
numpy.savez(folder / "examples.npz", x=x)
numpy.savez(folder / "answers.npz", y=numpy.load("answers.npy"))
"""


def job(folder: Path, **fields: Any) -> Path:
    """Run a freeze job; return the folder of the frozen model."""
    write_job(folder, action="freeze", stage="freeze", inputs={"checkpoint": "inputs/checkpoint"}, **fields)
    subprocess.run(
        [sys.executable, "-m", "modelway.job", str(folder)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "plugins")},
        capture_output=True,
        timeout=120,
    )
    return folder / "output" / "archive"


def reason(folder: Path) -> str | None:
    error = folder / "error.json"
    return json.loads(error.read_text())["reason"] if error.exists() else None


def test_a_command_leaves_an_onnx_file_with_the_checkpoints_answers(tmp_path: Path) -> None:
    command = (sys.executable, "convert.py")
    folders = {}
    for name, wrong in (("good", 0.0), ("bad", 0.5)):
        folder = tmp_path / name
        program(folder / "inputs" / "checkpoint")
        (folder / "code").mkdir()
        (folder / "code" / "convert.py").write_text(COMMAND)
        numpy.save(folder / "code" / "rows.npy", ROWS)
        numpy.save(folder / "code" / "answers.npy", ROWS @ WEIGHT + numpy.float32(wrong))
        folders[name] = job(folder, command=command, freeze_format="onnx")
        assert reason(folder) is None
    report, refused = verified(*folders.values())
    assert report["sizes"] == [1, 2, 7, 32]
    assert "differs by 0.5 at most, on 1 of 1 rows" in refused["error"]
    assert served_difference(folders["good"]) < 1e-5


def test_what_a_command_did_not_leave_is_named(tmp_path: Path) -> None:
    for name, command, said in (
        ("nothing", ("true",), "the freeze command left no output/export/model.onnx; write it below $MODELWAY_OUTPUT"),
        (
            "no examples",
            ("sh", "-c", 'mkdir "$MODELWAY_OUTPUT/export" && touch "$MODELWAY_OUTPUT/export/model.onnx"'),
            "the freeze command left no output/export/examples.npz, with an array of rows for each input",
        ),
    ):
        job(tmp_path / name, command=command)
        assert reason(tmp_path / name) == f"ValueError: {said}"


def test_files_are_recorded_and_served_by_an_image_of_the_users_own(tmp_path: Path) -> None:
    marker = tmp_path / "unpickled"
    checkpoint = tmp_path / "job" / "inputs" / "checkpoint"
    checkpoint.mkdir(parents=True)
    write_pickles(checkpoint, marker)
    names = sorted(path.name for path in checkpoint.iterdir())
    folder = job(tmp_path / "job", code=FILES, freeze_format="files")
    assert reason(tmp_path / "job") is None
    assert sorted(path.name for path in (folder / "model").iterdir()) == names
    assert described(folder)["platform"] == "files"
    assert described(folder)["outputs"] == [{"name": "y", "datatype": "FP64", "shape": [-1, 1]}]
    (report,) = verified(folder)
    assert (report["members"], report["calls"], report["max_abs_difference"]) == (4 + len(names), 4, None)
    with pytest.raises(CannotServe, match="frozen with format: files, which an image of your own serves"):
        load_model(folder, threads=1)
    assert not marker.exists()
