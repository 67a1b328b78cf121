"""A torch module as torch's own operators: ``program.json`` with safetensors files beside it, read without any pickle.

``torch.export.save`` writes the example inputs, and some weights, as pickles, and ``torch.export.load`` executes what
such a pickle says. Here the graph is JSON in torch's own schema, the tensors are safetensors, and what torch would
evaluate, write into source or look up by a name from the file is checked before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy
    import torch

PROGRAM = "program.json"
FORMAT = 1
#: functions of torch's operators and of sizes: the only ones that a program may name
_OPERATORS = re.compile(r"torch\.ops\.(aten|prims|higher_order)\.\w+(\.\w+)?|_operator\.\w+|math\.\w+|torch\.sym_\w+")
#: an expression over sizes, which torch has sympy evaluate: symbols, numbers, operators, and functions of these names
_EXPRESSION = re.compile(r"[\w\s+\-*/%().,<>=&|~!']*", re.ASCII)
_WORDS = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_SYMBOL = re.compile(r"[suzif]+\d+")
_FUNCTIONS = frozenset(
    [
        *("Abs", "Add", "And", "CeilToInt", "CleanDiv", "Eq", "False", "Float", "FloatPow", "FloatTrueDiv", "FloorDiv"),
        *("FloorToInt", "Ge", "Gt", "Identity", "IntTrueDiv", "Integer", "LShift", "Le", "Lt", "Max", "Min", "Mod"),
        *("ModularIndexing", "Mul", "Ne", "Not", "Or", "Pow", "PowByNatural", "PythonMod", "RShift", "Rational"),
        *("RoundDecimal", "RoundToInt", "Symbol", "ToFloat", "True", "TruncToFloat", "TruncToInt", "Where", "ceiling"),
        *("floor", "int_oo", "integer", "nonnegative", "oo", "positive", "real"),
    ]
)
#: what torch writes without quotes, or between them, into the Python source that it makes of the graph and executes
_NAME = re.compile(r"[\w.]*", re.ASCII)
_ATTRIBUTE = re.compile(r'[^"\\\x00-\x1f]*')
_NESTING = re.compile(r'[\w\s.,:\[\]{}"-]*', re.ASCII)
_NAMES = {
    **dict.fromkeys(("name", "as_name", "forward_arg_names"), _NAME),
    **dict.fromkeys(("parameter_name", "buffer_name", "tensor_constant_name", "custom_obj_name"), _ATTRIBUTE),
    **dict.fromkeys(("in_spec", "out_spec"), _NESTING),
}
#: what of the program is Python source
_SOURCE = ("guards_code", "stack_trace")


class UnsafeProgram(ValueError):
    """A program that names what none has to name, or lacks a part."""


class TorchProgram:
    """A program as a function of arrays, both sides by name; one call at a time."""

    def __init__(self, folder: Path, *, threads: int, device: str = "cpu") -> None:
        """Load ``program.json`` and the weights beside it.

        :param threads: threads inside one call, of the whole process
        :param device: where the weights are put and inputs are moved to, such as ``cuda``
        :raises UnsafeProgram: the program names what none has to name, or is not whole
        """
        import torch

        torch.set_num_threads(threads)
        document = _read(folder / PROGRAM)
        self.inputs: list[str] = document["inputs"]
        self.names: list[str] = document["outputs"]
        self._device = device
        program = _program(document, folder)
        if device != "cpu":
            from torch.export.passes import move_to_device_pass

            program = move_to_device_pass(program, device)
        self._module = program.module()

    def __call__(self, inputs: Mapping[str, numpy.ndarray[Any, Any]]) -> dict[str, numpy.ndarray[Any, Any]]:
        """Return the answers by name."""
        return dict(zip(self.names, self.run(self.names, inputs), strict=True))

    def run(self, names: list[str], inputs: Mapping[str, numpy.ndarray[Any, Any]]) -> list[numpy.ndarray[Any, Any]]:
        """Return the named outputs, in their order, as a session of ONNX Runtime does."""
        import torch

        with torch.inference_mode():
            # A copy: arrays of a request's bytes are read-only, and the program may write into its inputs.
            tensors = [torch.from_numpy(inputs[name].copy()).to(self._device) for name in self.inputs]
            answers = dict(zip(self.names, self._module(*tensors), strict=True))
            return [_array(answers[name]) for name in names]


def fastest_device() -> str:
    """Return the device that a program is to run on here: a GPU where there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def load_libraries() -> None:
    """Import all that reading a program needs, for a process that watches what is done afterwards."""
    import safetensors.torch
    import torch.export.passes
    from torch._export.serde import serialize

    assert serialize
    assert safetensors.torch
    assert torch.export.passes


def _read(path: Path) -> dict[str, Any]:
    """Return the checked document of a program.

    :raises UnsafeProgram: it is none, or names what none has to name
    """
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
            raise UnsafeProgram(f"{path.name} has format {document['format']}, this code knows {FORMAT}")
        for key in ("inputs", "outputs", "weights", "constants", "program"):
            document[key]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise UnsafeProgram(f"{path.name} is not a whole program: {type(error).__name__}: {error}") from None
    check_program(document["program"])
    return document


def check_program(program: Any) -> None:
    """Check what torch looks up by its name, writes into source, or has evaluated, when it reads a program.

    :raises UnsafeProgram: a name is not that of an operator or is more than a name, or an expression more than sizes
    """
    for key, value in _entries(program):
        if key in _SOURCE and value:
            raise UnsafeProgram(f"the program has {key}, which is no part of one that was frozen")
        for text in value if isinstance(value, list) else [value]:
            if key in _NAMES and isinstance(text, str) and not _NAMES[key].fullmatch(text):
                raise UnsafeProgram(f"the program has the {key} {text[:80]!r}, which is more than a name")
        if key in ("target", "as_operator") and isinstance(value, str) and not _OPERATORS.fullmatch(value):
            raise UnsafeProgram(f"the program names '{value[:80]}', which is no operator of torch")
        if key == "expr_str" and not _is_of_sizes(str(value)):
            raise UnsafeProgram(f"the program has the expression '{str(value)[:80]}', which is not of sizes alone")


def _is_of_sizes(text: str) -> bool:
    words = _WORDS.findall(text)
    return bool(_EXPRESSION.fullmatch(text)) and all(_SYMBOL.fullmatch(word) or word in _FUNCTIONS for word in words)


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """Walk through a JSON value; yield each key of its mappings with what it has."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield from value.items()
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _program(document: Mapping[str, Any], folder: Path) -> torch.export.ExportedProgram:
    import torch
    from torch._export.serde import schema, serialize

    program = serialize._dict_to_dataclass(schema.ExportedProgram, document["program"])  # type: ignore[no-untyped-call]
    tensors = _tensors(folder, {*document["weights"].values(), *document["constants"].values()})
    parameters = {
        value["parameter"]["parameter_name"]
        for value in document["program"]["graph_module"]["signature"]["input_specs"]
        if "parameter" in value
    }
    weights = {
        name: torch.nn.Parameter(tensors[key], requires_grad=False) if name in parameters else tensors[key]
        for name, key in document["weights"].items()
    }
    constants = {name: tensors[key] for name, key in document["constants"].items()}
    return serialize.ExportedProgramDeserializer().deserialize(program, weights, constants, None)


def _tensors(folder: Path, wanted: set[str]) -> dict[str, torch.Tensor]:
    """Return the tensors of all safetensors files in a folder.

    :raises UnsafeProgram: one is missing, or a file is damaged
    """
    from safetensors import SafetensorError, safe_open

    found: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                found.update({name: file.get_tensor(name) for name in file.keys() if name in wanted})  # noqa: SIM118
        except SafetensorError as error:
            raise UnsafeProgram(f"{path.name} is damaged: {error}") from error
    if missing := sorted(wanted - found.keys()):
        raise UnsafeProgram(f"the weight '{missing[0]}' of the program is in none of the files beside it")
    return found


def _array(tensor: torch.Tensor) -> numpy.ndarray[Any, Any]:
    array: numpy.ndarray[Any, Any] = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous().numpy()
    return array
