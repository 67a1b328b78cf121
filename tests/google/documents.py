"""The discovery documents of Google's APIs that google-api-python-client carries: which method a request is of, and
whether its parameters and its body are what Google would take. Without that package: ``pip install`` the extra dev.
"""

import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

#: service → file
FILES = {
    "aiplatform": "aiplatform.v1",
    "run": "run.v2",
    "storage": "storage.v1",
    "artifactregistry": "artifactregistry.v1",
    "logging": "logging.v2",
    "monitoring": "monitoring.v3",
    "serviceusage": "serviceusage.v1",
    "cloudresourcemanager": "cloudresourcemanager.v3",
    "iam": "iam.v1",
    "iamcredentials": "iamcredentials.v1",
    "secretmanager": "secretmanager.v1",
    "compute": "compute.v1",
}
_NUMBERS = {"int32": int, "uint32": int, "double": (int, float), "float": (int, float)}


class Invalid(Exception):
    """A request that Google would answer with INVALID_ARGUMENT."""


@dataclass(frozen=True)
class Method:
    """A method of an API."""

    id: str
    document: Mapping[str, Any]
    parameters: Mapping[str, Any]
    schemas: Mapping[str, Any]

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """What its URLs look like after the host."""
        path = self.document["path"]
        parts = re.split(r"\{(\+?)(\w+)\}", path)
        text = re.escape(parts[0])
        for plus, name, rest in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
            given = self.parameters[name].get("pattern", "^.+$" if plus else "^[^/]+$")
            text += f"(?P<{name}>{given.removeprefix('^').removesuffix('$')}){re.escape(rest)}"
        return re.compile(f"^{text}$")

    @property
    def http(self) -> str:
        return str(self.document["httpMethod"])

    def check_query(self, query: Mapping[str, str]) -> None:
        """Refuse parameters that it does not have, values that they cannot have, and missing ones."""
        for name, value in query.items():
            known = self.parameters.get(name)
            if known is None or known.get("location") != "query":
                raise Invalid(
                    f'Invalid JSON payload received. Unknown name "{name}": Cannot bind query parameter. '
                    f"Field '{name}' could not be found in request message."
                )
            if "enum" in known and value not in known["enum"]:
                raise Invalid(f"Invalid value at '{name}' ({known.get('type')}), \"{value}\"")
            if known.get("type") == "boolean" and value not in ("true", "false"):
                raise Invalid(f"Invalid value at '{name}' (TYPE_BOOL), \"{value}\"")
            if known.get("type") == "integer" and not re.fullmatch(r"-?\d+", value):
                raise Invalid(f"Invalid value at '{name}' (TYPE_INT32), \"{value}\"")
        for name, known in self.parameters.items():
            needed = known.get("required") or _is_required(known)
            if known.get("location") == "query" and needed and name not in query:
                raise Invalid(f"The request was missing a required parameter: {name}.")

    def check_body(self, body: Any) -> Any:
        """Return a request's body without its output-only fields, as the service reads it."""
        reference = self.document.get("request")
        if reference is None:
            if body not in (None, {}):
                raise Invalid("Invalid JSON payload received. The request has no body.")
            return {}
        # A change names the fields that it is about; what it leaves out is not missing.
        partial = self.http == "PATCH"
        return _checked(body or {}, self.schemas[reference["$ref"]], self.schemas, at="", partial=partial, strict=True)

    def check_answer(self, answer: Any) -> None:
        """Make sure that the fake answers what the API could."""
        if reference := self.document.get("response"):
            _checked(answer, self.schemas[reference["$ref"]], self.schemas, at="", partial=True, strict=False)


@cache
def folder() -> Path:
    found = importlib.util.find_spec("googleapiclient")
    assert found is not None, "google-api-python-client is not installed: pip install -e '.[dev]'"
    return Path(str(found.origin)).parent / "discovery_cache" / "documents"


@cache
def _document(service: str) -> Mapping[str, Any]:
    document: Mapping[str, Any] = json.loads((folder() / f"{FILES[service]}.json").read_text())
    return document


@cache
def methods(service: str) -> tuple[Method, ...]:
    """Return all methods of a service; those whose paths are longer, and so more exact, come first."""
    document = _document(service)
    schemas, shared = document["schemas"], document.get("parameters", {})
    prefix = document["servicePath"]

    def walk(resources: Mapping[str, Any]) -> Iterator[Method]:
        for resource in resources.values():
            for method in resource.get("methods", {}).values():
                at = {**method, "path": prefix + method["path"]}
                parameters = {**shared, **method.get("parameters", {})}
                yield Method(method["id"], at, parameters, schemas)
            yield from walk(resource.get("resources", {}))

    return tuple(sorted(walk(document["resources"]), key=lambda one: -len(one.document["path"])))


@cache
def method(method_id: str) -> Method:
    """Return a method by its id, such as ``aiplatform.projects.locations.customJobs.create``.

    :raises LookupError: the API has no such method
    """
    found = next((one for one in methods(method_id.partition(".")[0]) if one.id == method_id), None)
    if found is None:
        raise LookupError(f"Google has no method {method_id}")
    return found


def match(service: str, http: str, path: str) -> tuple[Method, dict[str, str]] | None:
    """Return the method that a request is of, and what its path names; None where there is none."""
    for one in methods(service):
        if one.http == http and (found := one.pattern.match(path)):
            return one, found.groupdict()
    return None


def _is_required(schema: Mapping[str, Any]) -> bool:
    return str(schema.get("description", "")).startswith(("Required.", "[Required]"))


def _checked(
    value: Any, schema: Mapping[str, Any], schemas: Mapping[str, Any], *, at: str, partial: bool, strict: bool
) -> Any:
    """Return a value without output-only fields.

    :param partial: whether required fields may be missing
    :param strict: whether it is a request: answers may have enum values newer than the document
    """
    if "$ref" in schema:
        schema = schemas[schema["$ref"]]
    kind = schema.get("type")
    options = {"schemas": schemas, "partial": partial, "strict": strict}
    if kind == "array":
        if not isinstance(value, list):
            raise Invalid(f"Invalid value at '{at}', not a list")
        items = schema["items"]
        return [_checked(each, items, at=f"{at}[{number}]", **options) for number, each in enumerate(value)]
    if kind == "object" and "properties" in schema:
        return _checked_object(value, schema, at=at, **options)
    if kind == "object":
        if not isinstance(value, Mapping):
            raise Invalid(f"Invalid value at '{at}', not an object")
        more = schema.get("additionalProperties", {})
        return {str(name): _checked(each, more, at=f"{at}.{name}", **options) for name, each in value.items()}
    _check_scalar(value, schema, kind, at=at, strict=strict)
    return value


def _checked_object(value: Any, schema: Mapping[str, Any], *, at: str, **options: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise Invalid(f"Invalid value at '{at or schema.get('id')}', not an object")
    properties = schema["properties"]
    found = {}
    for name, each in value.items():
        if name not in properties:
            place = f" at '{at}'" if at else ""
            raise Invalid(f'Invalid JSON payload received. Unknown name "{name}"{place}: Cannot find field.')
        known = properties[name]
        if each is None or (options["strict"] and known.get("readOnly")):
            continue
        found[name] = _checked(each, known, at=f"{at}.{name}" if at else name, **options)
    if not options["partial"]:
        for name, known in properties.items():
            if _is_required(known) and not known.get("readOnly") and found.get(name) in (None, "", [], {}):
                raise Invalid(f"{at + '.' if at else ''}{name} is required.")
    return found


def _check_scalar(value: Any, schema: Mapping[str, Any], kind: Any, *, at: str, strict: bool) -> None:
    format_ = schema.get("format")
    if "enum" in schema and strict and value not in schema["enum"]:
        raise Invalid(f"Invalid value at '{at}' (TYPE_ENUM), \"{value}\"")
    if kind == "string" and format_ in ("int64", "uint64"):
        if isinstance(value, bool) or not re.fullmatch(r"-?\d+", str(value)):
            raise Invalid(f"Invalid value at '{at}' (TYPE_INT64), \"{value}\"")
    elif kind == "string":
        if not isinstance(value, str):
            raise Invalid(f"Invalid value at '{at}' (TYPE_STRING), {json.dumps(value)}")
        if format_ == "google-duration" and not re.fullmatch(r"-?\d+(\.\d{1,9})?s", value):
            raise Invalid(f"Invalid value at '{at}' (type.googleapis.com/google.protobuf.Duration), \"{value}\"")
    elif kind == "boolean" and not isinstance(value, bool):
        raise Invalid(f"Invalid value at '{at}' (TYPE_BOOL), {json.dumps(value)}")
    elif kind in ("integer", "number"):
        wanted = _NUMBERS.get(str(format_), int if kind == "integer" else (int, float))
        if isinstance(value, bool) or not isinstance(value, wanted):
            raise Invalid(f"Invalid value at '{at}' (TYPE_{str(format_).upper()}), {json.dumps(value)}")
