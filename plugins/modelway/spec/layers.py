"""One model's values from several files: the files it ``extends`` below it, an environment's overlay above it.

Mappings are merged key by key, everything else is replaced. A key that is null removes an inherited value.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from modelway.fields.refusal import KeyPath, Refusal, shown
from modelway.names import NAME_PATTERN, nearest
from modelway.spec.document.read import Node, read_document
from modelway.spec.files import read_text
from modelway.spec.problems import Place, Problem, display, dotted, problem_of

EXTENDS = "extends"
ENVIRONMENTS = "environments"
MOST_FILES = 10
LONGEST_PATH = 1000
#: keys that only the model itself may have
_OF_THE_MODEL = ("model", EXTENDS, ENVIRONMENTS)


@dataclass(frozen=True, kw_only=True)
class Layers:
    """A file with the files it extends; ``root`` is None where they cannot be read, and the problems say why."""

    root: Node | None
    environments: Mapping[str, Node] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    problems: tuple[Problem, ...] = ()

    def at(self, environment: str | None) -> Node:
        """Return the values in an environment; an environment that the file does not have changes nothing."""
        assert self.root is not None
        above = self.environments.get(environment or "")
        if above is None:
            return self.root
        node = merged(self.root, above)
        # The place is the model's: a missing key is no problem of the overlay.
        return replace(node, file=self.root.file, line=self.root.line, column=self.root.column)


class LayerReader:
    """Reads the files of models, each shared file once."""

    def __init__(self) -> None:
        # How much a file may extend depends on the number of files above it.
        self._shared: dict[tuple[Path, int], Layers] = {}
        #: by file, the SHA-256 of what was read of it
        self.digests: dict[Path, bytes] = {}

    def read(self, file: Path, *, above: tuple[Path, ...] = ()) -> Layers:
        """Return a file's values over those of the files that it extends.

        :param above: the chain of files that extend this one
        :raises Refusal: the file itself cannot be read
        """
        model = (*above, file)[0].parent
        root, found = read_document(read_text(file, within=(model, model.parent)), file=file)
        if root is None:
            return Layers(root=None, files=(file,), problems=found)
        if not isinstance(root.value, dict):
            return Layers(root=root, files=(file,), problems=(*found, *_no_defaults(root, above)))
        values = dict(root.value)
        extends, overlays = values.pop(EXTENDS, None), values.pop(ENVIRONMENTS, None)
        own = _with(root, values)
        environments, wrong = _environments(overlays)
        problems = [*found, *wrong]
        if extends is None:
            return Layers(root=own, environments=environments, files=(file,), problems=tuple(problems))
        below = self._below(extends, (*above, file))
        problems += below.problems
        if below.root is None or not isinstance(below.root.value, dict):
            return Layers(root=None, files=(file, *below.files), problems=tuple(problems))
        inherited = _with(below.root, {key: node for key, node in below.root.value.items() if key != "model"})
        return Layers(
            root=merged(inherited, own),
            environments=_over(below.environments, environments, overlays),
            files=(file, *below.files),
            problems=tuple(problems),
        )

    def _below(self, extends: Node, above: tuple[Path, ...]) -> Layers:
        """Return the layers that a file extends, or the problem of its ``extends``."""
        file = extends.file
        try:
            file = _extended(extends, above)
            key = (file, len(above))
            if key not in self._shared:
                self._shared[key] = self.read(file, above=above)
            return self._shared[key]
        except Refusal as refusal:
            if refusal.place:
                problem = problem_of(refusal, file=file)
            else:
                problem = problem_of(refusal, file=extends.file, where=EXTENDS, place=(extends.line, extends.column))
            return Layers(root=None, problems=(problem,))


def merged(below: Node, above: Node, *, keep_null: bool = False) -> Node:
    """Return the values of ``above`` over those of ``below``; each value retains its place.

    :param keep_null: retain nulls, for values that are merged over others later
    """
    if not isinstance(below.value, dict) or not isinstance(above.value, dict):
        return above
    values, keys = dict(below.value), below.keys | above.keys
    for key, node in above.value.items():
        if key not in values:
            values[key] = node
        elif node.value is None and not keep_null:
            del values[key]
        else:
            values[key] = merged(values[key], node, keep_null=keep_null)
    return Node(values, above.file, above.line, above.column, keys=keys)


def places(node: Node) -> set[Place]:
    """Return the places of a value and of all values in it."""
    found = {node.place(()), *node.keys.values()}
    items = node.value.values() if isinstance(node.value, dict) else node.value if isinstance(node.value, list) else ()
    for item in items:
        found |= places(item)
    return found


def _over(below: Mapping[str, Node], above: Mapping[str, Node], written: Node | None) -> dict[str, Node]:
    if written is not None and written.value is None:
        return {}
    both = dict(below)
    for name, overlay in above.items():
        both[name] = merged(both[name], overlay, keep_null=True) if name in both else overlay
    return both


def _extended(extends: Node, above: tuple[Path, ...]) -> Path:
    """Return the file that ``extends`` names.

    :raises Refusal: it names no file, or one that extends this one
    """
    path = extends.value
    if not isinstance(path, str) or not 0 < len(path) <= LONGEST_PATH or "\0" in path:
        raise Refusal(f"expected the path of a file, got {shown(extends.plain())}", do="Write such as ../defaults.yaml")
    file = Path(os.path.normpath(above[-1].parent / path))
    chain = [os.path.realpath(one) for one in above]
    if os.path.realpath(file) in chain:
        cycle = [*above[chain.index(os.path.realpath(file)) :], file]
        raise Refusal(f"the files extend each other in a cycle: {' → '.join(map(display, cycle))}")
    # A run's snapshot has the folder of the models, and nothing outside of it.
    models = above[0].parent.parent
    if not file.is_relative_to(models):
        raise Refusal(f"{shown(path)} lies outside of the folder of the models", do=f"Move it into {display(models)}")
    if len(above) >= MOST_FILES:
        raise Refusal(f"more than {MOST_FILES} files extend one another")
    if not os.path.lexists(file):
        do = "The path is relative to the file that it stands in"
        raise Refusal(f"{shown(path)} does not exist", suggestion=_near(path, file), do=do)
    return file


def _near(path: str, file: Path) -> str | None:
    try:
        near = nearest(file.name, os.listdir(file.parent))
    except OSError:
        return None
    return str(Path(path).with_name(near)) if near else None


def _no_defaults(root: Node, above: tuple[Path, ...]) -> tuple[Problem, ...]:
    # A model's own file is refused for this by the check of its values.
    return (_problem(root, (), f"expected a mapping (key: value), got {shown(root.plain())}"),) if above else ()


def _environments(node: Node | None) -> tuple[dict[str, Node], list[Problem]]:
    """Return the overlays by environment, and the problems of their form."""
    if node is None or node.value is None:
        return {}, []
    if not isinstance(node.value, dict):
        what = f"expected a mapping (environment: its values), got {shown(node.plain())}"
        return {}, [_problem(node, (ENVIRONMENTS,), what)]
    overlays: dict[str, Node] = {}
    problems: list[Problem] = []
    for name, overlay in node.value.items():
        path: KeyPath = (ENVIRONMENTS, name)
        if not re.fullmatch(NAME_PATTERN, name):
            do = "Use lower-case letters, digits and '-' inside, at most 40 characters"
            problems.append(_problem(node.keys[name], path, f"{shown(name)} is not a usable name", do=do))
        elif overlay.value is None:
            overlays[name] = _with(overlay, {})
        elif not isinstance(overlay.value, dict):
            what = f"expected a mapping (key: value), got {shown(overlay.plain())}"
            problems.append(_problem(overlay, path, what))
        else:
            values = {key: value for key, value in overlay.value.items() if key not in _OF_THE_MODEL}
            overlays[name] = _with(overlay, values)
            for key in (key for key in _OF_THE_MODEL if key in overlay.value):
                what = "an environment cannot change this"
                problems.append(_problem(overlay.keys[key], (*path, key), what, do="Write it above environments"))
    return overlays, problems


def _with(node: Node, values: dict[str, Node]) -> Node:
    return Node(values, node.file, node.line, node.column, keys=node.keys)


def _problem(at: Node | Place, path: KeyPath, what: str, *, do: str | None = None) -> Problem:
    file, line, column = at.place(()) if isinstance(at, Node) else at
    return Problem(file=file, line=line, column=column, where=dotted(path), what=what, do=do)
