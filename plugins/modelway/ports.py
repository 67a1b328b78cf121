"""The ports and their members: the descriptor of a member, and how members are found and loaded.

A member is a package in the port's folder whose file ``member.py`` has a ``MEMBER``, or an installed package that names
such an object as an entry point of the port's group. Either is cheap to import: clients are imported by ``open``.
"""

import importlib
import importlib.metadata
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from modelway.errors import CapabilityMissing

if TYPE_CHECKING:
    from pydantic import BaseModel

Opened = TypeVar("Opened")

#: port → what one member of it is called
PORTS = {
    "backends": "a backend",
    "builders": "a builder",
    "endpoints": "an endpoint target",
    "exporters": "an exporter",
}
_PACKAGES = {"exporters": "modelway.lineage.exporters"}


@dataclass(frozen=True, kw_only=True)
class Member(Generic[Opened]):
    """The descriptor of a member of a port, as data."""

    name: str
    """The value in YAML: small letters, digits and ``_``."""
    open: Callable[..., Opened]
    """Makes what the port's protocol describes; each port's ``base`` says from which settings."""
    capabilities: frozenset[str] = frozenset()
    """What it can do; each port defines the values."""
    section: "Callable[[], type[BaseModel]] | None" = None
    """Returns the class of the section that the spec has for this member alone; its docstring goes into the docs."""


@cache
def known(port: str) -> tuple[str, ...]:
    """Return the names of a port's members, sorted, without importing them.

    The entry points of installed packages are read once per process.
    """
    return tuple(sorted({*_in_tree(port), *installed(port)}))


@cache
def load(port: str, name: str) -> Member[Any]:
    """Return a member of a port. A package in the port's own folder precedes an installed one of the same name.

    :raises CapabilityMissing: there is none of that name, or it cannot be imported
    """
    if name in _in_tree(port):
        module = f"{_package(port)}.{name}.member"
        return _checked(port, name, lambda: importlib.import_module(module).MEMBER, source=module)
    entry = installed(port).get(name)
    if entry is None:
        raise CapabilityMissing(f"'{name}' is not {PORTS[port]}", known=known(port), given=name)
    return _checked(port, name, entry.load, source=entry.value)


@cache
def sections(port: str) -> "dict[str, type[BaseModel]]":
    """Return the sections of a port's members by the members' names; an installed member that is broken has none."""
    found = {}
    for name in known(port):
        try:
            section = load(port, name).section
            if section is not None:
                found[name] = section()
        except Exception as error:
            # Somebody else's package must not break all models; a spec that uses this member gets the reason.
            if name in _in_tree(port):
                raise
            logging.getLogger(__name__).warning("%s '%s' has no section in specs: %s", PORTS[port], name, error)
    return found


def _package(port: str) -> str:
    return _PACKAGES.get(port, f"modelway.{port}")


def _in_tree(port: str) -> frozenset[str]:
    """Return the members in the port's package, on each folder of its path."""
    folders = importlib.import_module(_package(port)).__path__
    return frozenset(file.parent.name for folder in folders for file in Path(folder).glob("*/member.py"))


@cache
def installed(port: str) -> dict[str, importlib.metadata.EntryPoint]:
    """Return the entry points of the members in installed packages, by name."""
    return {entry.name: entry for entry in _entry_points().select(group=f"modelway.{port}")}


@cache
def _entry_points() -> importlib.metadata.EntryPoints:
    """Return the entry points of all installed packages, whose files are read at each call otherwise."""
    # Python 3.11 returns another type, with the same select().
    return importlib.metadata.entry_points()  # type: ignore[return-value]


def _checked(port: str, name: str, find: Callable[[], object], *, source: str) -> Member[Any]:
    """Return what a member's module has.

    :raises CapabilityMissing: it cannot be imported, or is no descriptor of that name
    """
    try:
        member = find()
    except Exception as error:
        what = f"'{name}', {PORTS[port]}, cannot be loaded ({type(error).__name__}: {error})"
        raise CapabilityMissing(what, where=source, do="Fix or remove the package that provides it") from error
    if not isinstance(member, Member) or member.name != name:
        what = f"'{name}', {PORTS[port]}, is not described by a Member of that name"
        raise CapabilityMissing(what, where=source, do=f"Let it be a modelway.ports.Member with name='{name}'")
    return member
