"""Turns the values of a YAML file into a ModelSpec, or into all of its problems with their places in the file."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from modelway.fields.refusal import KeyPath, Refusal, shown
from modelway.names import NAME_PATTERN, nearest
from modelway.spec.code import code_problems
from modelway.spec.document.read import Node
from modelway.spec.layers import ENVIRONMENTS, EXTENDS
from modelway.spec.model import ModelSpec
from modelway.spec.problems import Problem, dotted, problem_of
from modelway.spec.rules import Rule, findings
from modelway.spec.secrets import plain_secrets
from modelway.spec.sections import NAME_REPEATED, repeated
from modelway.spec.several_hosts import several_hosts

_KINDS = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "model_type": "a mapping (key: value)",
    "dict_type": "a mapping (key: value)",
    "mapping_type": "a mapping (key: value)",
    "tuple_type": "a list",
    "is_instance_of": "text",
}
_LIMITS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}
#: sections whose keys nobody writes into another section by mistake
_OF_FREE_NAMES = ("datasets", "notifications", "params")
_HOLDS_PARAMS = ("train", "evaluate")


def check_spec(
    root: Node, *, file: Path, environment: str | None = None, more: Rule | None = None
) -> tuple[ModelSpec | None, tuple[Problem, ...]]:
    """Return the spec from a file's values, or None, and the problems of the values and of the model's Python.

    With warnings only, there is a spec.

    :param root: the values, including those of the files that it extends and of the environment
    :param environment: the environment of the values
    :param more: an additional rule
    """
    data = root.plain()
    if not isinstance(data, dict):
        what = f"expected a mapping (key: value), got {shown(data)}"
        do = f"Write at least: model: {file.parent.name}"
        return None, (_at(root, (), Refusal(what, do=do)),)
    spec = None
    problems: list[Problem] = []
    try:
        spec = ModelSpec.model_validate(data, context={"folder": file.parent, "environment": environment})
    except ValidationError as error:
        details = error.errors(include_url=False)
        problems += [_problem(detail, root, file) for detail in details]
    if not any(problem.where == "model" for problem in problems) and data["model"] != file.parent.name:
        what = f"{shown(data['model'])} is not the name of its folder, '{file.parent.name}'"
        do = f"Write model: {file.parent.name}, or rename the folder"
        if not re.fullmatch(NAME_PATTERN, file.parent.name):
            do = f"Rename the folder to {data['model']}"
        problems.append(_at(root, ("model",), Refusal(what, do=do)))
    problems += _repeated_stage(data, root, problems)
    found = (*findings(data), *(more(data) if more else ()))
    problems += [_at(root, one.path, one.refusal, of_key=one.of_key) for one in found]
    problems += code_problems(data, folder=file.parent)
    doubts = (*plain_secrets(data), *several_hosts(data))
    warned = (replace(_at(root, path, refusal), severity="warning") for path, refusal in doubts)
    return (None if problems else spec), (*problems, *warned)


def _at(root: Node, path: KeyPath, refusal: Refusal, *, of_key: bool = False) -> Problem:
    """Return the refusal of a value as a problem of the file that contains the value."""
    place = root.place(path, of_key=of_key)
    return problem_of(refusal, file=place.file, where=dotted(path), place=(place.line, place.column))


def _repeated_stage(data: Mapping[str, Any], root: Node, problems: Sequence[Problem]) -> list[Problem]:
    """Find a repeated stage name even where the stages have other problems."""
    train = data.get("train")
    stages = train.get("stages") if isinstance(train, dict) else None
    if not isinstance(stages, list):
        return []
    names = [stage.get("name", object()) if isinstance(stage, dict) else object() for stage in stages]
    index = repeated(names)
    path: KeyPath = ("train", "stages", index if index is not None else 0, "name")
    if index is None or any(problem.where == dotted(path) for problem in problems):
        return []
    return [_at(root, path, Refusal(NAME_REPEATED))]


def _problem(detail: ErrorDetails, root: Node, file: Path) -> Problem:
    # The last are the two kinds of values of an environment variable.
    path: KeyPath = tuple(part for part in detail["loc"] if part not in ("[text]", "[section]"))
    of_key = detail["type"] == "extra_forbidden" or path[-1:] == ("[key]",)
    if path[-1:] == ("[key]",):
        path = path[:-1]
    refusal = detail.get("ctx", {}).get("error")
    if not isinstance(refusal, Refusal):
        refusal = _refusal(detail, path, file)
    return _at(root, path + refusal.at, refusal, of_key=of_key)


def refusal_of(detail: ErrorDetails) -> Refusal:
    """Return pydantic's error of a single value as a refusal in the terms of the spec."""
    refusal = detail.get("ctx", {}).get("error")
    if not isinstance(refusal, Refusal):
        refusal = _refusal(detail, detail["loc"] or ("value",), Path())
    for part in reversed(detail["loc"]):
        refusal.within(part)
    return refusal


def _refusal(detail: ErrorDetails, path: KeyPath, file: Path) -> Refusal:
    """Translate an error of pydantic into the terms of the spec."""
    kind, value, limits = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(path)
    if kind == "missing":
        do = f"Write model: {file.parent.name}" if path == ("model",) else None
        return Refusal("the key is missing", do=do)
    if kind == "literal_error":
        known = re.findall(r"'([^']*)'", limits["expected"])
        article = "an" if str(path[-1])[0] in "aeiou" else "a"
        return Refusal(f"{shown(value)} is not {article} {path[-1]}", known=known, given=str(value))
    if kind in _KINDS:
        return Refusal(f"expected {_KINDS[kind]}, got {shown(value)}", do=_type_hint(kind, value, path))
    if kind in _LIMITS:
        comparison, name = _LIMITS[kind]
        return Refusal(f"must be {comparison} {limits[name]:.12g}, got {shown(value)}")
    if kind in ("too_short", "string_too_short"):
        return Refusal("must not be empty")
    if kind in ("too_long", "string_too_long"):
        unit = "entries" if kind == "too_long" else "characters"
        return Refusal(f"has more than {limits['max_length']} {unit}")
    return Refusal(f"{shown(value)} cannot be used here: {detail['msg'][:1].lower()}{detail['msg'][1:]}")


def _unknown_key(path: KeyPath) -> Refusal:
    *above, key = path
    section = _section(tuple(above))
    known = _keys(section) if section else ()
    if not above:
        known = tuple(sorted((*known, EXTENDS, ENVIRONMENTS)))
    # The same key in another section is a better guess than a similar one in this section.
    free = bool(above) and above[0] in _OF_FREE_NAMES
    homes = [] if free else [name for name, keys in _homes() if key in keys]
    near = None if homes else nearest(str(key), known)
    do = None
    if homes:
        do = f"It belongs under {' or '.join(homes)}"
    elif near is None and above and above[0] in _HOLDS_PARAMS and "params" in known:
        do = "Values for the model's own code go under params"
    return Refusal("unknown key", known=known, suggestion=near, do=do)


def _type_hint(kind: str, value: object, path: KeyPath) -> str | None:
    if kind in ("int_type", "float_type", "bool_type") and isinstance(value, str):
        return "Remove the quotes" if re.fullmatch(r"[-+]?\d+(\.\d+)?([eE][-+]?\d+)?|true|false", value) else None
    if kind == "string_type" and isinstance(value, bool | int | float):
        return f'Put it in quotes: "{shown(value)}"'
    if kind == "tuple_type" and isinstance(value, str):
        parts = value.split() if path[-1] == "command" else [value]
        return f"Write [{', '.join(parts)}]" if 0 < len(value) <= 60 and shown(value) == repr(value) else None
    return None


def _section(path: KeyPath) -> type[BaseModel] | None:
    """Return the class of the section at ``path``."""
    found: type[BaseModel] | None = ModelSpec
    parts = list(path)
    while parts and found is not None:
        part = parts.pop(0)
        fields = {field.alias or name: field for name, field in found.model_fields.items()}
        if part not in fields:
            return None
        annotation = fields[str(part)].annotation
        found = next(_models(annotation), None)
        # In a list or a mapping of sections, the next part is the index or key.
        if found is not None and parts and not _is_section(annotation):
            parts.pop(0)
    return found


def _is_section(annotation: Any) -> bool:
    """Return whether the value of a key is one section, or None."""
    kinds = [getattr(kind, "__origin__", kind) for kind in get_args(annotation) or [annotation]]
    return all(kind is type(None) or _is_model(kind) for kind in kinds)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if _is_model(annotation):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


def _keys(section: type[BaseModel]) -> tuple[str, ...]:
    return tuple(sorted(field.alias or name for name, field in section.model_fields.items()))


@cache
def _homes() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return the sections with their keys, to suggest where a misplaced key belongs."""
    fields = {field.alias or name: field for name, field in ModelSpec.model_fields.items()}
    names = [name for name, field in fields.items() if _is_section(field.annotation)]
    homes = {**{name: _section((name,)) for name in names}, "train.stages": _section(("train", "stages", 0))}
    return tuple((name, _keys(section)) for name, section in homes.items() if section)
