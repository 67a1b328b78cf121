"""All keys of ``model.yaml`` as a page of Markdown, generated from the JSON schema."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from modelway.spec.schema import json_schema

_INTRODUCTION = """# The keys of model.yaml

`modelway schema --format markdown` generates this page, and `modelway schema` the JSON schema beside the models
([schema.json](../include/models/schema.json)), with which editors complete and check.
[authoring.md](authoring.md) describes how to use the keys.

The top level of the file may also contain `extends`, a file of shared values, and `environments`, the values that
differ in each of them.
"""
_KINDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "null": "nothing",
}


def reference_text() -> str:
    """Return the page: one table for each section, in the order of the schema."""
    definitions = json_schema()["$defs"]
    parts = [_INTRODUCTION]
    for title, name in _sections(definitions):
        section = definitions[name]
        parts += [f"\n## {_plain(title)}\n", f"{section['description']}\n"] if title else []
        parts.append("| key | value | default | what it is |\n|---|---|---|---|")
        required = section.get("required", ())
        for key, value in section["properties"].items():
            if key == "environments":
                continue
            default = "needed" if key in required else _default(value)
            cells = (f"`{key}`", _value(value), default, value.get("description") or _described(value, definitions))
            parts.append(f"| {' | '.join(map(_plain, cells))} |")
    return "\n".join(parts).rstrip() + "\n"


def _plain(text: str) -> str:
    """Return text without a meaning in Markdown."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def _sections(definitions: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the path and the definition of each section, the top level first, each once."""
    waiting, seen = [("", "Model")], set()
    while waiting:
        title, name = waiting.pop(0)
        if name in seen:
            continue
        seen.add(name)
        yield title, name
        for key, value in definitions[name]["properties"].items():
            below = (f"{title}.{key}{mark}".lstrip(".") for mark in _marks(value))
            waiting += zip(below, _references(value), strict=False) if key != "environments" else ()


def _marks(value: Mapping[str, Any]) -> Iterator[str]:
    mark = "[]" if value.get("type") == "array" else ".<name>" if "additionalProperties" in value else ""
    for _ in _references(value):
        yield mark


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"].removeprefix("#/$defs/")
        for key in ("anyOf", "items", "additionalProperties"):
            yield from _references(value.get(key))
    elif isinstance(value, list):
        for one in value:
            yield from _references(one)


def _value(value: Mapping[str, Any]) -> str:
    if "$ref" in value:
        return "section"
    if "anyOf" in value:
        return " or ".join(dict.fromkeys(_value(one) for one in value["anyOf"] if one.get("type") != "null"))
    if "enum" in value:
        return ", ".join(f"`{one}`" for one in value["enum"])
    kind = value.get("type")
    if kind == "array":
        return f"list of {_plural(_value(value.get('items', {})))}"
    if kind == "object":
        below = value.get("additionalProperties")
        return f"mapping of names to {_plural(_value(below))}" if isinstance(below, dict) and below else "mapping"
    kinds = [kind] if isinstance(kind, str) else kind or []
    # Every whole number is a number, too.
    names = [_KINDS[one] for one in kinds if one != "integer" or "number" not in kinds]
    word = " or ".join(names) or "any value"
    example = value.get("examples", [None])[0]
    return f"{word}, such as `{example}`" if example else word + _bounds(value)


def _plural(word: str) -> str:
    plurals = {
        **{"section": "sections", "text": "texts", "whole number": "whole numbers"},
        "whole number or section": "whole numbers or sections",
    }
    return plurals.get(word, word)


def _bounds(value: Mapping[str, Any]) -> str:
    least, most = value.get("minimum"), value.get("maximum")
    if least is not None and most is not None:
        return f", {least} to {most:g}" if most < 1e6 else f", at least {least}"
    return f", at least {least}" if least is not None else ""


def _default(value: Mapping[str, Any]) -> str:
    default = value.get("default")
    is_plain = isinstance(default, list) and all(isinstance(one, int) for one in default)
    is_section = isinstance(default, list | dict) and "$ref" in str(value) and not is_plain
    if default is None or default in ("", [], {}) or is_section:
        return ""
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"


def _described(value: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    name = next(_references(value), None)
    return str(definitions[name].get("description", "")) if name else ""
