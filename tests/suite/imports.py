"""Which files a test reaches: by its imports, by the names of modules in its strings, by the fixtures that it uses."""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from tests.suite.steps import ROOT

LIBRARY = "plugins/modelway"
MODULE = re.compile(r"\bmodelway(?:\.\w+)+\.?")
#: calls by which a module loads others that it does not name
LOADERS = {"import_module", "iter_modules"}


@dataclass(frozen=True)
class Source:
    """What the text of a Python file says."""

    imports: frozenset[str]
    words: frozenset[str]
    """its strings, those within f-strings too, without docstrings"""
    arguments: frozenset[str]
    """names of the parameters of its functions, which may be fixtures"""
    functions: frozenset[str]
    loads: bool
    """whether it loads modules that it does not name"""


@cache
def source(path: str) -> Source:
    """Read a file of the repository."""
    nodes = list(ast.walk(ast.parse((ROOT / path).read_text())))
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef)]
    # Docstrings: they name what nothing loads.
    remarks = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    calls = {
        node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        for node in nodes
        if isinstance(node, ast.Call)
    }
    return Source(
        imports=frozenset(name for node in nodes for name in _imported(node)),
        words=frozenset(
            node.value
            for node in nodes
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in remarks
        ),
        arguments=frozenset(each.arg for function in functions for each in function.args.args),
        functions=frozenset(function.name for function in functions),
        loads=bool(calls & LOADERS),
    )


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (each.name for each in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        # What is imported may be a module of the package or a name in it.
        yield node.module
        yield from (f"{node.module}.{each.name}" for each in node.names)


class Imports:
    """The files that each file of the library and of the tests needs."""

    def __init__(self) -> None:
        import grimp

        self._graph = grimp.build_graph("modelway")
        self._files = {module: file for module in self._graph.modules if (file := _file(module))}
        self._needs: dict[str, set[str]] = {file: set(self._of_library(m)) for m, file in self._files.items()}
        self.tests = tuple(sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("*.py")))
        for path in self.tests:
            self._needs[path] = set(self._of_test(path))

    @property
    def library(self) -> frozenset[str]:
        """The files of the library."""
        return frozenset(self._files.values())

    def reached(self, path: str) -> frozenset[str]:
        """Return all files that a file needs, itself among them."""
        return closure(self._needs, path)

    def _of_library(self, module: str) -> Iterator[str]:
        for each in self._graph.find_modules_directly_imported_by(module):
            yield from self._loaded(each)
        text = source(self._files[module])
        yield from self._named(text)
        if text.loads:
            # A room whose members are found by listing it, and those that it names.
            yield from self._inside(module.rpartition(".")[0] if "." in module else module)
            yield from self._inside(module)
            for word in text.words:
                yield from self._inside(f"modelway.{word}")

    def _of_test(self, path: str) -> Iterator[str]:
        text = source(path)
        folder = path.rpartition("/")[0]
        for name in text.imports:
            if name.partition(".")[0] == "modelway":
                yield from self._loaded(name)
            else:
                place = name.replace(".", "/")
                yield from (file for file in (f"{place}.py", f"{folder}/{place}.py") if file in self.tests)
        yield from self._named(text)
        if "modelway" in text.words:
            # The command.
            yield from self._loaded("modelway.cli")
        used = text.arguments | text.words
        yield from (file for file in self._conftests(folder) if file != path and source(file).functions & used)

    def _conftests(self, folder: str) -> Iterator[str]:
        """Return the files whose fixtures a folder's tests have."""
        for path in self.tests:
            place, _, name = path.rpartition("/")
            if name == "conftest.py" and f"{folder}/".startswith(f"{place}/"):
                yield path
                # The plugins that it loads.
                plugins = {f"{word.replace('.', '/')}.py" for word in source(path).words}
                yield from plugins & set(self.tests)

    def _named(self, text: Source) -> Iterator[str]:
        """Return the modules that its strings name: plugins of Airflow, programs, what is loaded by a name."""
        for word in text.words:
            for found in MODULE.findall(word):
                if found.endswith("."):
                    yield from self._inside(found.rstrip("."))
                yield from self._loaded(found.rstrip("."))

    def _loaded(self, name: str) -> Iterator[str]:
        """Return the file of a module, or of what a name is in, with its packages and its program."""
        parts = name.split(".")
        for count in range(1, len(parts) + 1):
            module = ".".join(parts[:count])
            if module in self._files:
                yield self._files[module]
        if f"{name}.__main__" in self._files:
            yield self._files[f"{name}.__main__"]

    def _inside(self, package: str) -> Iterator[str]:
        if package != "modelway":
            yield from (file for module, file in self._files.items() if module.startswith(f"{package}."))


def closure(needs: Mapping[str, Iterable[str]], start: str) -> frozenset[str]:
    """Return what can be reached from a node, itself among it."""
    found, todo = {start}, [start]
    while todo:
        new = set(needs.get(todo.pop(), ())) - found
        found |= new
        todo += new
    return frozenset(found)


def _file(module: str) -> str | None:
    """Return the file of a module; a package without one has none."""
    place = f"plugins/{module.replace('.', '/')}"
    return next((file for file in (f"{place}.py", f"{place}/__init__.py") if (ROOT / file).exists()), None)
