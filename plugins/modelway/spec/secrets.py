"""Values that a job gets and nobody else sees: references to them, and texts in a spec that look like one."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, WithJsonSchema, model_validator

from modelway.spec.allowed import check_secret
from modelway.spec.problems import KeyPath, Refusal, shown
from modelway.spec.section import Section

_FIELD = r"^(login|password|host|port|schema|extra\.[^\s.]+)$"
#: words of a variable's name, of which its value is a secret
_NAMES = re.compile(
    r"(^|_)(PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|CREDENTIALS?|API_?KEY|ACCESS_?KEY|SECRET_?KEY|PRIVATE_?KEY)$",
    re.IGNORECASE,
)
#: what several services and tools begin their keys with, private keys, and the login of a URL
_VALUES = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|\b(AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|\bgh[pousr]_[A-Za-z0-9]{30,}|\bgithub_pat_\w{30,}|\bglpat-[\w-]{20,}"
    r"|\bxox[abprs]-[\w-]{10,}|\bhf_[A-Za-z0-9]{30,}|\bsk-[\w-]{20,}|\bAIza[\w-]{35}"
    r"|\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\."
    r"|://[^\s/:@]*:[^\s/@]+@"
)


def _field(value: str) -> str:
    if not re.fullmatch(_FIELD, value):
        known = ("login", "password", "host", "port", "schema", "extra.<key>")
        raise Refusal(f"{shown(value)} is no field of a connection", known=known, given=value)
    return value


ConnectionField = Annotated[str, AfterValidator(_field), WithJsonSchema({"type": "string", "pattern": _FIELD})]
SecretName = Annotated[str, Field(min_length=1, max_length=250), AfterValidator(check_secret)]


class SecretReference(Section):
    """A value that the worker reads when it starts the job: of an Airflow connection, or a variable."""

    connection: SecretName | None = Field(default=None, description="The connection's id")
    field: ConnectionField = Field(
        default="password", description="Of the connection: login, password, host, port, schema or extra.<key>"
    )
    variable: SecretName | None = Field(default=None, description="The variable's key")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.connection is None) == (self.variable is None):
            raise Refusal("needs connection or variable", do="Write one of them")
        if self.variable is not None and self.field != "password":
            raise Refusal("a variable has no fields", at=("field",), do="Remove field")
        return self


#: a text as it is, or a reference
SecretValue = Annotated[
    Annotated[str, Tag("[text]")] | Annotated[SecretReference, Tag("[section]")],
    Discriminator(lambda value: "[section]" if isinstance(value, dict | SecretReference) else "[text]"),
]

_HINTS = {
    "docker": "Write {connection: id, field: password} or {variable: key}",
    "kubernetes": "Write {secret: name, key: key}",
}
_ELSEWHERE = "Keep it in a connection or variable of Airflow, and give it to the job by docker.env or kubernetes.env"


def plain_secrets(data: Mapping[str, Any]) -> Iterator[tuple[KeyPath, Refusal]]:
    """Find the texts in a spec's values, valid or not, that look like a secret; what they say is not repeated."""
    for path, text in _texts(data, ()):
        of_environment = len(path) == 3 and path[0] in _HINTS and path[1] == "env"
        by_name = of_environment and text.strip() and _NAMES.search(str(path[-1]))
        if by_name or _VALUES.search(text):
            do = _HINTS[str(path[0])] if of_environment else _ELSEWHERE
            yield path, Refusal("the text looks like a secret, which everybody who sees the spec can read", do=do)


def _texts(value: object, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    if isinstance(value, str):
        yield path, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _texts(item, (*path, key))
