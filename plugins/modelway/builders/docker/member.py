"""The descriptor of the builder ``docker``."""

from typing import TYPE_CHECKING

from modelway.builders.base import Builder, BuilderMember

if TYPE_CHECKING:
    from modelway.builders.docker.section import DockerSection


def _open() -> Builder:
    from modelway.builders.docker import builder

    return builder


def _section() -> "type[DockerSection]":
    from modelway.builders.docker.section import DockerSection

    return DockerSection


MEMBER = BuilderMember(name="docker", open=_open, capabilities=frozenset({"push", "dockerfile"}), section=_section)
