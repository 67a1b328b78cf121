"""The kinds of values that a model spec is made of: names, durations, sizes, gates, references, weights."""

import ipaddress
import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema

from modelway.names import NAME_PATTERN
from modelway.spec.gates import Gate, parse_gate
from modelway.spec.problems import Refusal, shown
from modelway.spec.registry import known_names
from modelway.spec.units import format_duration, format_size, parse_duration, parse_size

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


def _known(room: str, noun: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        known = known_names(room)
        if value not in known:
            raise Refusal(f"{shown(value)} is not {noun}", known=known, given=value)
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
    if value != "scratch" and not _BASE.fullmatch(value):
        do = "Write scratch, <host>/<repository>@sha256:<64 hex digits>, or oci-layout:/<folder>@sha256:<64 hex digits>"
        raise Refusal(f"{shown(value)} does not pin an image by its digest", do=do)
    return value


def _image_path(value: str) -> str:
    if value == "/" or value != str(PurePosixPath(value)) or not value.startswith("/") or ".." in value.split("/"):
        raise Refusal(f"{shown(value)} is not a folder of the image", do="Write an absolute path such as /models")
    return value


def _weights(value: tuple[int, ...]) -> tuple[int, ...]:
    rising = all(0 < step <= 100 for step in value) and list(value) == sorted(set(value))
    if not value or value[-1] != 100 or not rising:
        do = "Write them in rising order, from 1" if value and value[-1] == 100 else "End with 100"
        raise Refusal(f"weights must rise to 100, got {shown(value)}", do=do)
    return value


def _host(value: str) -> str:
    try:
        ipaddress.ip_address(value)
        return value
    except ValueError:
        is_name = len(value) <= 253 and re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", value)
    if not is_name:
        raise Refusal(f"{shown(value)} is not a host", do="Write an address or name of this machine, such as 127.0.0.1")
    return value


def _not_empty(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise Refusal("must not be empty")
    return value


Text = Annotated[str, Field(min_length=1)]
Name = Annotated[str, AfterValidator(_name), WithJsonSchema({"type": "string", "pattern": NAME_PATTERN})]
CodeFile = Annotated[str, AfterValidator(_code), WithJsonSchema({"type": "string", "pattern": r"^[^./\\][^/\\]*\.py$"})]
Backend = Annotated[str, AfterValidator(_known("backends", "a backend"))]
Builder = Annotated[str, AfterValidator(_known("builders", "a builder"))]
Target = Annotated[str, AfterValidator(_known("endpoints", "an endpoint target"))]
Repository = Annotated[str, AfterValidator(_repository)]
BaseImage = Annotated[str, AfterValidator(_base)]
ImagePath = Annotated[str, AfterValidator(_image_path)]
Host = Annotated[str, AfterValidator(_host)]

# YAML gives lists: a tuple is what a frozen spec keeps, the members stay strict.
Command = Annotated[tuple[Text, ...], Field(strict=False), AfterValidator(_not_empty)]
Tags = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=100)], ...], Field(strict=False)]
Steps = Annotated[tuple[int, ...], Field(strict=False), AfterValidator(_weights)]

#: whole seconds, written as text with units
Duration = Annotated[
    int,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": r"^(\d+d)?(\d+h)?(\d+m)?(\d+s)?$", "examples": ["30m", "1h30m"]}),
]
#: bytes, written as text with units
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    PlainSerializer(format_size, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)? ?(B|k|[KMGT]i|[MGT])$", "examples": ["512Mi", "2Gi"]}),
]
GateText = Annotated[
    Gate,
    BeforeValidator(parse_gate),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "examples": [">= 0.9"]}),
]
