"""Names of things outside of the spec: aliases, versions, image tags, assets, pools, classes of Airflow."""

import keyword
import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, WithJsonSchema

from modelway.fields.refusal import Refusal, shown
from modelway.names import NAME_PATTERN, is_alias

_ALIAS_HINT = "Use lower-case letters, digits, '-', '_' and '.', such as champion; numbers, v3 and latest name versions"
# https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", re.ASCII)
_LONGEST_NUMBER = "9" * 9
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
#: Airflow treats every other spelling as the same URI, but as an asset of another name
_OF_A_MODEL = re.compile(rf"modelway://{NAME_PATTERN.strip('^$')}(/[\w.-]+)*", re.ASCII)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*", re.ASCII)


def _alias(value: str) -> str:
    if not is_alias(value):
        raise Refusal(f"{shown(value)} cannot be an alias", do=_ALIAS_HINT)
    return value


def _version(value: str) -> str:
    if value == "latest" or re.fullmatch(r"v?[1-9]\d{0,8}", value, re.ASCII) or is_alias(value):
        return value
    raise Refusal(f"{shown(value)} is not a version", do="Write a number, v3, latest or an alias such as champion")


def _tag(value: str) -> str:
    hint = "Write letters, digits, '.', '_' and '-' around {version}, such as v{version}"
    if "{version}" not in value:
        raise Refusal(f"{shown(value)} would be the tag of every version: it lacks {{version}}", do=hint)
    filled = value.replace("{version}", _LONGEST_NUMBER)
    if len(filled) > 128:
        raise Refusal(f"the tag has more than {128 - len(_LONGEST_NUMBER)} characters beside the version's number")
    if not _TAG.fullmatch(filled):
        raise Refusal(f"{shown(value)} is not an image tag", do=hint)
    return value


def _pool(value: str) -> str:
    # The width of Airflow's column.
    if len(value) > 256 or value != value.strip() or _CONTROL.search(value):
        raise Refusal(f"{shown(value)} cannot be a pool", do="Write the pool's name as Airflow lists it")
    return value


def _import_path(value: str) -> str:
    parts = value.split(".")
    if len(parts) < 2 or not all(part.isidentifier() and not keyword.iskeyword(part) for part in parts):
        do = "Write its module and name, such as airflow.providers.smtp.notifications.smtp.SmtpNotifier"
        raise Refusal(f"{shown(value)} is not the import path of a class", do=do)
    return value


def _digest(value: str) -> str:
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", value):
        raise Refusal(f"{shown(value)} is not a digest", do="Write sha256: and 64 digits of 0-9 and a-f")
    return value


def _metric(value: str) -> str:
    if len(value) > 250 or value != value.strip() or _CONTROL.search(value):
        raise Refusal(
            f"{shown(value)} cannot be a metric's name", do="Write it as evaluate returns it, such as accuracy"
        )
    return value


def _argument(value: str) -> str:
    if not value.isidentifier() or keyword.iskeyword(value):
        raise Refusal(f"{shown(value)} cannot be the name of an argument", do="Write it as Python has it")
    return value


def check_uri(value: str) -> str:
    """Return the text if it is a URI, without a password in it.

    :raises Refusal: it is not one
    """
    try:
        parts = urlsplit(value)
        has_login = parts.username is not None or parts.password is not None
    except ValueError as error:
        raise Refusal(f"{shown(value)} is not a URI: {str(error).lower()}") from None
    if "://" not in value or not _SCHEME.fullmatch(parts.scheme) or not value.isprintable():
        raise Refusal(f"{shown(value)} is not a URI", do="Write such as s3://bucket/folder")
    if has_login:
        raise Refusal(f"{shown(value)} holds a login", do="Keep it in a Connection or in the environment")
    if parts.scheme != "file" and not parts.netloc:
        raise Refusal(f"{shown(value)} names no bucket or host", do="Write such as s3://bucket/folder")
    return value


def _asset(value: str) -> str:
    # A URI that airflow.sdk.Asset refuses would break the DAG: it is refused here.
    if len(value) > 1500:
        raise Refusal("has more than 1500 characters")
    if value.lower().startswith("airflow:"):
        raise Refusal("assets of the scheme 'airflow' are Airflow's own", do="Write the URI of the data")
    if value.lower().startswith("modelway:") and not _OF_A_MODEL.fullmatch(value):
        raise Refusal(f"{shown(value)} is not an asset of a model", do="Write modelway:// and the model's name")
    if ":" not in value and re.fullmatch(r"[\w./-]+", value, re.ASCII):
        return value
    return check_uri(value)


Alias = Annotated[str, Field(min_length=1), AfterValidator(_alias)]
VersionReference = Annotated[str, Field(min_length=1), AfterValidator(_version)]
Tag = Annotated[
    str,
    Field(min_length=1),
    AfterValidator(_tag),
    WithJsonSchema({"type": "string", "pattern": r"^[\w.{}-]*\{version\}[\w.{}-]*$", "examples": ["v{version}"]}),
]
Pool = Annotated[str, Field(min_length=1), AfterValidator(_pool)]
ImportPath = Annotated[str, Field(min_length=1), AfterValidator(_import_path)]
Digest = Annotated[str, AfterValidator(_digest), WithJsonSchema({"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"})]
Argument = Annotated[str, AfterValidator(_argument)]
Metric = Annotated[str, Field(min_length=1), AfterValidator(_metric)]
Asset = Annotated[str, Field(min_length=1), AfterValidator(_asset)]
