"""References in a spec to secret values of a job."""

import re
from typing import Annotated, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, WithJsonSchema, model_validator

from modelway.fields.allowed import check_secret
from modelway.fields.refusal import Refusal, shown
from modelway.fields.section import Section

_FIELD = r"^(login|password|host|port|schema|extra\.[^\s.]+)$"


def _field(value: str) -> str:
    if not re.fullmatch(_FIELD, value):
        known = ("login", "password", "host", "port", "schema", "extra.<key>")
        raise Refusal(f"{shown(value)} is no field of a connection", known=known, given=value)
    return value


ConnectionField = Annotated[str, AfterValidator(_field), WithJsonSchema({"type": "string", "pattern": _FIELD})]
SecretName = Annotated[str, Field(min_length=1, max_length=250), AfterValidator(check_secret)]


class SecretReference(Section):
    """A value that the worker reads when it starts the job: from an Airflow connection or variable."""

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
