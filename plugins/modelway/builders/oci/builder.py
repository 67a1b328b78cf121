"""Builds an image without a daemon: a base and one uncompressed tar layer per given layer.

The bytes are streamed from the files into the registry, and into an image layout where one is named; nothing is stored
on the way. The same files, name, annotations and base give the same digest on any machine.
"""

import hashlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fnmatch import fnmatchcase

from modelway.builders.base import BuildOptions, BuiltImage, Layer
from modelway.builders.oci.base_image import Base, open_base
from modelway.builders.oci.documents import BuiltDocuments, image_documents
from modelway.builders.oci.known_layers import KnownLayers
from modelway.builders.oci.layer_tar import LayerTar
from modelway.builders.oci.modelpack import modelpack_documents
from modelway.builders.oci.pushing import push_documents
from modelway.builders.oci.settings import OciSettings
from modelway.errors import DigestMismatch, ImageInvalid, NotWritable
from modelway.oci.blobs import Blob
from modelway.oci.layout import OciLayout
from modelway.oci.manifest import LAYER_TAR, Descriptor, check_tag, parse_repository
from modelway.oci.summary import PATH

_log = logging.getLogger(__name__)
#: layers that are read and hashed at a time
_READERS = 2


def build(*, layers: Sequence[Layer], base: str, options: BuildOptions) -> BuiltImage:
    """Write the image to the layout folder, push it to the repository, or both; see ``Builder.build``.

    :param base: ``scratch``, ``oci-layout:<folder>@sha256:…`` or ``<host>/<repository>@sha256:…``
    """
    settings = OciSettings.of(options.platform)
    tars = [LayerTar(layer) for layer in _ordered(layers, settings.order)]
    if options.repository:
        parse_repository(options.repository)
    if options.tag:
        check_tag(options.tag)
    if options.layout is None and not options.repository:
        raise NotWritable("neither a layout folder nor a repository is named", do="Name one of them")
    known = KnownLayers(options.known_layers)
    with open_base(base, options, insecure=options.insecure or settings.insecure) as below:
        layout = OciLayout(options.layout) if options.layout is not None else None
        own = _write_layers(tars, known, layout) if layout else _hash_layers(tars, known)
        documents = image_documents(base=below.image if below else None, own=own, options=options)
        if layout:
            _write_rest(layout, documents, below, options)
            reference = layout.reference(documents.manifest.descriptor.digest)
        if options.repository:
            blobs = [*(below.blobs if below else ()), *_blobs(tars, own)]
            images = [(options.tag, documents)]
            if settings.modelpack:
                tag = f"{options.tag}-modelpack" if options.tag else None
                images.append((tag, modelpack_documents(own, [tar.path for tar in tars], options)))
            with _found_changes(tars, own, known):
                mount_from = below.mount_from if below else None
                reference = push_documents(blobs, images, options, settings, mount_from=mount_from)
    return BuiltImage(
        digest=documents.manifest.descriptor.digest,
        reference=reference,
        tag=options.tag,
        size=documents.size,
        layers=documents.layers,
    )


def _ordered(layers: Sequence[Layer], patterns: Sequence[str]) -> list[Layer]:
    """Return the layers with those of the declared files first; the others stay in their order."""

    def place(layer: Layer) -> int:
        names = [file.path_in_image for file in layer.files]
        matches = (
            number
            for number, pattern in enumerate(patterns)
            if len(names) == 1 and (fnmatchcase(names[0], pattern) or fnmatchcase(names[0], f"*/{pattern}"))
        )
        return next(matches, len(patterns))

    return sorted(layers, key=place)


def _hash_layers(tars: Sequence[LayerTar], known: KnownLayers, *, given: bool = True) -> list[Descriptor]:
    """Return the descriptors of the layers; of those that are not known, all files are read and checked.

    :param given: trust the digests that were computed before
    """

    def descriptor(tar: LayerTar) -> Descriptor:
        digest = known.find(tar.identity, size=tar.size) or (tar.given_digest if given else None)
        if digest is None:
            hasher = hashlib.sha256()
            for piece in tar.checked_pieces():
                hasher.update(piece)
            digest = f"sha256:{hasher.hexdigest()}"
            known.add(tar.identity, digest=digest, size=tar.size)
        return _descriptor(tar, digest)

    with ThreadPoolExecutor(max_workers=_READERS, thread_name_prefix="hash") as pool:
        return list(pool.map(descriptor, tars))


def _write_layers(tars: Sequence[LayerTar], known: KnownLayers, layout: OciLayout) -> list[Descriptor]:
    """Write the layers that the layout lacks, in one pass over their files, and return all descriptors."""
    layout.create()
    own = []
    for tar in tars:
        digest = known.find(tar.identity, size=tar.size) or tar.given_digest
        if digest is None or not layout.holds(digest=digest, size=tar.size):
            digest = _written(tar, digest, layout)
            known.add(tar.identity, digest=digest, size=tar.size)
        own.append(_descriptor(tar, digest))
    return own


def _written(tar: LayerTar, digest: str | None, layout: OciLayout) -> str:
    """Write a layer and return its digest: it is compared with a known one, else each file with its own."""
    if digest is not None:
        try:
            return layout.write_blob(tar.pieces(), media_type=LAYER_TAR, expected=digest).digest
        except DigestMismatch:
            _log.warning("A layer is not %s: its files are compared, and it is written again.", digest)
    return layout.write_blob(tar.checked_pieces(), media_type=LAYER_TAR).digest


def _descriptor(tar: LayerTar, digest: str) -> Descriptor:
    annotations = {PATH: tar.path} if tar.path else {}
    return Descriptor(media_type=LAYER_TAR, digest=digest, size=tar.size, annotations=annotations)


def _blobs(tars: Sequence[LayerTar], own: Sequence[Descriptor]) -> Iterable[Blob]:
    return (
        Blob(descriptor=layer, pieces=tar.pieces, parts=tar.local_parts()) for tar, layer in zip(tars, own, strict=True)
    )


def _write_rest(layout: OciLayout, documents: BuiltDocuments, below: Base | None, options: BuildOptions) -> None:
    """Write the base's layers, the config and the manifest, and list the image in the layout."""
    for blob in (*(below.blobs if below else ()), *documents.blobs, documents.manifest):
        layout.add_blob(blob)
    tag = f"{options.name}:{options.tag}" if options.tag else None
    layout.add_manifest(documents.manifest.descriptor, tag=tag)


@contextmanager
def _found_changes(tars: Sequence[LayerTar], own: Sequence[Descriptor], known: KnownLayers) -> Iterator[None]:
    """Find out why a registry got other bytes than a digest names.

    :raises DigestMismatch: a file changed after its layer was hashed
    :raises ImageInvalid: a recorded digest was wrong, or the bytes changed on their way
    """
    try:
        yield
    except ImageInvalid as error:
        for tar in tars:
            tar.check()
            known.remove(tar.identity)
        # What is recorded now is found before what was given.
        if list(own) == _hash_layers(tars, known, given=False):
            raise
        what = "the recorded digest of a layer was wrong, and is removed"
        raise ImageInvalid(what, do="Build the image again") from error
