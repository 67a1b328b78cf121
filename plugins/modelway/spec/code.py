"""Checks that the model's Python defines the functions that modelway calls, by parsing it, never by running it."""

import ast
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from modelway.fields.refusal import Refusal, shown
from modelway.spec.files import read_bytes
from modelway.spec.frameworks import framework_problem, imported_packages
from modelway.spec.model import default_code
from modelway.spec.problems import Problem, problem_of

#: the functions that modelway calls, with their parameters
PARAMETERS = {
    "train": ("job",),
    "evaluate": ("job", "checkpoint"),
    "export": ("job", "checkpoint"),
    "accept": ("job", "served"),
}

#: what the job's runtime imports besides the standard library
IMPORTED_BY_JOBS = ("modelway", "numpy", "onnx", "onnxruntime", "safetensors", "torch")

_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class _Bound:
    """The names that a module binds at its top level; ``functions`` where the definition is in the file itself."""

    names: set[str] = field(default_factory=set)
    functions: dict[str, _Function] = field(default_factory=dict)
    star: bool = False
    imported: frozenset[str] = frozenset()


def code_problems(data: Mapping[str, Any], *, folder: Path) -> list[Problem]:
    """Return the problems of the Python file of a spec's data; the data need not be valid."""
    # Without a valid name there is no default file to look for: the name is refused already.
    name = data.get("code", default_code(folder.name) if data.get("model") == folder.name else None)
    if not isinstance(name, str) or name != Path(name).name or not name.endswith(".py"):
        return []
    file = folder / name
    if (stem := Path(name).stem) in sys.stdlib_module_names or stem in IMPORTED_BY_JOBS:
        whose = "Python's own module" if stem in sys.stdlib_module_names else "a module that jobs import,"
        what = f"{shown(name)} would hide {whose} '{stem}'"
        return [Problem(file=file, what=what, do="Give the file another name and write code: <name>.py")]
    try:
        source = _source(file)
        bound = _bound(source)
    except Refusal as refusal:
        return [problem_of(refusal, file=file)]
    problems = [problem for name in needed_functions(data) if (problem := _check(name, bound, file))]
    freeze = data.get("freeze")
    if isinstance(freeze, dict) and (freeze.get("format") == "files" or freeze.get("command")):
        return problems
    other = framework_problem(bound.imported, file=file)
    return [*problems, other] if other else problems


def needed_functions(data: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the functions that the model's Python must define: those that no command replaces."""

    def has_command(section: object) -> bool:
        return isinstance(section, dict) and bool(section.get("command"))

    train = data.get("train")
    stages = train.get("stages") if isinstance(train, dict) else None
    trains = not isinstance(stages, list) or not stages or not all(map(has_command, stages))
    needed = {"train": trains, "evaluate": not has_command(data.get("evaluate"))}
    needed["export"] = not has_command(data.get("freeze"))
    rollout = data.get("rollout")
    acceptance = rollout.get("acceptance") if isinstance(rollout, dict) else None
    needed["accept"] = isinstance(acceptance, dict) and not has_command(acceptance)
    return tuple(name for name, is_needed in needed.items() if is_needed)


def _source(file: Path) -> bytes:
    if not os.path.lexists(file):
        do = "Write it there, or name another file of the folder with code: <name>.py"
        raise Refusal("the model's Python file is missing", do=do)
    return read_bytes(file, within=(file.parent,))


@lru_cache(maxsize=64)
def _bound(source: bytes) -> _Bound:
    """Return what a Python source binds and imports; cached, since a model is checked in each of its environments.

    :raises Refusal: it is not valid Python
    """
    tree = _parse(source)
    bound = _Bound(imported=imported_packages(tree))
    _collect(tree.body, bound)
    for function in bound.functions.values():
        # Only the signature is needed; the body would occupy most of the memory.
        function.body.clear()
    return bound


def _parse(source: bytes) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except SyntaxError as error:
        place = (error.lineno or 1, max(error.offset or 1, 1))
        raise Refusal(f"not valid Python: {error.msg}", place=place) from None
    except (RecursionError, MemoryError):
        raise Refusal("not valid Python: it is nested too deep", do="Write it in smaller parts") from None
    except ValueError as error:
        raise Refusal(f"not valid Python: {error}") from None


def _collect(statements: list[ast.stmt], bound: _Bound) -> None:
    # A chain of elif is nested as deep as it is long.
    waiting = statements[::-1]
    while waiting:
        statement = waiting.pop()
        if isinstance(statement, _Function):
            bound.names.add(statement.name)
            bound.functions[statement.name] = statement
            continue
        for name in _assigned(statement):
            bound.star |= name == "*"
            bound.names.add(name)
            bound.functions.pop(name, None)
        waiting += [each for block in _blocks(statement) for each in block][::-1]


def _assigned(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.Import | ast.ImportFrom):
        yield from (alias.asname or alias.name.split(".")[0] for alias in statement.names)
    elif isinstance(statement, ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        for target in targets if statement.value else []:
            yield from (node.id for node in ast.walk(target) if isinstance(node, ast.Name))


def _blocks(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    if isinstance(statement, ast.If | ast.Try | ast.With):
        yield statement.body
        yield getattr(statement, "orelse", [])
        for handler in getattr(statement, "handlers", []):
            yield handler.body
        yield getattr(statement, "finalbody", [])


def _check(name: str, bound: _Bound, file: Path) -> Problem | None:
    parameters = PARAMETERS[name]
    call = f"{name}({', '.join(parameters)})"
    if name not in bound.names:
        if bound.star:
            return None
        instead = {"train": ", or give every stage a command", "evaluate": ", or give evaluate a command"}
        instead |= {"export": ", or give freeze a command", "accept": ", or give rollout.acceptance a command"}
        return Problem(file=file, what=f"there is no function {call}", do=f"Define it{instead[name]}")
    function = bound.functions.get(name)
    if function is None or (isinstance(function, ast.FunctionDef) and _accepts(function.args, len(parameters))):
        return None
    kind = "an async function" if isinstance(function, ast.AsyncFunctionDef) else f"{name}({_signature(function.args)})"
    column = function.col_offset + 1
    return Problem(file=file, line=function.lineno, column=column, what=f"{call} is called, but this is {kind}")


def _accepts(arguments: ast.arguments, number: int) -> bool:
    positional = len(arguments.posonlyargs) + len(arguments.args)
    enough = positional - len(arguments.defaults) <= number and (positional >= number or arguments.vararg is not None)
    return enough and all(default is not None for default in arguments.kw_defaults)


def _signature(arguments: ast.arguments) -> str:
    try:
        text = ast.unparse(arguments)
    except RecursionError:
        return "…"
    return text if len(text) <= 100 else f"{text[:99]}…"
