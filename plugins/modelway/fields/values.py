"""Kinds of values for the sections of any package: texts, environment names, paths, hosts, durations, sizes."""

import ipaddress
import re
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema

from modelway.fields.refusal import Refusal, shown
from modelway.fields.units import format_duration, format_size, parse_duration, parse_size

_LABEL = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"
_ENVIRONMENT_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"


def _label(value: str) -> str:
    if not re.fullmatch(_LABEL, value):
        do = "Write lower-case letters, digits, '-' and '.' inside"
        raise Refusal(f"{shown(value)} is not a name on Kubernetes", do=do)
    return value


def _environment_name(value: str) -> str:
    if not re.fullmatch(_ENVIRONMENT_NAME, value):
        do = "Write letters, digits and '_', no digit first"
        raise Refusal(f"{shown(value)} cannot name a variable of the environment", do=do)
    return value


def _image_path(value: str) -> str:
    if value == "/" or value != str(PurePosixPath(value)) or not value.startswith("/") or ".." in value.split("/"):
        raise Refusal(f"{shown(value)} is not a folder of the image", do="Write an absolute path such as /models")
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


Text = Annotated[str, Field(min_length=1)]
ImagePath = Annotated[str, AfterValidator(_image_path)]
Host = Annotated[str, AfterValidator(_host)]
#: a DNS label or subdomain (RFC 1123), as Kubernetes names its objects
Label = Annotated[str, AfterValidator(_label), WithJsonSchema({"type": "string", "pattern": _LABEL})]
EnvironmentName = Annotated[
    str, AfterValidator(_environment_name), WithJsonSchema({"type": "string", "pattern": _ENVIRONMENT_NAME})
]


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
