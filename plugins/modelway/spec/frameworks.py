"""Checks by the imports of the model's Python that ``export`` can return a torch module, before any training."""

import ast
import sys
from pathlib import Path

from modelway.fields.refusal import Refusal
from modelway.spec.files import read_bytes
from modelway.spec.problems import Problem

#: frameworks whose models are no torch modules
OTHERS = ("catboost", "flax", "jax", "keras", "lightgbm", "sklearn", "statsmodels", "tensorflow", "xgboost")
#: packages that do not indicate a framework; any other package may import torch
NEUTRAL = ("joblib", "matplotlib", "modelway", "numpy", "pandas", "polars", "pyarrow", "scipy", "skops", "yaml")

#: fields of statements that contain statements
_BLOCKS = ("body", "orelse", "handlers", "finalbody", "cases")


def framework_problem(imported: frozenset[str], *, file: Path) -> Problem | None:
    """Return a problem if another framework is imported, and torch by no Python file of the model's folder.

    None if an unknown package is imported: it may provide torch modules.

    :param imported: what the file imports
    """
    found = sorted(imported.intersection(OTHERS))
    if not found or "torch" in imported:
        return None
    beside = {each.stem: each for each in sorted(file.parent.glob("*.py")) if each != file}
    for each in beside.values():
        try:
            imported |= imported_packages(ast.parse(read_bytes(each, within=(file.parent,))))
        # An unreadable file is reported where it is used.
        except (Refusal, SyntaxError, ValueError, RecursionError, MemoryError):
            return None
    known = {*OTHERS, *NEUTRAL, *beside, *sys.stdlib_module_names, file.stem}
    packages = {each.parent.name for each in file.parent.glob("*/*.py")}
    if imported - known or imported & packages:
        return None
    return Problem(
        file=file,
        what=f"export must give a torch.nn.Module, but the model's Python imports {', '.join(found)} and no torch",
        do="Write the trained model as a torch module in export; other frameworks cannot be frozen yet",
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
