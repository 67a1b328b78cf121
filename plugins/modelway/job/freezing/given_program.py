"""An ONNX program from elsewhere: what ``export`` named by its path, what a command left, what a converter made."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelway.job.freezing.batches import BATCH, graph_batches
from modelway.job.freezing.exported import Exported
from modelway.job.freezing.joining import Arrays, pick_rows, row_count
from modelway.job.freezing.left_export import UnknownInputs
from modelway.job.freezing.outputs import DATATYPES, final_names
from modelway.job.freezing.program import name_values
from modelway.job.freezing.rows import as_array
from modelway.job.freezing.served_form import (
    ONNX,
    CheckpointAnswers,
    FunctionAnswers,
    ServedForm,
    conformed,
    onnx_signature,
    onnx_version,
)
from modelway.job.freezing.session import ProgramModel
from modelway.job.freezing.weights import PROGRAM, split_weights

if TYPE_CHECKING:
    import numpy
    import onnx_ir

#: returns the checkpoint as a function, from the written program and the example inputs
MakeAnswers = Callable[[ProgramModel, Arrays], CheckpointAnswers]


def write_given_program(exported: Exported, *, folder: Path) -> ServedForm:
    """Write an ONNX file that ``export`` named by its path, and its weights beside it.

    :raises ValueError: it is no program that ONNX Runtime runs, or the examples do not fit it
    """
    path = Path(os.fspath(exported.model))

    def answers(running: ProgramModel, _: Arrays) -> CheckpointAnswers:
        if (own := exported.answers) is None:
            print(
                f"NOTE: {path.name} is compared with itself, not with the checkpoint: export gives no answers",
                flush=True,
            )
            return FunctionAnswers(running)

        def answer(inputs: Arrays) -> Arrays:
            try:
                return conformed_answers(own(dict(inputs)), running(inputs))
            except UnknownInputs:
                return running(inputs)

        return FunctionAnswers(answer)

    return write_program(path, exported, outputs=exported.output_names, answers=answers, folder=folder)


def write_program(
    path: Path,
    exported: Exported,
    *,
    outputs: Sequence[str],
    answers: MakeAnswers,
    folder: Path,
    made_by: str = "",
    layers: Sequence[Mapping[str, Any]] = (),
) -> ServedForm:
    """Write a program and its weights into ``folder``, with the batch named as in every frozen model.

    :param outputs: names of the outputs in order, in place of the program's own
    :param made_by: libraries and their versions
    :param layers: the parts of what was converted, whose numbers are no tensors of the program
    :raises ValueError: it is no program that ONNX Runtime runs, or the examples do not fit it
    """
    program = _load(path)
    names = [str(value.name) for value in program.graph.inputs]
    examples = _examples(program, exported.inputs, path.name)
    batched = _name_batch(program) and _have_rows(examples)
    _complete_outputs(program, _session(path), examples, batched=batched)
    name_values(
        program, names, final_names([str(each.name) for each in program.graph.outputs], given=outputs, inputs=names)
    )
    proto, tensors = split_weights(program, folder, learned=set() if made_by else set(program.graph.initializers))
    running = ProgramModel(folder / PROGRAM)
    return ServedForm(
        platform=ONNX,
        version=f"{onnx_version(proto)} {made_by or proto.producer_name}".rstrip(),
        inputs=onnx_signature(proto.graph.input),
        outputs=onnx_signature(proto.graph.output),
        answers=answers(running, examples),
        examples=examples,
        batched=batched,
        graph=graph_batches(proto),
        tensors=tensors,
        layers=layers,
        parameters=sum(math.prod(each["shape"]) for each in tensors),
        operators=sorted({node.op_type for node in proto.graph.node}),
    )


def conformed_answers(answers: Any, like: Arrays) -> dict[str, numpy.ndarray[Any, Any]]:
    """Return the checkpoint's answers in the form of the program's.

    :raises ValueError: an output is missing
    """
    if not isinstance(answers, Mapping) or (missing := [name for name in like if name not in answers]):
        known = ", ".join(map(str, answers)) if isinstance(answers, Mapping) else type(answers).__name__
        raise ValueError(
            f"export: answers must give each output of the program by its name: {', '.join(like)}; it gives {known}"
            + (f", without '{missing[0]}'" if isinstance(answers, Mapping) else "")
        )
    return {name: conformed(answers[name], array) for name, array in like.items()}


def _load(path: Path) -> onnx_ir.Model:
    """Read a program.

    :raises ValueError: it is none, or has inputs or outputs that requests do not carry
    """
    import onnx_ir

    if path.suffix != ".onnx" or not path.is_file():
        what = f"there is no file {path}" if not path.exists() else f"{path.name} is no file called .onnx"
        raise ValueError(f"export: {what}; give the path of an ONNX file, or write freeze.format: files for others")
    try:
        program = onnx_ir.load(path)
    except Exception as error:
        raise ValueError(f"export: {path.name} is no ONNX program: {_line(error)}") from error
    # Programs of old versions list their weights as inputs too.
    program.graph.inputs[:] = [value for value in program.graph.inputs if value.name not in program.graph.initializers]
    for kind, values in (("input", program.graph.inputs), ("output", program.graph.outputs)):
        for value in values:
            if not isinstance(value.type, onnx_ir.TensorType):
                raise ValueError(
                    f"export: {kind} '{value.name}' of {path.name} is {value.type}, which requests do not carry; let "
                    "the converter give tensors (zipmap=False), and freeze estimators of several targets one by one"
                )
            datatype = value.type.dtype
            if datatype != onnx_ir.DataType.STRING and str(datatype.numpy()) not in DATATYPES:
                raise ValueError(
                    f"export: {kind} '{value.name}' of {path.name} is {datatype.name.lower()}, which requests do "
                    "not carry; convert it to float32 in the program"
                )
    return program


def _session(path: Path) -> ProgramModel:
    try:
        return ProgramModel(path)
    except Exception as error:
        raise ValueError(f"export: ONNX Runtime cannot load {path.name}: {_line(error)}") from error


def _examples(program: onnx_ir.Model, given: Any, what: str) -> dict[str, numpy.ndarray[Any, Any]]:
    """Return the example inputs in the program's types and order.

    :raises ValueError: they are missing, or do not have the program's form
    """
    import onnx_ir

    names = [str(value.name) for value in program.graph.inputs]
    if given is not None and not isinstance(given, Mapping) and len(names) == 1:
        given = {names[0]: given}
    if not isinstance(given, Mapping) or set(given) != set(names):
        known = ", ".join(map(str, given)) if isinstance(given, Mapping) else type(given).__name__
        raise ValueError(f"export: give example inputs of {what} by their names, {', '.join(names)}; got {known}")
    examples = {}
    for value in program.graph.inputs:
        array = as_array(given[str(value.name)])
        assert value.dtype is not None
        wanted = "U" if value.dtype == onnx_ir.DataType.STRING else str(value.dtype.numpy())
        sizes = (
            [getattr(size, "value", size) for size in value.shape] if value.shape is not None else [None] * array.ndim
        )
        fits = array.ndim == len(sizes) and all(
            not isinstance(size, int) or size == own for size, own in zip(sizes, array.shape, strict=True)
        )
        if not fits or (array.dtype.kind == "U") != (wanted == "U") or array.dtype.kind not in "fiubU":
            raise ValueError(
                f"export: example input '{value.name}' is {array.dtype} of shape {list(array.shape)}, {what} takes "
                f"{value.dtype.name.lower()} of shape {[size if isinstance(size, int) else -1 for size in sizes]}"
            )
        examples[str(value.name)] = array if wanted == "U" else array.astype(wanted)
    return examples


def _have_rows(examples: Arrays) -> bool:
    return len({len(array) if array.ndim else None for array in examples.values()} - {0}) == 1


def _name_batch(program: onnx_ir.Model) -> bool:
    """Call the first size of all inputs ``batch``, if it may be any and is the same for all; return whether it is."""
    import onnx_ir

    found: set[str | None] = set()
    for value in program.graph.inputs:
        if not value.shape or not isinstance(size := value.shape[0], onnx_ir.SymbolicDim):
            return False
        found.add(size.value)
    if not found or len(found - {None}) > 1:
        return False
    (name,) = found - {None} or {BATCH}
    for value in [*program.graph.inputs, *program.graph.outputs]:
        if value.shape is not None:
            sizes = [BATCH if getattr(size, "value", size) == name else size for size in value.shape]
            first = [BATCH] if value.is_graph_input() else sizes[:1]
            value.shape = onnx_ir.Shape([*first, *sizes[1:]])
    return True


def _complete_outputs(program: onnx_ir.Model, running: ProgramModel, examples: Arrays, *, batched: bool) -> None:
    """Give the outputs the shapes that they have, where the program does not say, or says otherwise.

    :raises ValueError: the program does not run on the examples
    """
    import onnx_ir

    orders = [[0, min(1, row_count(examples) - 1)], [0]] if batched else []
    try:
        answers = [running(pick_rows(examples, order)) for order in orders] or [running(examples)]
    except Exception as error:
        raise ValueError(f"export: ONNX Runtime cannot run the program on the examples: {_line(error)}") from error
    for value in program.graph.outputs:
        shapes = [answer[str(value.name)].shape for answer in answers]
        said = list(value.shape) if value.shape is not None and len(value.shape) == len(shapes[0]) else None
        sizes: list[Any] = []
        for place in range(len(shapes[0])):
            size = None if said is None else getattr(said[place], "value", said[place])
            if batched and not place and [shape[0] for shape in shapes] == [2, 1]:
                size = BATCH
            elif isinstance(size, int) and {shape[place] for shape in shapes} != {size}:
                size = None
            sizes.append(size)
        value.shape = onnx_ir.Shape(sizes)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
