"""The kinds of values of the spec's own sections: names, members of ports, images, gates."""

import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema

from modelway.fields.refusal import Refusal, shown
from modelway.fields.values import Text
from modelway.names import NAME_PATTERN
from modelway.ports import PORTS, known
from modelway.spec.gates import Gate, VersionGate, parse_any_gate, parse_gate

# A repository as the OCI distribution specification has it, behind an optional registry host; no tag, no digest.
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::\d{1,5})?/)?"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_HOST}{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_BASE = re.compile(
    rf"(?:oci-layout:/\S+|{_HOST[:-1]}{_COMPONENT}(?:/{_COMPONENT})*)@sha256:[0-9a-f]{{64}}",
    re.ASCII,
)


def _name(value: str) -> str:
    if not re.fullmatch(NAME_PATTERN, value):
        do = "Use lower-case letters, digits and '-' inside, at most 40 characters"
        raise Refusal(f"{shown(value)} is not a usable name", do=do)
    return value


def _member_of(port: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if value not in known(port):
            raise Refusal(f"{shown(value)} is not {PORTS[port]}", known=known(port), given=value)
        return value

    return check


def _code(value: str) -> str:
    if value != PurePosixPath(value).name or "\\" in value or value.startswith(".") or not value.endswith(".py"):
        raise Refusal(f"{shown(value)} is not a Python file of the model's folder", do="Name the file alone: model.py")
    return value


def _repository(value: str) -> str:
    if len(value) > 255 or not _REPOSITORY.fullmatch(value):
        do = "Write host/path in lower case, without scheme, tag or digest: registry.example.com/models/digits"
        raise Refusal(f"{shown(value)} is not an image repository", do=do)
    return value


def _base(value: str) -> str:
    if value not in ("scratch", "server") and not _BASE.fullmatch(value):
        do = (
            "Write scratch, server, <host>/<repository>@sha256:<64 hex digits>, "
            "or oci-layout:/<folder>@sha256:<64 hex digits>"
        )
        raise Refusal(f"{shown(value)} does not pin an image by its digest", do=do)
    return value


def _not_empty(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise Refusal("must not be empty")
    return value


Name = Annotated[str, AfterValidator(_name), WithJsonSchema({"type": "string", "pattern": NAME_PATTERN})]
CodeFile = Annotated[str, AfterValidator(_code), WithJsonSchema({"type": "string", "pattern": r"^[^./\\][^/\\]*\.py$"})]
Backend = Annotated[str, AfterValidator(_member_of("backends"))]
Builder = Annotated[str, AfterValidator(_member_of("builders"))]
Target = Annotated[str, AfterValidator(_member_of("endpoints"))]
Repository = Annotated[str, AfterValidator(_repository)]
BaseImage = Annotated[str, AfterValidator(_base)]

# YAML yields lists: a frozen spec has tuples, whose members stay strict.
Command = Annotated[tuple[Text, ...], Field(strict=False), AfterValidator(_not_empty)]
Tags = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=100)], ...], Field(strict=False)]

GateText = Annotated[
    Gate,
    BeforeValidator(parse_gate),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "examples": [">= 0.9"]}),
]
AnyGateText = Annotated[
    Gate | VersionGate,
    BeforeValidator(parse_any_gate),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "examples": [">= 0.9", ">= champion - 0.005"]}),
]
