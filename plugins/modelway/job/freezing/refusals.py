"""Why a module cannot be frozen: which operator or construct, at which line of the author's code, and what to do.

Torch's own messages are very long and name its internals; they stay in the log as the cause.
"""

from __future__ import annotations

import logging
import re
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx_ir
    import torch

#: folders of code that the author of a model does not write
_NOT_THEIRS = tuple(
    str(Path(place).resolve())
    for place in {
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        str(Path(__file__).parents[2]),
    }
)
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>\S+)')
_OPERATOR = re.compile(r"OpOverload\(op='(?P<name>[\w.:]+)'")
_TRANSLATED = re.compile(r"Error when translating node .*target=torch\.ops\.(?P<name>\w+\.\w+)")
#: what to write in place of operators that models often have and ONNX has not
_INSTEAD = {
    "aten.median": "sort the values and take the middle one (torch.sort)",
    "aten.nanmedian": "sort the values and take the middle one (torch.sort)",
    "aten._cdist_forward": "write the distance out: ((a[:, None] - b[None]) ** 2).sum(-1).sqrt()",
}


def no_program(
    error: Exception, module: torch.nn.Module, examples: tuple[Any, ...], shapes: tuple[Any, ...]
) -> ValueError:
    """Return the error for a module of which torch could not make a program, in one line."""
    chain = list(_chain(error))
    for each in chain:
        kind = type(each).__name__
        if kind == "GuardOnDataDependentSymNode":
            return ValueError(
                f"export: the code decides by the values of a tensor{_at(_frames(chain))}, and a frozen program goes "
                "one way for all inputs; compute both and choose with torch.where, or keep sizes and counts as tensors"
            )
        if found := re.search(r"Constraints violated \((?P<names>[^)]*)\)", str(each)):
            return fixed_size(found["names"], module, examples, shapes, needs=_needs(str(each)))
        if found := _OPERATOR.search(str(each)) if kind == "DispatchError" else None:
            name = found["name"]
            instead = _INSTEAD.get(name, "compute it with other operators, or outside the model")
            where = _at(_operator_frames(name, module, examples, shapes))
            return ValueError(f"export: ONNX has no operator for torch's {name}{where}; {instead}")
    first = next((each for each in chain if not _is_exporters(each)), chain[-1])
    if found := next(filter(None, (_TRANSLATED.search(str(each)) for each in chain)), None):
        where = _at(_operator_frames(found["name"], module, examples, shapes))
        return ValueError(
            f"export: torch's {found['name']}{where} cannot be written in ONNX as it is used: "
            f"{_first_line(str(first))}; torch's full message is in the log"
        )
    if frames := _gradient_frames(module, examples):
        return ValueError(
            f"export: forward computes gradients{_at(frames)}, of which no program can be made; freeze the module that "
            "they are gradients of, or write freeze.format: files and serve it by an image of your own"
        )
    return ValueError(
        f"export: torch cannot make a program of the model: {type(first).__name__}: {_first_line(str(first))}"
        f"{_at(_frames(chain))}; torch's full message is in the log"
    )


def fixed_size(
    dimension: str, module: torch.nn.Module, examples: tuple[Any, ...], shapes: tuple[Any, ...], *, needs: str = ""
) -> ValueError:
    """Return the error for code that works with only some sizes of a dimension that may have any."""
    return ValueError(
        f"export: the code does not work with any size of the dimension '{dimension}'"
        f"{_at(_size_frames(module, examples, shapes))}{needs and f', it needs {needs}'}; take sizes from the inputs "
        "(x.shape[0], -1 in reshape) in place of the numbers of the example"
    )


def uncomputable(program: onnx_ir.Model, run: Callable[[], Any]) -> ValueError | None:
    """Return the error for the first operator of a type that ONNX Runtime does not compute with; None: there is none.

    :param run: runs the module, to find the line
    """
    import onnx_ir

    for node in onnx_ir.traversal.RecursiveGraphIterator(program.graph):
        for value in node.outputs:
            kind = value.dtype.name.lower() if value.dtype is not None else ""
            if kind == "bfloat16" or kind.startswith(("complex", "float8", "float4")):
                where = _at(_eager_frames(run, partial(_has_kind, kind)))
                return ValueError(
                    f"export: the model computes in {kind}{where}, which ONNX Runtime does not on a CPU; compute in "
                    "float32 there (no autocast, .float())"
                )
    return None


def _has_kind(kind: str, _: list[Any], answer: Any) -> bool:
    return kind in str(getattr(answer, "dtype", ""))


def changed_input(name: str, tensor: torch.Tensor, run: Callable[[], Any]) -> ValueError:
    """Return the error for a forward that writes into an input.

    :param run: runs the module again with ``tensor``, to find the line
    """
    memory = tensor.untyped_storage().data_ptr()
    written = _eager_frames(run, lambda changed, _: any(one.untyped_storage().data_ptr() == memory for one in changed))
    return ValueError(
        f"export: forward changes its input '{name}' in place{_at(written)}; write the result to a new tensor, such as "
        f"{name} = {name} * 2 in place of {name} *= 2"
    )


def _eager_frames(run: Callable[[], Any], when: Callable[[list[Any], Any], bool]) -> list[traceback.FrameSummary]:
    """Run a module; return the frames of the first operator of which ``when(tensors written to, answer)`` is true."""
    from torch.utils._python_dispatch import TorchDispatchMode

    found: list[traceback.FrameSummary] = []

    class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            written = [
                value
                for value, argument in zip(args, func._schema.arguments, strict=False)
                if argument.alias_info is not None and argument.alias_info.is_write
            ]
            answer = func(*args, **(kwargs or {}))
            if not found and when(written, answer):
                found.extend(traceback.extract_stack())
            return answer

    with Watch():  # type: ignore[no-untyped-call]
        run()
    return found


def _needs(text: str) -> str:
    """Return the sizes that torch suggests where it finds that not all work, such as ``length = 2*half``."""
    lines = text.partition("Suggested fixes:")[2].strip().partition("\n\n")[0].splitlines()
    return ", ".join(line.strip().replace("_", "") for line in lines)


def _size_frames(
    module: torch.nn.Module, examples: tuple[Any, ...], shapes: tuple[Any, ...]
) -> list[traceback.FrameSummary]:
    """Return the frames in which the code was found to allow only some sizes; the module is traced again for them."""
    import torch

    found: dict[str, list[traceback.FrameSummary]] = {}

    class Watch(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage()
            for said in ("set_replacement", "guard added"):
                if said in text:
                    found.setdefault(said, list(traceback.extract_stack()))

    logger = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    handlers, level, propagates = logger.handlers, logger.level, logger.propagate
    logger.handlers, logger.propagate = [Watch()], False
    logger.setLevel(logging.INFO)
    try:
        torch.export.export(module, examples, dynamic_shapes=shapes, strict=False)
    except Exception:
        pass
    finally:
        logger.handlers, logger.propagate = handlers, propagates
        logger.setLevel(level)
    return found.get("set_replacement") or found.get("guard added") or []


def _gradient_frames(module: torch.nn.Module, examples: tuple[Any, ...]) -> list[traceback.FrameSummary]:
    """Return the frames in which the model computes gradients (torch.autograd, torch.func); it is run for them."""
    import torch

    found: list[traceback.FrameSummary] = []
    own = torch.autograd.grad

    def watched(*args: Any, **kwargs: Any) -> Any:
        found.extend(traceback.extract_stack())
        return own(*args, **kwargs)

    torch.autograd.grad = watched
    try:
        module(*examples)
    except Exception:
        return []
    finally:
        torch.autograd.grad = own
    return found


def _operator_frames(
    name: str, module: torch.nn.Module, examples: tuple[Any, ...], shapes: tuple[Any, ...]
) -> list[traceback.FrameSummary]:
    """Return the frames in which the model uses an operator; the module is traced again for them."""
    import torch

    try:
        traced = torch.export.export(module, examples, dynamic_shapes=shapes, strict=False)
        # An operator of the exporter may be a part of the one that the author wrote.
        for graph in (traced.graph, traced.run_decompositions().graph):
            for node in graph.nodes:
                schema = getattr(node.target, "_schema", None)
                if schema is not None and schema.name.replace("::", ".") == name:
                    return _frames_of_text(node.meta.get("stack_trace") or "")
    except Exception:
        return []
    return []


def _frames_of_text(text: str) -> list[traceback.FrameSummary]:
    return [
        traceback.FrameSummary(found["file"], int(found["line"]), found["function"], lookup_line=False)
        for found in _FRAME.finditer(text)
    ]


def _frames(chain: Iterable[BaseException]) -> list[traceback.FrameSummary]:
    return [frame for error in chain for frame in traceback.extract_tb(error.__traceback__)]


def _at(frames: Iterable[traceback.FrameSummary]) -> str:
    """Return the last of the frames that the author wrote, such as `` (circles.py:12 in forward)``."""
    theirs = [frame for frame in frames if _is_theirs(frame.filename)]
    if not theirs:
        return ""
    path = Path(theirs[-1].filename)
    place = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else Path(path.name)
    return f" ({place}:{theirs[-1].lineno} in {theirs[-1].name})"


def _is_theirs(filename: str) -> bool:
    path = Path(filename)
    return path.is_file() and not str(path.resolve()).startswith(_NOT_THEIRS)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Walk from an error through those that caused it."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _is_exporters(error: BaseException) -> bool:
    return type(error).__module__.startswith("torch.onnx")


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:300] or "no message"
