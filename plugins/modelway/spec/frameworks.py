"""Checks by the imports of the model's Python that ``export`` can return what can be frozen, before any training."""

import ast
import sys
from pathlib import Path

from modelway.fields.refusal import Refusal
from modelway.spec.files import note_other_read, read_bytes
from modelway.spec.problems import Problem

#: frameworks whose models cannot be frozen as they are, and which write no ONNX themselves
OTHERS = ("flax", "jax", "statsmodels")
#: frameworks whose models can be frozen, or that write ONNX themselves
FREEZABLE = ("catboost", "keras", "lightgbm", "sklearn", "tensorflow", "torch", "xgboost")
#: packages that do not indicate a framework; any other package may import torch
NEUTRAL = ("joblib", "matplotlib", "modelway", "numpy", "pandas", "polars", "pyarrow", "scipy", "skops", "yaml")

#: fields of statements that contain statements
_BLOCKS = ("body", "orelse", "handlers", "finalbody", "cases")


def framework_problem(imported: frozenset[str], *, file: Path) -> Problem | None:
    """Return a problem if another framework is imported, and nothing that can be frozen by any file of the folder.

    None if an unknown package is imported: it may provide what can be frozen.

    :param imported: what the file imports
    """
    found = sorted(imported.intersection(OTHERS))
    if not found or imported.intersection(FREEZABLE):
        return None
    note_other_read()
    beside = {each.stem: each for each in sorted(file.parent.glob("*.py")) if each != file}
    for each in beside.values():
        try:
            imported |= imported_packages(ast.parse(read_bytes(each, within=(file.parent,))))
        # An unreadable file is reported where it is used.
        except (Refusal, SyntaxError, ValueError, RecursionError, MemoryError):
            return None
    known = {*OTHERS, *NEUTRAL, *beside, *sys.stdlib_module_names, file.stem}
    packages = {each.parent.name for each in file.parent.glob("*/*.py")}
    if imported - known or imported & {*packages, *FREEZABLE}:
        return None
    return Problem(
        file=file,
        what="export must give a torch module, an estimator or the path of an ONNX file, but the model's Python "
        f"imports {', '.join(found)} and nothing that makes one",
        do="Convert the model in export and give the path of the ONNX file, or write freeze.format: files",
    )


def imported_packages(tree: ast.Module) -> frozenset[str]:
    """Return the top-level packages of all imports, at any depth.

    An import is a statement: expressions, which are most of a tree, are not visited.
    """
    found: set[str] = set()
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module and not node.level:
                found.add(node.module.partition(".")[0])
        else:
            for block in _BLOCKS:
                waiting += getattr(node, block, ())
    return frozenset(found)
