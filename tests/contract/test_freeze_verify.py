"""Freezing a small torch module and verifying it in a fresh process. One freeze serves all tests that only read."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy
import onnx
import onnxruntime
import pytest
from modelway.artifacts.archive import write_archive
from modelway.artifacts.store import file_digest
from modelway.job.freezing.golden import GOLDEN_BATCHES
from safetensors.numpy import load_file, save

from tests.job_folders import write_job

PLUGINS = Path(__file__).parents[2] / "plugins"
TOLERANCE = {"absolute": 1e-4, "relative": 1e-3}
CODE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 16)
        self.body = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 3))

    def forward(self, words, scale):
        return self.body(self.embed(words).mean(1)) * scale

def export(job, checkpoint):
    torch.manual_seed(1)
    examples = {
        "good": (torch.randint(0, 20, (1, 5)), torch.rand(1, 1)),
        "none": None,
        "empty": {},
        "number": 3,
        "many": (torch.rand(2, 2),) * 3,
        "scalar": (torch.tensor(1), torch.tensor(1.0)),
        "list": {"words": [[1, 2]], "scale": torch.rand(1, 1)},
        "names": {1: torch.rand(1, 1)},
    }
    kind = job.params["kind"]
    if kind == "bare":
        return Net()
    if kind == "function":
        return (lambda words: words), torch.rand(2, 2)
    if kind == "file":
        return torch.load(checkpoint), examples["good"]
    return Net(), examples[kind]
"""
VERIFY = """
from pathlib import Path
from modelway.job.freezing.verify import verify
verify(archive=Path("{}"), scratch=Path("to"), report=Path("report"), absolute=1e-4, relative=1e-3)
"""
FREEZE_ALL = """
import json, sys
from pathlib import Path
from modelway.job.__main__ import main
for folder in sys.argv[1:]:
    sys.modules.pop("tiny", None)
    main(Path(folder))
"""


def python(*words, cwd):
    return subprocess.run(
        [sys.executable, *map(str, words)],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(PLUGINS), "OMP_NUM_THREADS": "1"},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=240,
    )


def freeze_job(folder, kind):
    return write_job(folder, code=CODE, action="freeze", stage="freeze", params={"kind": kind}, seed=3)


@pytest.fixture(scope="module")
def frozen(tmp_path_factory):
    """The folder of a frozen model."""
    folder = freeze_job(tmp_path_factory.mktemp("first"), "good")
    done = python("-m", "modelway.job", folder, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "output" / "archive"


@pytest.fixture(scope="module")
def archive(frozen, tmp_path_factory):
    """The archive of the frozen model."""
    tree = tmp_path_factory.mktemp("archive")
    shutil.copytree(frozen, tree / "tree")
    write_archive(folder=tree / "tree", documents={"outputs/meta.yml": {"name": "tiny"}}, to=tree / "model.zip")
    return tree / "model.zip"


def inventory(folder):
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in folder.rglob("*") if path.is_file()}


def session(frozen):
    return onnxruntime.InferenceSession(frozen / "model" / "model.onnx", providers=["CPUExecutionProvider"])


def test_the_frozen_model_is_these_files(frozen):
    assert sorted(inventory(frozen)) == [
        "golden/inputs.safetensors",
        "golden/outputs.safetensors",
        "model/model.onnx",
        "model/model.safetensors",
        "outputs/graph_version.txt",
        "outputs/model.yml",
    ]
    assert "opset" in (frozen / "outputs" / "graph_version.txt").read_text()


def test_the_signature_has_a_free_batch_and_the_types_of_the_inputs(frozen):
    document = json.loads((frozen / "outputs" / "model.yml").read_text())
    assert document["inputs"] == [
        {"name": "words", "datatype": "INT64", "shape": [-1, 5]},
        {"name": "scale", "datatype": "FP32", "shape": [-1, 1]},
    ]
    (output,) = document["outputs"]
    assert (output["datatype"], output["shape"]) == ("FP32", [-1, 3])
    assert document["parameters"] == 20 * 16 + 16 * 32 + 32 + 32 * 3 + 3
    assert {"name": "embed", "type": "Embedding", "parameters": 320} in document["layers"]


@pytest.mark.parametrize("size", [1, 2, 3, 50])
def test_any_batch_size_runs(frozen, size):
    feed = {"words": numpy.zeros((size, 5), dtype="int64"), "scale": numpy.ones((size, 1), dtype="float32")}
    (answer,) = session(frozen).run(None, feed)
    assert answer.shape == (size, 3)


def test_the_weights_are_held_once(frozen):
    tensors = load_file(frozen / "model" / "model.safetensors")
    largest = max(tensors.values(), key=lambda tensor: tensor.nbytes)
    assert largest.shape in ((16, 32), (32, 16))
    assert largest.tobytes() not in (frozen / "model" / "model.onnx").read_bytes()
    program = onnx.load(frozen / "model" / "model.onnx", load_external_data=False)
    external = {
        tensor.name: {entry.key: entry.value for entry in tensor.external_data}
        for tensor in program.graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
    }
    assert external.keys() == tensors.keys()
    assert {place["location"] for place in external.values()} == {"model.safetensors"}


def test_dropout_is_frozen_off_and_golden_batches_hold_the_checkpoints_answers(frozen):
    inputs = load_file(frozen / "golden" / "inputs.safetensors")
    outputs = load_file(frozen / "golden" / "outputs.safetensors")
    running = session(frozen)
    (name,) = [output.name for output in running.get_outputs()]
    assert len(outputs) == len(GOLDEN_BATCHES)
    for size in GOLDEN_BATCHES:
        feed = {"words": inputs[f"{size}/words"], "scale": inputs[f"{size}/scale"]}
        assert feed["words"].shape == (size, 5)
        (answer,) = running.run(None, feed)
        numpy.testing.assert_allclose(answer, outputs[f"{size}/{name}"], atol=1e-5)


def test_no_path_of_the_source_is_in_the_files(frozen):
    for path in frozen.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            for leak in (
                b"tiny.py",
                b"/tmp/",
                b"site-packages",
                str(frozen.parents[1]).encode(),
                str(PLUGINS).encode(),
            ):
                assert leak not in data, (path.name, leak)


def test_frozen_in_another_folder_the_bytes_are_the_same(frozen, tmp_path):
    bad = {
        "none": "ValueError: export: the example inputs must be tensors by the names of forward's arguments (words, sc",
        "empty": "ValueError: export: the example inputs must be",
        "number": "ValueError: export: the example inputs must be",
        "many": "ValueError: export: the example inputs must be",
        "names": "ValueError: export: the example inputs must be",
        "scalar": "ValueError: export: example input 'words' must be a tensor with a batch dimension first",
        "list": "ValueError: export: example input 'words' must be a tensor, got list; a request carries one",
        "bare": "TypeError: export must give (model, example inputs), got Net",
        "function": "TypeError: export must give a torch.nn.Module, a fitted estimator (of scikit-learn, ",
        "file": "AttributeError: ",
    }
    again = freeze_job(tmp_path / "an other" / "deeper", "good")
    folders = {kind: freeze_job(tmp_path / kind, kind) for kind in bad}
    # One process, since torch takes seconds to load; the good one last, so that no refusal may disturb it.
    done = python("-c", FREEZE_ALL, *folders.values(), again, cwd=tmp_path)
    reported = {kind: json.loads((folder / "error.json").read_text())["reason"] for kind, folder in folders.items()}
    for kind, said in bad.items():
        assert reported[kind].startswith(said), (kind, reported[kind])
    assert not (again / "error.json").exists(), done.stderr
    assert inventory(again / "output" / "archive") == inventory(frozen)


def verify(folder, archive, **tolerance):
    """Run a verify job; return its report, or the reason why it failed."""
    write_job(folder, action="verify", stage="verify", params={**TOLERANCE, **tolerance}, inputs={"archive": "archive"})
    shutil.copy(archive, folder / "archive")
    done = python("-m", "modelway.job", folder, cwd=folder)
    if done.returncode:
        return json.loads((folder / "error.json").read_text())["reason"]
    return json.loads((folder / "output" / "verify.json").read_text())


def with_member(archive, to, name, data, *, listed=False):
    """Write the archive again with another member; ``listed`` says so in its manifest."""
    with zipfile.ZipFile(archive) as zipped:
        members = {each: zipped.read(each) for each in zipped.namelist()}
    if listed:
        tree = to.parent / "tree"
        for each, old in members.items():
            (tree / each).parent.mkdir(parents=True, exist_ok=True)
            if each != "MANIFEST.json":
                (tree / each).write_bytes(data if each == name else old)
        write_archive(folder=tree, documents={}, to=to)
        return to
    members[name] = data
    with zipfile.ZipFile(to, "w") as zipped:
        for each, value in members.items():
            if value is not None:
                zipped.writestr(each, value)
    return to


def test_a_frozen_model_is_verified(archive, tmp_path):
    report = verify(tmp_path, archive)
    assert report["sizes"] == sorted(GOLDEN_BATCHES)
    assert report["rows"] == 0
    assert report["members"] == 7
    assert 0 <= report["max_abs_difference"] < 1e-4
    assert report["tolerance"] == TOLERANCE


def test_verifying_needs_no_torch_and_loads_none(archive, tmp_path):
    code = (
        "import sys\n"
        f"{VERIFY.format(archive)}\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'torch', 'sklearn', 'onnx', 'tiny'}))\n"
        "import torch\n"
    )
    done = python("-c", code, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "VerificationError: the frozen model tried to import the module torch" in done.stderr


@pytest.mark.parametrize("name", ["model/model.onnx", "model/model.safetensors", "golden/outputs.safetensors"])
def test_a_changed_member_is_refused(archive, tmp_path, name):
    changed = with_member(archive, tmp_path / "changed.zip", name, b"changed")
    said = f"VerificationError: the member '{name}' has other bytes than MANIFEST.json says"
    assert verify(tmp_path / "job", changed) == said


def test_a_member_too_many_or_too_few_is_refused(archive, tmp_path):
    said = "VerificationError: the archive's members are not those of its MANIFEST.json"
    assert verify(tmp_path / "a", with_member(archive, tmp_path / "more.zip", "model/evil.py", b"x")) == said
    assert verify(tmp_path / "b", with_member(archive, tmp_path / "less.zip", "model/model.onnx", None)) == said


@pytest.mark.parametrize("length", [0, 100, -1])
def test_a_truncated_archive_is_refused(archive, tmp_path, length):
    cut = tmp_path / "cut.zip"
    cut.write_bytes(archive.read_bytes()[:length])
    assert verify(tmp_path / "job", cut).startswith("VerificationError: the archive is damaged")


def test_a_model_that_answers_otherwise_is_refused(archive, frozen, tmp_path):
    outputs = load_file(frozen / "golden" / "outputs.safetensors")
    name = next(iter(outputs))
    outputs[name] = outputs[name] + numpy.float32(0.5)
    other = with_member(archive, tmp_path / "other.zip", "golden/outputs.safetensors", save(outputs), listed=True)
    reason = verify(tmp_path / "job", other)
    assert "is not what the checkpoint answered: it differs by 0.5 at most, on 1 of 1 rows, most on row 0 (" in reason
    assert "allowed are 0.0001 + 0.001 x value" in reason
    assert verify(tmp_path / "wide", other, absolute=1.0)["max_abs_difference"] == pytest.approx(0.5, abs=1e-4)


def test_an_archive_without_golden_inputs_is_refused(archive, tmp_path):
    other = with_member(archive, tmp_path / "other.zip", "golden/inputs.safetensors", save({}), listed=True)
    assert verify(tmp_path / "job", other) == "VerificationError: the archive has no golden inputs"


@pytest.mark.parametrize(
    "attempt",
    [
        "import pickle; pickle.loads(b'cos\\nsystem\\n(S\"true\"\\ntR.')",
        "import subprocess; subprocess.run(['true'])",
        "import os; os.system('true')",
        "import os; os.fork()",
        "import os; os.posix_spawn('/bin/true', ['true'], {})",
        "import os; os.execv('/bin/true', ['true'])",
        "import socket; socket.socket().connect(('127.0.0.1', 9))",
    ],
)
def test_after_the_load_nothing_is_unpickled_started_or_connected_to(archive, tmp_path, attempt):
    code = f"{VERIFY.format(archive)}\n{attempt}\nprint('it was done')\n"
    done = python("-c", code, cwd=tmp_path)
    assert "VerificationError: the frozen model did what it must not" in done.stderr
    assert "it was done" not in done.stdout
    assert done.returncode == 1
