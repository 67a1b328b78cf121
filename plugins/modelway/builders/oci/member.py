"""The descriptor of the builder ``oci``."""

from typing import TYPE_CHECKING

from modelway.builders.base import Builder, BuilderMember

if TYPE_CHECKING:
    from modelway.builders.oci.section import OciSection


def _open() -> Builder:
    from modelway.builders.oci import builder

    return builder


def _section() -> "type[OciSection]":
    from modelway.builders.oci.section import OciSection

    return OciSection


MEMBER = BuilderMember(name="oci", open=_open, capabilities=frozenset({"scratch", "push", "job"}), section=_section)
