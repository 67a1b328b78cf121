"""The descriptor of the builder ``oci``."""

from modelway.builders.base import Builder, BuilderMember


def _open() -> Builder:
    from modelway.builders.oci import builder

    return builder


MEMBER = BuilderMember(name="oci", open=_open, capabilities=frozenset({"scratch", "push"}))
