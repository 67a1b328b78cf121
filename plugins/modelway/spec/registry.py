"""What the spec knows of the members of the ports: their names, what backends give, and the sections of their own."""

from collections.abc import Callable, Collection
from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel, Field, create_model

from modelway import ports
from modelway.backends.base import BackendMember
from modelway.errors import CapabilityMissing
from modelway.fields.section import Section

S = TypeVar("S", bound=Section)


def capabilities(backend: str) -> frozenset[str] | None:
    """Return what a backend gives on one machine or another; None where there is no such backend, or it is broken."""
    try:
        return ports.load("backends", backend).capabilities
    except CapabilityMissing:
        return None


@cache
def secret_forms() -> dict[str, str]:
    """Return how the environment of each backend's section refers to a secret, for the backends that have one."""
    members = (ports.load("backends", name) for name in ports.known("backends") if capabilities(name) is not None)
    forms = ((one.name, one.secret_form) for one in members if isinstance(one, BackendMember))
    return {name: form for name, form in forms if form}


def with_sections_of(port: str) -> Callable[[type[S]], type[S]]:
    """Give a section one more section for each member of a port that has its own, under the member's name.

    :raises CapabilityMissing: a member has the name of a key that is there
    """

    def extended(base: type[S]) -> type[S]:
        keys = {field.alias or name for name, field in base.model_fields.items()} | {*dir(base)}
        found = ports.sections(port)
        if taken := sorted(keys.intersection(found)):
            what = f"'{taken[0]}', {ports.PORTS[port]}, has a section, and the spec has a key of that name"
            raise CapabilityMissing(what, do="Call the member otherwise")
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
    """Return what only the member of that name knows: its own section in ``section``, as plain data."""
    own = getattr(section, name, None)
    return own.model_dump(mode="python") if isinstance(own, Section) else {}


def drop_unused(data: dict[str, Any], *, port: str, used: Collection[str]) -> None:
    """Remove the sections of members that are not used and have their defaults from a spec's plain data.

    A spec then means the same, and has the same digest, whatever other members are installed.
    """
    for name, section in ports.sections(port).items():
        if name not in used and data.get(name) == section().model_dump(mode="json", by_alias=True):
            del data[name]


def _first_line(section: type[BaseModel]) -> str:
    return (section.__doc__ or "").partition("\n")[0].removesuffix(".")
