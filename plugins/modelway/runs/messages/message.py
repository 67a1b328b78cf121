"""The base of all messages: plain JSON in XCom with a format number, checked when it is read."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Self

from modelway.errors import ModelwayError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

#: the format that is written; older messages have no number and the same keys
FORMAT = 1
#: a message as Airflow stores it
Xcom = dict[str, Any]

#: metadata of a field whose key is omitted where the value is None
OMITTED: Mapping[str, bool] = {"omitted": True}


def omitted() -> Any:
    """Return a field that is None by default, and whose key is omitted then."""
    return field(default=None, metadata=OMITTED)


@dataclass(frozen=True, kw_only=True)
class Message:
    """What one task passes to others; unknown keys are ignored when a message is read."""

    former_names: ClassVar[Mapping[str, str]] = {}
    """the keys used before format 1, by the present ones: both are written, and either is read"""

    def to_xcom(self) -> Xcom:
        """Return the message as plain JSON."""
        return {"format": FORMAT, **self._keys()}

    def _keys(self) -> Xcom:
        found: Xcom = plain(self)
        return found | {former: found[name] for name, former in self.former_names.items()}

    @classmethod
    def from_xcom(cls, data: object) -> Self:
        """Read a message.

        :raises ModelwayError: it is another message, lacks a key, or was written by a later version of modelway
        """
        stored = checked_format(data, what=cls.__name__)
        renamed = {name: stored[former] for name, former in cls.former_names.items() if former in stored}
        try:
            return _adapter(cls).validate_python({**renamed, **stored})  # type: ignore[no-any-return, arg-type]
        except ValueError as error:
            raise _refused(cls.__name__, error) from None


def checked_format(data: object, *, what: str) -> Mapping[str, Any]:
    """Return a message as it was stored.

    :raises ModelwayError: it is no message, or was written by a later version of modelway
    """
    if not isinstance(data, Mapping):
        raise ModelwayError(
            f"expected the message {what} of another task, got {type(data).__name__}",
            do="Give the .output of the operator that makes it",
        )
    number = data.get("format", 0)
    if isinstance(number, int) and number > FORMAT:
        raise ModelwayError(
            f"the message {what} has format {number}, this modelway reads up to {FORMAT}",
            do="Upgrade this worker to the modelway of the task that wrote it",
        )
    return data


def plain(value: Any) -> Any:
    """Return a value as plain JSON: dataclasses as mappings, tuples as lists."""
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if is_dataclass(value) and not isinstance(value, type):
        known = ((each, getattr(value, each.name)) for each in fields(value))
        return {each.name: plain(part) for each, part in known if part is not None or each.metadata != OMITTED}
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value


def flat(data: Iterable[Any] | None) -> list[Mapping[str, Any]]:
    """Return mappings out of lists, and of lists of lists as mapped tasks return them, in order."""
    found: list[Mapping[str, Any]] = []
    for each in data or ():
        if isinstance(each, Mapping):
            found.append(each)
        elif each:
            found += flat(each)
    return found


@cache
def _adapter(cls: type) -> "TypeAdapter[Any]":
    from pydantic import TypeAdapter

    return TypeAdapter(cls)


def _refused(name: str, error: ValueError) -> ModelwayError:
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return ModelwayError(f"the message {name} cannot be read: {error}")
    problems = (f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors(include_url=False))
    return ModelwayError(
        f"the message {name} cannot be read ({'; '.join(problems)})",
        do="Give the .output of the operator that makes it",
    )
