"""The JSON schema of ``model.yaml`` as authors write it, with which editors complete and check.

Lint checks more than a schema can express: the schema accepts whatever lint accepts, but not vice versa.
"""

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from modelway.fields.units import format_duration
from modelway.names import NAME_PATTERN
from modelway.ports import known
from modelway.spec.layers import ENVIRONMENTS, EXTENDS
from modelway.spec.model import ModelSpec

_Schema = dict[str, Any]

#: keys whose value may stand for the whole mapping of a section
_SHORT = {"ParamSection": "default", "DatasetSection": "uri", "ScheduleSection": "cron", "SearchedSection": "values"}
_PORTS = {"backend": "backends", "builder": "builders", "target": "endpoints"}
_PART = "Part"
_EXTENDS: _Schema = {
    "type": "string",
    "minLength": 1,
    "description": "A file of shared values, relative to this one; values in this file override them",
    "examples": ["../defaults.yaml"],
}


def json_schema() -> _Schema:
    """Return the schema of a model's file: whole, or in part where it extends another."""
    made = ModelSpec.model_json_schema(by_alias=True)
    definitions: _Schema = made.pop("$defs")
    whole = {key: made[key] for key in ("type", "properties", "required", "additionalProperties")}
    for definition in (whole, *definitions.values()):
        definition.pop("title", None)
        for name, value in definition["properties"].items():
            _tidy(name, value)
    del whole["properties"]["code"]["default"]
    definitions["Model"] = whole
    for definition in list(definitions.values()):
        _allow_short_forms(definition, definitions)
    parts = {name + _PART: _part(definition) for name, definition in definitions.items()}
    definitions |= parts
    environment = _without(parts["Model" + _PART], "model")
    environment["description"] = "The values that differ in this environment"
    own = {EXTENDS: _EXTENDS, ENVIRONMENTS: _environments()}
    extending = {**parts["Model" + _PART], "required": ["model", EXTENDS]}
    extending["properties"] = {**extending["properties"], **own, "model": whole["properties"]["model"]}
    del definitions["Model" + _PART]
    whole["properties"] = {**whole["properties"], ENVIRONMENTS: own[ENVIRONMENTS]}
    definitions |= {"ExtendingModel": extending, "Environment": environment}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A model of modelway",
        "description": "model.yaml: one model, from its training to its traffic",
        "type": "object",
        "if": {"required": [EXTENDS]},
        "then": {"$ref": "#/$defs/ExtendingModel"},
        "else": {"$ref": "#/$defs/Model"},
        "$defs": dict(sorted(definitions.items())),
    }


def schema_text() -> str:
    """Return the schema as the text of its file."""
    return json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"


def _environments() -> _Schema:
    return {
        "type": ["object", "null"],
        "description": "Environments, such as dev and prod, with the values that differ there; MODELWAY_ENV chooses",
        "propertyNames": {"pattern": NAME_PATTERN},
        "additionalProperties": {"anyOf": [{"$ref": "#/$defs/Environment"}, {"type": "null"}]},
    }


def _tidy(name: str, value: _Schema) -> None:
    """Remove titles that only repeat the key, and add the known names."""
    value.pop("title", None)
    if (patterns := value.pop("patternProperties", None)) is not None:
        # Any other name is an error.
        ((pattern, item),) = patterns.items()
        value |= {"propertyNames": {"pattern": pattern}, "additionalProperties": item}
    for below in (value.get("additionalProperties"), value.get("items")):
        if isinstance(below, dict) and "oneOf" in below:
            # The kinds of values exclude one another anyway.
            below["anyOf"] = below.pop("oneOf")
    if "default" in value and any("pattern" in one for one in _strings(value)) and isinstance(value["default"], int):
        value["default"] = format_duration(value["default"])
    for one in _strings(value) if name in _PORTS else ():
        one["enum"] = list(known(_PORTS[name]))


def _strings(schema: _Schema) -> Iterator[_Schema]:
    for one in (schema, *schema.get("anyOf", ())):
        if one.get("type") == "string":
            yield one


def _allow_short_forms(schema: Any, definitions: _Schema) -> None:
    """Accept one value in place of a section where the loader does."""
    if isinstance(schema, list):
        for item in schema:
            _allow_short_forms(item, definitions)
    if not isinstance(schema, dict):
        return
    for value in schema.values():
        _allow_short_forms(value, definitions)
    section = str(schema.get("$ref", "")).removeprefix("#/$defs/")
    if section in _SHORT:
        short = deepcopy(definitions[section]["properties"][_SHORT[section]])
        short.pop("default", None)
        short = next((one for one in short.get("anyOf", ()) if one.get("type") != "null"), short)
        short.pop("description", None)
        reference = schema.pop("$ref")
        schema["anyOf"] = [short, {"$ref": reference}]


def _part(section: _Schema) -> _Schema:
    """Return a section of which any key may be missing, or be null to remove an inherited value."""
    part = deepcopy(section)
    part.pop("required", None)
    part["properties"] = {name: _or_null(_of_parts(value)) for name, value in part["properties"].items()}
    return part


def _of_parts(schema: _Schema) -> _Schema:
    """Refer to parts in place of whole sections, except in lists, which are replaced as a whole."""
    if "$ref" in schema:
        return {**schema, "$ref": schema["$ref"] + _PART}
    schema = dict(schema)
    if "anyOf" in schema:
        schema["anyOf"] = [_of_parts(one) for one in schema["anyOf"]]
    if isinstance(schema.get("additionalProperties"), dict):
        schema["additionalProperties"] = _or_null(_of_parts(schema["additionalProperties"]))
    return schema


def _or_null(schema: _Schema) -> _Schema:
    schema = {key: value for key, value in schema.items() if key != "default"}
    if "anyOf" in schema:
        has_null = {"type": "null"} in schema["anyOf"]
        return schema if has_null else {**schema, "anyOf": [*schema["anyOf"], {"type": "null"}]}
    described = {key: schema.pop(key) for key in ("description",) if key in schema}
    return {**described, "anyOf": [schema, {"type": "null"}]} if schema else described


def _without(section: _Schema, *names: str) -> _Schema:
    section = deepcopy(section)
    section["properties"] = {name: value for name, value in section["properties"].items() if name not in names}
    return section
