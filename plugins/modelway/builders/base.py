"""The port of image builders: what goes in, what comes out, and how a builder is found by its name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from modelway.ports import Member, load

if TYPE_CHECKING:
    from modelway.artifacts.store import StoredFile

#: the base of an image without one
SCRATCH = "scratch"


@dataclass(frozen=True, kw_only=True)
class LayerFile:
    """One file of a layer: its path in the image, and which bytes it must have.

    The source's mode, owner and times do not reach the image.
    """

    path_in_image: str
    """Such as ``/models/model/model.onnx``."""
    source: "Path | StoredFile"
    size: int
    """In bytes."""
    digest: str
    """``sha256:<hex>`` of the bytes; the builder refuses others."""
    offset: int = 0
    """Where the bytes begin in ``source``, such as in a model archive."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Files that travel together. What changes rarely goes into the first layers, small metadata into the last."""

    files: tuple[LayerFile, ...]
    digest: str | None = None
    """Of the uncompressed layer, where it was computed before: no file is read for it, and the registry compares."""


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """What an image is called and where it goes."""

    name: str
    """The model's name; the image's title and, in the layout, the part of the tag before the colon."""
    layout: Path | None = None
    """The OCI image layout folder to write; without one, a repository must be named."""
    tag: str | None = None
    """For humans, such as ``v3``. A tag that names another image is refused."""
    repository: str | None = None
    """``<host[:port]>/<repository>`` to push to."""
    annotations: Mapping[str, str] = field(default_factory=dict)
    """Part of the image's digest: facts of the model only, no times and no run ids."""
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    insecure: bool = False
    """Speak HTTP with a registry on another machine."""
    known_layers: Path | None = None
    """A folder that remembers the digests of layers, so that what has not changed is not read again."""
    statement: Mapping[str, Any] | None = None
    """Where the image comes from, an in-toto statement without its subject; pushed beside the image."""
    signing_key: Path | None = None
    """A PEM file with an Ed25519 private key that signs the statement."""
    code: Path | None = None
    """The folder of the model's code, for a builder with the capability ``dockerfile``."""
    platform: Mapping[str, Any] = field(default_factory=dict)
    """What only this builder knows: the spec's section ``image.<builder>``, as plain data."""


@dataclass(frozen=True, kw_only=True)
class BuiltImage:
    """An image as endpoints pull it."""

    digest: str
    """The manifest's."""
    reference: str
    """In the registry if it was pushed, else in the layout; pinned by the digest."""
    tag: str | None
    size: int
    """Bytes of all blobs: the manifest, the config and the layers."""
    layers: tuple[str, ...]
    """Digests of the layers, the base's first."""


class Builder(Protocol):
    """Makes images; it can be called again at any time with the same result."""

    def build(self, *, layers: Sequence[Layer], base: str, options: BuildOptions) -> BuiltImage:
        """Make the image of ``base`` with ``layers`` on top and return it.

        :param base: ``scratch``, or a reference pinned by its digest
        :raises DigestMismatch: a source file is not what its digest names
        :raises ImageInvalid: the base is missing or damaged, a path cannot be in an image, or the tag is in use
        :raises NotWritable: the layout folder cannot be written, or neither it nor a repository is named
        :raises RegistryError: the registry refuses (terminal) or does not answer (retryable)
        """


@dataclass(frozen=True, kw_only=True)
class BuilderMember(Member[Builder]):
    """The descriptor of a builder; ``open()`` makes it. Its section stands in the spec as ``image.<name>``.

    ``capabilities`` are of: scratch, push, dockerfile, job (it runs in a job, without the worker's environment).
    """


def load_builder(name: str) -> Builder:
    """Return the builder of that name.

    :raises CapabilityMissing: there is none
    """
    return cast(Builder, load("builders", name).open())
