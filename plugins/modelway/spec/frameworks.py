"""Whether ``export`` can give a torch module, by what the model's Python imports: found before anything is trained."""

import ast
import sys
from pathlib import Path

from modelway.spec.files import read_bytes
from modelway.spec.problems import Problem, Refusal

#: what trains models that are no torch modules
OTHERS = ("catboost", "flax", "jax", "keras", "lightgbm", "sklearn", "statsmodels", "tensorflow", "xgboost")
#: what says nothing of the framework; whatever else is imported may bring torch
NEUTRAL = ("joblib", "matplotlib", "modelway", "numpy", "pandas", "polars", "pyarrow", "scipy", "skops", "yaml")

#: where statements hold statements
_BLOCKS = ("body", "orelse", "handlers", "finalbody", "cases")


def framework_problem(imported: frozenset[str], *, file: Path) -> Problem | None:
    """Return the problem that no Python of the model's folder imports torch, where another framework is imported.

    Nothing is said where an unknown package is imported: it may give torch modules.

    :param imported: what the file imports
    """
    found = sorted(imported.intersection(OTHERS))
    if not found or "torch" in imported:
        return None
    beside = {each.stem: each for each in sorted(file.parent.glob("*.py")) if each != file}
    for each in beside.values():
        try:
            imported |= imported_packages(ast.parse(read_bytes(each, within=(file.parent,))))
        # What cannot be read is told where it is used.
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
    """Return the top packages of all imports, wherever they stand.

    An import is a statement: expressions, which are most of a tree, are not entered.
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
