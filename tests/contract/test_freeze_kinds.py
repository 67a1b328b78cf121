"""Modules of many kinds, frozen in one process: what their outputs are called, how they answer, what is refused."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy
import onnxruntime
import pytest
from safetensors.numpy import load_file

from tests.job_folders import write_job

# torch exports tens of modules in one process, beside other tests.
pytestmark = pytest.mark.timeout(600)

PLUGINS = Path(__file__).parents[2] / "plugins"
HEAD = """
import collections, dataclasses, enum
import torch
from torch import nn

def module(forward, **parts):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.out = nn.Linear(4, 3)
            for name, part in parts.items():
                self.register_buffer(name, part) if type(part) is torch.Tensor else setattr(self, name, part)
    Net.forward = forward
    return Net()

X = torch.randn(5, 4)
"""
FREEZE_ALL = """
import sys, torch
from pathlib import Path
from modelway.job.__main__ import main
for folder in sys.argv[1:]:
    sys.modules.pop("tiny", None)
    sys.path[:] = [place for place in sys.path if not place.endswith("/code")]
    main(Path(folder))
"""


def kind(definition, *, give="module(forward)", inputs='{"x": X}', options="{}", head=""):
    """Return the code of a model; ``forward`` begins at its line 17."""
    return f"{HEAD}{definition}\n{head}\ndef export(job, checkpoint):\n    return {give}, {inputs}, {options}\n"


def forward(body, arguments="x"):
    return f"def forward(self, {arguments}):\n    " + body


#: what ``forward`` gives, to the names and shapes of the outputs
GOOD = {
    "a tensor": (kind(forward("return self.out(x)")), {"output": [-1, 3]}),
    "a tuple": (
        kind(forward("return self.out(x), x.argmax(-1)")),
        {"output_0": [-1, 3], "output_1": [-1]},
    ),
    "a tuple with names": (
        kind(forward("return self.out(x), x.argmax(-1)"), options='{"output_names": ["score", "class"]}'),
        {"score": [-1, 3], "class": [-1]},
    ),
    "a dict": (
        kind(forward('y = self.out(x); return {"logits": y, "linear": y.softmax(-1), "x y/é": y.sum(-1), 7: y.exp()}')),
        {"logits": [-1, 3], "linear": [-1, 3], "x y/é": [-1], "7": [-1, 3]},
    ),
    "names of weights": (
        kind(
            forward('return {"out.weight": self.out(x), Key.BIAS: x + 1}'),
            head="class Key(str, enum.Enum):\n    BIAS = 'out.bias'",
        ),
        {"out.weight": [-1, 3], "out.bias": [-1, 4]},
    ),
    "nested": (
        kind(forward('y = self.out(x); return {"maps": [y, (y + 1, None)], "more": {"deep": y * 2}, "none": None}')),
        {"maps_0": [-1, 3], "maps_1_0": [-1, 3], "more_deep": [-1, 3]},
    ),
    "an LSTM as it is": (
        kind("", give="nn.LSTM(5, 8, batch_first=True)", inputs="torch.randn(2, 6, 5)"),
        {"output_0": [-1, 6, 8], "output_1_0": [1, -1, 8], "output_1_1": [1, -1, 8]},
    ),
    "None beside": (kind(forward("return None, self.out(x), None")), {"output_1": [-1, 3]}),
    "a named tuple": (
        kind(forward("return Answer(self.out(x), (x + 1,))"), head="Answer = collections.namedtuple('Answer', 'a b')"),
        {"a": [-1, 3], "b_0": [-1, 4]},
    ),
    "a dataclass": (
        kind(
            forward("return Answer(self.out(x), None, Answer(x + 1, None, None))"),
            head="@dataclasses.dataclass\nclass Answer:\n    a: object\n    b: object\n    c: object",
        ),
        {"a": [-1, 3], "c_a": [-1, 4]},
    ),
    "torch.max": (kind(forward("return self.out(x).max(1)")), {"values": [-1], "indices": [-1]}),
    "views": (
        kind(forward('y = self.out(x); return {"t": y[:, None].permute(0, 2, 1), "s": y[:, ::2], "c": y[:, 1]}')),
        {"t": [-1, 3, 1], "s": [-1, 2], "c": [-1]},
    ),
    "one tensor twice": (kind(forward("y = self.out(x); return y, y")), {"output_0": [-1, 3], "output_1": [-1, 3]}),
    "an input given back": (kind(forward("return self.out(x), x")), {"output_0": [-1, 3], "output_1": [-1, 4]}),
    "an input by its own name": (
        kind(forward('return {"y": self.out(x), "x": x, "same": x}')),
        {"y": [-1, 3], "x_out": [-1, 4], "same": [-1, 4]},
    ),
    "weights": (
        kind(
            forward("return self.out(x), self.out.weight, self.classes"),
            give="module(forward, classes=torch.tensor([1, 2, 3]))",
        ),
        {"output_0": [-1, 3], "output_1": [3, 4], "output_2": [3]},
    ),
    "numbers": (kind(forward("y = self.out(x); return y, y.mean()")), {"output_0": [-1, 3], "output_1": []}),
    "other types": (
        kind(
            forward('return {"b": x > 0, "h": x.half(), "d": x.double(), "i": x.to(torch.int8), "u": x.byte() // 2}'),
            inputs='{"x": X.abs()}',
        ),
        {"b": [-1, 4], "h": [-1, 4], "d": [-1, 4], "i": [-1, 4], "u": [-1, 4]},
    ),
    "rows that are found": (kind(forward("return torch.nonzero(self.out(x) > 9)")), {"output": [-1, 2]}),
    "twice the rows": (kind(forward("return torch.cat([x, x])")), {"output": [-1, 4]}),
    "no columns": (kind(forward("return self.out(x), x[:, :0]")), {"output_0": [-1, 3], "output_1": [-1, 0]}),
    "an input that is not used": (
        kind(
            forward("return self.out(x)", "x, ids=None, mask=None"),
            # An array does for a tensor, and None where it is the default.
            inputs='{"ids": torch.zeros(5, 2, dtype=int), "x": X.numpy()[::-1], "mask": None}',
        ),
        {"output": [-1, 3]},
    ),
    "any arguments": (kind(forward("return self.out(rows['x'])", "**rows")), {"output": [-1, 3]}),
    "a name of the exporter": (kind(forward("return self.out(input)", "input"), inputs="X"), {"output": [-1, 3]}),
    "data parallel": (
        kind(
            forward("return self.out(x)"),
            give="nn.DataParallel(torch.optim.swa_utils.AveragedModel(module(forward, out=nn.DataParallel("
            "nn.Linear(4, 3)))))",
        ),
        {"output": [-1, 3]},
    ),
    "one example of a row": (kind(forward("return self.out(x)"), inputs="X[:1]"), {"output": [-1, 3]}),
    "an example that is a view": (
        kind(forward("return self.out(x)"), inputs="torch.randn(4, 5).t()"),
        {"output": [-1, 3]},
    ),
    "any length": (
        kind(
            forward('return {"sum": tokens.sum(1), "each": tokens * 2}', "tokens"),
            inputs='{"tokens": torch.randn(2, 7)}',
            options='{"dynamic": {"tokens": {1: "length"}}}',
        ),
        {"sum": [-1], "each": [-1, -1]},
    ),
    "numbers of rows that differ": (
        kind(
            forward("return self.bag(text, offsets)", "text, offsets"),
            give="module(forward, bag=nn.EmbeddingBag(9, 3))",
            inputs="(torch.tensor([1, 2, 3, 8, 0]), torch.tensor([0, 2]))",
        ),
        {"output": [-1, 3]},
    ),
    "one row beside many": (kind(forward("return x * y", "x, y"), inputs="(X, X[:1])"), {"output": [-1, 4]}),
    "offsets": (
        kind(
            forward("return self.bag(text, offsets)", "text, offsets"),
            give="module(forward, bag=nn.EmbeddingBag(9, 3))",
            inputs="(torch.tensor([1, 2, 3, 8, 0]), torch.tensor([0, 2, 2]))",
            options='{"unbatched": ["text"], "dynamic": {"text": {0: "words"}}}',
        ),
        {"output": [-1, 3]},
    ),
    "edges": (
        kind(
            forward("return torch.zeros_like(x).index_add(0, edges[1], x[edges[0]])", "x, edges"),
            inputs="(X, torch.tensor([[0, 1, 2], [4, 4, 0]]))",
            options='{"unbatched": ["edges"], "dynamic": {"edges": {1: "edges"}}}',
        ),
        {"output": [-1, 4]},
    ),
    "a temperature": (
        kind(
            forward("return self.out(x) / t", "x, t"),
            inputs='{"x": X, "t": torch.tensor(2.0)}',
            options='{"unbatched": ["t"]}',
        ),
        {"output": [-1, 3]},
    ),
}
#: why requests to some of them cannot be joined
NOT_JOINED = {
    "an LSTM as it is": "output 'output_1_0' has the shape [1, batch, 8], not the batch first",
    "weights": "output 'output_1' has the shape [3, 4], not the batch first",
    "numbers": "output 'output_1' is a single number without a batch",
    "rows that are found": "output 'output' has the shape [",
    "twice the rows": "output 'output' has the shape [2*batch, 4], not the batch first",
    "offsets": "input 'text' has the shape [words], not the batch first",
    "edges": "input 'edges' has the shape [2, edges], not the batch first",
    "numbers of rows that differ": "input 'text' has the shape [text_rows], not the batch first",
    "one row beside many": "input 'x' has the shape [x_rows, 4], not the batch first",
    "a temperature": "input 't' is a single number without a batch",
    "one example of a row": "rows cannot be compared: the examples hold no two different rows",
}
JIT = "torch.jit.trace(module(forward), X)"
GROW = "self.seen += 1; return self.out(x) + self.seen"
#: what cannot be frozen, to what is said
REFUSED = {
    "complex": (kind(forward("return {'z': torch.complex(x, x)}")), "output 'z' is complex64, .*view_as_real"),
    "bfloat16": (kind(forward("return self.out(x).bfloat16()")), r"output 'output' is bfloat16, .*return \.float\(\)"),
    "a number": (kind(forward("return self.out(x), 3.5")), "output 'output_1' is a Python float, .*return a tensor"),
    "a text": (kind(forward("return {'a': x, 'kind': 'good'}")), "output 'kind' is a Python str, .*leave it out"),
    "an array": (kind(forward("return [x, x.numpy()]")), "output 'output_1' is of type ndarray, no tensor"),
    "sparse": (kind(forward("return x.to_sparse()")), r"output 'output' is a sparse_coo tensor; return \.to_dense\(\)"),
    "nothing": (kind(forward("return {'a': None}")), "the model gives no output"),
    "one name twice": (kind(forward("return {'a': [x + 1], 'a_0': x * 2}")), "two outputs have the name 'a_0'"),
    "a bad name": (kind(forward("return {'a\\n': x}")), r"'a\\n' cannot be an output's name"),
    "no name": (kind(forward("return {(1, 2): x}")), r"the outputs' names must be text, got \(1, 2\)"),
    "an input's name and more": (
        kind(forward("return {'x': x, 'x_out': x * 2}")),
        "two outputs have the name 'x_out'",
    ),
    "few names": (
        kind(forward("return x, self.out(x)"), options='{"output_names": ["a"]}'),
        r"output_names are 1 \(a\), the model has 2 outputs \(output_0, output_1\)",
    ),
    "equal names": (
        kind(forward("return x, self.out(x)"), options='{"output_names": ["a", "a"]}'),
        "two outputs have the name 'a'",
    ),
    "names as text": (kind(forward("return x"), options='{"output_names": "ab"}'), "output_names must be a list"),
    "an unknown option": (
        kind(forward("return x"), options='{"names": []}'),
        "unknown options names; known are answers, dyn",
    ),
    "a dimension as text": (kind(forward("return x"), options='{"dynamic": {"x": "n"}}'), "dynamic must give names"),
    "a dimension's name": (kind(forward("return x"), options='{"dynamic": {"x": {1: "N n"}}}'), "'N n' cannot name"),
    "a dimension too many": (
        kind(forward("return x"), options='{"dynamic": {"x": {2: "n"}}}'),
        r"input 'x' has no dimension 2, its shape is \[5, 4\]",
    ),
    "an option of no input": (
        kind(forward("return x"), options='{"unbatched": ["y"]}'),
        "unbatched names no input 'y'",
    ),
    "a length of one": (
        kind(forward("return x"), inputs="torch.ones(3, 1)", options='{"dynamic": {"x": {1: "n"}}}'),
        "dimension 'n' of 'x' is 1 in the example; give an example with at least 2",
    ),
    "a complex input": (kind(forward("return x.abs()"), inputs="X * 1j"), "input 'x' is complex64, .*imaginary part"),
    "a bfloat16 input": (kind(forward("return x.float()"), inputs="X.bfloat16()"), "input 'x' is bfloat16, .*float32"),
    "tensors in a tuple": (
        kind(forward("return x + past[0]", "x, past"), inputs='{"x": X, "past": (X, X)}'),
        "example input 'past' must be a tensor, got tuple; a request carries one .* wrap the module in one whose",
    ),
    "a flag": (
        kind(forward("return x", "x, fast"), inputs='{"x": X, "fast": True}'),
        "example input 'fast' must be a tensor, got bool; it would be a constant of the program: set it in the module",
    ),
    "None without need": (kind(forward("return x", "x, y=0"), inputs='{"x": X, "y": None}'), "got NoneType; leave it"),
    "a lazy layer": (
        kind(forward("return self.lazy(x)"), give="module(forward, lazy=nn.LazyLinear(2))"),
        "the weight 'lazy.weight' has no values, since its lazy module never saw an input",
    ),
    "a quantized layer": (
        kind(forward("return x"), give="torch.ao.quantization.quantize_dynamic(module(forward), {nn.Linear})"),
        "the part 'out' of the module is quantized .*; give the module of before",
    ),
    "dropout as a function": (
        kind(forward("return nn.functional.dropout(x)")),
        "output 'output' differs .*needs training=self.training",
    ),
    "an input missing": (kind(forward("return x + y", "x, y")), "no example input for forward's argument 'y'"),
    "an input too many": (kind(forward("return x"), inputs='{"x": X, "z": X}'), "forward has no argument 'z'.*are x"),
    "any inputs": (
        kind(forward("return x[0]", "*x"), inputs="(X,)"),
        r"it names none: write them out in place of \*args",
    ),
    "a script": (kind(forward("return self.out(x)"), give=JIT), "the module is TorchScript .*give the torch.nn.Module"),
    "a script inside": (
        kind(forward("return self.out(x)"), give=f"nn.Sequential({JIT})", inputs="X"),
        "the part '0' of the module is TorchScript",
    ),
    "weights in bfloat16": (
        kind(forward("return self.out(x.bfloat16()).float()"), give="module(forward).bfloat16()"),
        r"the weight 'out.weight' \(2 in all\) is bfloat16, .*give module.float\(\)",
    ),
    "autocast": (
        kind(forward("with torch.autocast('cpu', torch.bfloat16):\n        return self.out(x).float()")),
        r"computes in bfloat16 \(tiny.py:\d+ in forward\)",
    ),
    "random numbers": (
        kind(forward("return self.out(x) + torch.rand_like(x[:, :3])")),
        "output 'output' differs",
    ),
    "a memory": (
        kind(forward(GROW), give="module(forward, seen=torch.zeros(1))"),
        "output 'output' differs when the same input is repeated",
    ),
    "an input that is changed": (
        kind(forward("y = x[:, :2]\n    y += 1\n    return self.out(x)")),
        r"forward changes its input 'x' in place \(tiny.py:19 in forward\)",
    ),
    "a branch": (
        kind(forward("return self.out(x) if x.sum() > 0 else -self.out(x)")),
        r"decides by the values of a tensor \(tiny.py:\d+ in forward\).*torch.where",
    ),
    "a loop": (
        kind(forward("for _ in range(int(x[0, 0])):\n        x = x + 1\n    return x"), inputs="X.abs() + 1"),
        r"decides by the values of a tensor \(tiny.py:\d+ in forward\)",
    ),
    "a batch of the example": (
        kind(forward("y = self.out(x)\n    return y.reshape(2, 3)"), inputs="X[:2]"),
        r"any size of the dimension 'batch' \(tiny.py:19 in forward\).*take sizes from the inputs",
    ),
    "a length of the example": (
        kind(
            forward("y = x * 2\n    return y + torch.ones(4)"),
            options='{"dynamic": {"x": {1: "length"}}}',
        ),
        r"any size of the dimension 'length' \(tiny.py:19 in forward\)",
    ),
    "an unknown operator": (
        kind(forward("y = self.out(x)\n    return y.median(1).values")),
        r"no operator for torch's aten.median \(tiny.py:19 in forward\); sort the values",
    ),
    "an operator of one's own": (
        kind(
            forward("return twice(self.out(x))"),
            head="@torch.library.custom_op('tiny::twice', mutates_args=())\ndef twice(x: torch.Tensor) -> torch.Tensor:"
            "\n    return x * 2\ntwice.register_fake(torch.empty_like)\n",
        ),
        r"no operator for torch's tiny.twice \(tiny.py:\d+ in forward\)",
    ),
    "an operator used as ONNX cannot": (
        kind(forward("q = x[:, None]\n    return nn.functional.scaled_dot_product_attention(q, q, q)")),
        r"torch's aten.scaled_dot_product_attention \(tiny.py:19 in forward\) cannot be written in ONNX as it is used",
    ),
    "a length that the exporter fixes": (
        kind(
            "",
            give="nn.LSTM(5, 8)",
            inputs="torch.randn(6, 3, 5)",
            options='{"unbatched": ["input"], "dynamic": {"input": {0: "length", 1: "batch"}}}',
        ),
        # Which of the two torch comes to depends on what the process exported before.
        "dimension 0 of output 'output_0' is 5 for inputs with another 'length' .* program that torch made has 6"
        "|does not work with any size of the dimension 'length'",
    ),
    "gradients": (
        kind(
            forward(
                "with torch.enable_grad():\n        x = x.clone().requires_grad_()\n"
                "        return torch.autograd.grad(self.out(x).sum(), x)[0]"
            )
        ),
        r"forward computes gradients \(tiny.py:20 in forward\), of which no program can be made",
    ),
    "packed sequences": (
        kind(
            forward("return self.lstm(nn.utils.rnn.pack_padded_sequence(x[:, None], torch.ones(2), True))[1][0]"),
            give="module(forward, lstm=nn.LSTM(4, 3, batch_first=True))",
        ),
        r"torch cannot make a program of the model: \w+: .* \(tiny.py:18 in forward\); torch's full message",
    ),
    "a fault": (kind(forward("y = self.out(x)\n    return y @ y")), r"RuntimeError: .* \(tiny.py:19 in forward\)$"),
    "a coloured fault": (kind(forward("raise ValueError('\\x1b[31mno\\x1b[0m')")), r"^ValueError: no \(tiny.py"),
}


def freeze_all(root, kinds):
    """Return the folder of each kind's job after it ended; torch takes seconds to load, so one process does all."""
    folders = {
        name: write_job(root / str(number), code=code, action="freeze", stage="freeze", seed=3)
        for number, (name, (code, _)) in enumerate(kinds.items())
    }
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FREEZE_ALL, *map(str, folders.values())],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(PLUGINS), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=580,
    )
    return folders


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    return freeze_all(tmp_path_factory.mktemp("good"), GOOD)


@pytest.fixture(scope="module")
def refused(tmp_path_factory):
    return freeze_all(tmp_path_factory.mktemp("refused"), REFUSED)


def reason(folder):
    error = folder / "error.json"
    return json.loads(error.read_text())["reason"] if error.exists() else None


@pytest.mark.parametrize("name", GOOD)
def test_what_forward_returns_is_served_by_names_of_its_own(jobs, name):
    assert reason(jobs[name]) is None
    frozen = jobs[name] / "output" / "archive"
    described = json.loads((frozen / "outputs" / "model.yml").read_text())
    assert {each["name"]: each["shape"] for each in described["outputs"]} == GOOD[name][1]
    session = onnxruntime.InferenceSession(frozen / "model" / "model.onnx", providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    assert names == list(GOOD[name][1])
    assert [value.name for value in session.get_inputs()] == [each["name"] for each in described["inputs"]]
    inputs = load_file(frozen / "golden" / "inputs.safetensors")
    outputs = load_file(frozen / "golden" / "outputs.safetensors")
    sizes = {key.split("/", 1)[0] for key in inputs}
    assert sizes
    for size in sizes:
        feed = {each["name"]: inputs[f"{size}/{each['name']}"] for each in described["inputs"]}
        for output, answer in zip(names, session.run(names, feed), strict=True):
            numpy.testing.assert_allclose(answer, outputs[f"{size}/{output}"], atol=1e-3, strict=True)


@pytest.mark.parametrize("name", GOOD)
def test_requests_are_joined_only_where_the_batch_is_first_and_rows_are_apart(jobs, name):
    described = json.loads((jobs[name] / "output" / "archive" / "outputs" / "model.yml").read_text())
    assert described["batches"] is (name not in NOT_JOINED)
    expected = re.escape(NOT_JOINED[name]) if name in NOT_JOINED else r"each of \d rows has the same answers alone and"
    assert re.match(expected, described["batches_reason"])


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_frozen_is_refused_in_one_line(refused, name):
    said = reason(refused[name])
    assert said is not None
    assert "\x1b" not in said
    assert "\n" not in said
    assert re.search(REFUSED[name][1], said), said
    assert not (refused[name] / "output" / "archive" / "outputs").exists() or not any(
        (refused[name] / "output" / "archive" / "outputs").iterdir()
    )


def test_signatures_have_the_types_of_the_program(jobs):
    described = json.loads((jobs["other types"] / "output" / "archive" / "outputs" / "model.yml").read_text())
    assert {each["name"]: each["datatype"] for each in described["outputs"]} == {
        "b": "BOOL",
        "h": "FP16",
        "d": "FP64",
        "i": "INT8",
        "u": "UINT8",
    }


def test_other_sizes_of_a_dimension_that_may_have_any_are_golden_inputs_too(jobs):
    for name, dimension, shape in (("any length", "length", (2, 6)), ("offsets", "words", (4,))):
        inputs = load_file(jobs[name] / "output" / "archive" / "golden" / "inputs.safetensors")
        assert [value.shape for key, value in inputs.items() if key.startswith(f"smaller-{dimension}/")][-1] == shape


def test_a_network_that_was_spread_over_devices_keeps_the_names_of_its_weights(jobs):
    described = json.loads((jobs["data parallel"] / "output" / "archive" / "outputs" / "model.yml").read_text())
    assert [each["name"] for each in described["tensors"]] == ["out.bias", "out.weight"]
    assert [each["name"] for each in described["layers"]] == ["out"]


LISTED = """
from modelway.job.freezing.operator_list import quickly_listed
from onnxscript._framework_apis.torch_2_5 import get_torchlib_ops
from onnxscript._internal.values import TracedOnnxFunction

def listed():
    return [(each.qualified_name, each.domain, each.name, each.is_complex) for each in get_torchlib_ops()]

real, parsed = listed(), TracedOnnxFunction.function_ir
with quickly_listed():
    assert listed() == real
    some = get_torchlib_ops()[0].function
    assert TracedOnnxFunction.function_ir is not parsed, "onnxscript does it in another way: nothing is saved"
    assert some.function_ir.name == parsed.fget(some).name, "more than the domain is parsed when it is wanted"
assert TracedOnnxFunction.function_ir is parsed
assert len(real) > 500
"""


def test_operators_are_listed_as_torch_does_without_parsing_them():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LISTED],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(PLUGINS)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
