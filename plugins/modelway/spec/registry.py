"""What the spec knows about the members of the ports: their names, capabilities of backends, and their own sections."""

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel, Field, create_model

from modelway import ports
from modelway.backends.base import BackendMember
from modelway.errors import CapabilityMissing
from modelway.fields.refusal import KeyPath, Refusal
from modelway.fields.section import Section

S = TypeVar("S", bound=Section)


def capabilities(name: str, *, port: str = "backends") -> frozenset[str] | None:
    """Return the capabilities of a member of a port; None where there is no such member, or it cannot be loaded."""
    try:
        return ports.load(port, name).capabilities
    except CapabilityMissing:
        return None


def refused_by_backend(name: str, spec: Mapping[str, Any], section: KeyPath) -> Iterable[tuple[KeyPath, Refusal]]:
    """Return what a backend itself refuses of a section's jobs; nothing where there is no such backend."""
    try:
        member = ports.load("backends", name)
    except CapabilityMissing:
        return ()
    return member.refused(spec, section) if isinstance(member, BackendMember) and member.refused else ()


@cache
def secret_forms() -> dict[str, str]:
    """Return the syntax of a reference to a secret in each backend's section, for the backends that support it."""
    members = (ports.load("backends", name) for name in ports.known("backends") if capabilities(name) is not None)
    forms = ((one.name, one.secret_form) for one in members if isinstance(one, BackendMember))
    return {name: form for name, form in forms if form}


def with_sections_of(port: str) -> Callable[[type[S]], type[S]]:
    """Add to a section the own section of each member of a port, under the member's name.

    :raises CapabilityMissing: a member has the name of an existing key
    """

    def extended(base: type[S]) -> type[S]:
        keys = {field.alias or name for name, field in base.model_fields.items()} | {*dir(base)}
        found = ports.sections(port)
        if duplicates := sorted(keys.intersection(found)):
            what = f"'{duplicates[0]}', {ports.PORTS[port]}, has a section, and the spec has a key of that name"
            raise CapabilityMissing(what, do="Rename the member")
        fields = {
            name: (section, Field(default_factory=section, description=_first_line(section)))
            for name, section in found.items()
        }
        made: type[S] = create_model(  # type: ignore[call-overload]
            base.__name__, __base__=base, __module__=base.__module__, __doc__=base.__doc__, **fields
        )
        return made

    return extended


def platform_of(section: Section, name: str) -> dict[str, object]:
    """Return the settings of one member only: its own section in ``section``, as plain data."""
    own = getattr(section, name, None)
    return own.model_dump(mode="python") if isinstance(own, Section) else {}


def drop_unused(data: dict[str, Any], *, port: str, used: Collection[str]) -> None:
    """Remove the sections of unused members with default values from a spec's plain data.

    The digest of a spec then does not depend on the installed members.
    """
    for name, section in ports.sections(port).items():
        if name not in used and data.get(name) == _defaults(section):
            del data[name]


@cache
def _defaults(section: type[BaseModel]) -> dict[str, Any]:
    """Return the plain data of a section in which nothing is set."""
    return section().model_dump(mode="json", by_alias=True)


def _first_line(section: type[BaseModel]) -> str:
    return (section.__doc__ or "").partition("\n")[0].removesuffix(".")
