"""The image below the model's layers: read from its layout or registry, its layers streamed only where they lack."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from modelway.builders.base import SCRATCH, BuildOptions
from modelway.oci.blobs import Blob, source_blob
from modelway.oci.images import open_source
from modelway.oci.manifest import Image, RegistryReference, parse_reference, parse_repository, read_image


@dataclass(frozen=True, kw_only=True)
class Base:
    """A base image and its layers as blobs."""

    image: Image
    blobs: tuple[Blob, ...]
    mount_from: str | None
    """The repository of the base, where it is another one of the registry that is pushed to."""


@contextmanager
def open_base(base: str, options: BuildOptions, *, insecure: bool) -> Iterator[Base | None]:
    """Open the base, ``None`` for ``scratch``; its layers can be read within the block.

    :param base: ``scratch``, ``oci-layout:<folder>@sha256:…`` or ``<host>/<repository>@sha256:…``
    """
    if base == SCRATCH:
        yield None
        return
    reference = parse_reference(base)
    host, repository = parse_repository(options.repository) if options.repository else ("", "")
    # The login belongs to the repository's host and goes nowhere else.
    own_host = isinstance(reference, RegistryReference) and reference.host == host
    mount_from = None
    if isinstance(reference, RegistryReference) and own_host and reference.repository != repository:
        mount_from = reference.repository
    with open_source(
        reference=reference,
        username=options.username if own_host else None,
        password=options.password if own_host else None,
        insecure=insecure and own_host,
    ) as source:
        image = read_image(source, reference.digest)
        blobs = tuple(source_blob(source, layer) for layer in image.layers)
        yield Base(image=image, blobs=blobs, mount_from=mount_from)
