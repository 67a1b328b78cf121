"""The forms of Google Cloud's names in a spec: what has another form is refused before anything is sent."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated

from annotated_types import GroupedMetadata
from pydantic import AfterValidator, Field, WithJsonSchema

from modelway.fields.refusal import Refusal, shown

_REGION = r"^[a-z]+-[a-z]+\d+$"
_PROJECT = r"^(([a-z0-9.-]+:)?[a-z][-a-z0-9]{4,28}[a-z0-9]|\d{6,19})$"
_ACCOUNT = r"^[^@\s]+@[^@\s]+\.[a-z]+$"
_KEY = r"^projects/[^/\s]+/locations/([^/\s]+)/keyRings/[^/\s]+/cryptoKeys/[^/\s]+$"
_RESERVATION = r"^projects/[^/\s]+/zones/([^/\s]+)-[a-z]/reservations/[^/\s]+$"
_NETWORK = r"^projects/\d+/global/networks/[a-z]([-a-z0-9]{0,61}[a-z0-9])?$"
_ACCELERATOR = r"^[A-Z][A-Z0-9_]*$"
_INSTANCE_ACCELERATOR = r"^[a-z][a-z0-9]*(-[a-z0-9]+)+$"
_LABEL = r"^[a-z][a-z0-9_-]{0,62}$"
_LABEL_VALUE = r"^[a-z0-9_-]{0,63}$"
#: prefixes of the labels by which jobs and endpoints are found again
OWN_LABELS = ("modelway", "managed-by")
MOST_LABELS = 40


@dataclass(frozen=True)
class _Form(GroupedMetadata):
    """The form of a text: what a spec's reader and its JSON schema hold it to."""

    pattern: str
    advice: str
    """what to write, after the word itself"""

    def __iter__(self) -> Iterator[object]:
        """Give pydantic what it knows."""
        yield AfterValidator(self._check)
        yield WithJsonSchema({"type": "string", "pattern": self.pattern})

    def _check(self, value: str) -> str:
        if not re.fullmatch(self.pattern, value):
            raise Refusal(f"{shown(value)} has another form", do=f"Write {self.advice}")
        return value


Region = Annotated[str, _Form(_REGION, "a region such as us-central1")]
Project = Annotated[str, _Form(_PROJECT, "the project's id, such as my-project")]
Account = Annotated[str, _Form(_ACCOUNT, "its e-mail address")]
Key = Annotated[str, _Form(_KEY, "projects/P/locations/R/keyRings/K/cryptoKeys/C")]
Reservation = Annotated[str, _Form(_RESERVATION, "projects/P/zones/Z/reservations/NAME")]
Network = Annotated[str, _Form(_NETWORK, "projects/NUMBER/global/networks/NAME")]
#: as Vertex AI names a model of GPUs; which ones there are grows
Accelerator = Annotated[str, _Form(_ACCELERATOR, "it as Vertex AI does, such as NVIDIA_L4")]
#: as Cloud Run names a model of GPUs
InstanceAccelerator = Annotated[str, _Form(_INSTANCE_ACCELERATOR, "it as Cloud Run does, such as nvidia-l4")]


def _labels(value: Mapping[str, str]) -> Mapping[str, str]:
    for key, text in value.items():
        if not re.fullmatch(_LABEL, key) or not re.fullmatch(_LABEL_VALUE, text):
            raise Refusal("has characters that a label cannot have", at=(key,), do="Use a-z, 0-9, _ and -, at most 63")
        if own := next(filter(key.startswith, OWN_LABELS), ""):
            raise Refusal(f"labels that begin with {own} are modelway's own", at=(key,), do="Rename it")
    return value


Labels = Annotated[Mapping[str, str], Field(max_length=MOST_LABELS), AfterValidator(_labels)]


def check_region_of(*, region: str | None, key: str | None = None, reservation: str | None = None) -> None:
    """Refuse what Vertex AI cannot use in a region.

    :raises Refusal: a Cloud KMS key or a reservation is in another one
    """
    for name, value, pattern in (("kms_key", key, _KEY), ("reservation", reservation, _RESERVATION)):
        found = re.fullmatch(pattern, value or "")
        if region and found and found[1] != region:
            raise Refusal(f"it is in {found[1]}, and the region is {region}", at=(name,), do=f"Name one in {region}")
