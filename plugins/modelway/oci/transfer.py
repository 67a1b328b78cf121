"""Copies images between registries and layouts as they are: every digest stays what it is."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from modelway.oci.blobs import Blob, source_blob
from modelway.oci.layout import OciLayout
from modelway.oci.manifest import Descriptor, ImageSource, media_type_of, read_document
from modelway.oci.push import PARALLEL, PushedImage, push
from modelway.oci.referrers import list_referrer, read_referrers
from modelway.oci.registry import RegistryClient
from modelway.oci.sources import own_repository


def copy_to_registry(
    *,
    source: ImageSource,
    digest: str,
    client: RegistryClient,
    repository: str,
    tag: str | None = None,
    mount_from: str | None = None,
    parallel: int = PARALLEL,
) -> PushedImage:
    """Copy an image, or an index with all of its images, and what refers to it; blobs are streamed.

    :param mount_from: the repository of the source, where it is in the same registry
    :param parallel: uploads at a time
    :raises ImageInvalid: the source is missing or damaged
    :raises RegistryError: a registry refuses (terminal) or does not answer (retryable)
    """
    data, where = source.read_manifest(digest), f"{source.where}@{digest}"
    manifest = read_document(data, where=where)
    others = partial(
        copy_to_registry,
        source=source,
        client=client,
        repository=repository,
        mount_from=mount_from,
        parallel=parallel,
    )
    sent = 0
    for entry in manifest.get("manifests") or ():
        sent += others(digest=Descriptor.from_dict(entry, where=where).digest).bytes_sent
    descriptor = Descriptor(media_type=media_type_of(manifest), digest=digest, size=len(data))
    pushed = push(
        client=client,
        repository=repository,
        manifest=data,
        descriptor=descriptor,
        blobs=_blobs(source, manifest, where=where),
        tag=tag,
        mount_from=mount_from,
        parallel=parallel,
    )
    for name, referrer in _referrers(source, digest):
        # As it is: the signatures of other tools are of these very bytes.
        sent += others(digest=name).bytes_sent
        list_referrer(client=client, repository=repository, subject=digest, data=referrer)
    return PushedImage(reference=pushed.reference, bytes_sent=sent + pushed.bytes_sent)


def _blobs(source: ImageSource, manifest: Mapping[str, Any], *, where: str) -> list[Blob]:
    """Return the blobs that a manifest lists: none where it is an index."""
    listed = [*(manifest.get("layers") or ()), *([manifest["config"]] if "config" in manifest else [])]
    return [source_blob(source, Descriptor.from_dict(entry, where=where)) for entry in listed]


def _referrers(source: ImageSource, digest: str) -> Iterator[tuple[str, bytes]]:
    """Yield the digest and the manifest of each referrer of an image."""
    own = own_repository(source)
    for _, name in read_referrers(client=own.client, repository=own.repository, digest=digest) if own else ():
        data = source.read_manifest(name)
        subject = read_document(data, where=f"{source.where}@{name}").get("subject")
        # A tag may list what does not refer to the image, even the image itself.
        if isinstance(subject, dict) and subject.get("digest") == digest:
            yield name, data


def copy_to_layout(*, source: ImageSource, digest: str, layout: OciLayout, tag: str | None = None) -> str:
    """Copy an image into a layout folder and return its reference there.

    :raises ImageInvalid: the source is missing or damaged
    :raises NotWritable: the folder cannot be written
    """
    data, where = source.read_manifest(digest), f"{source.where}@{digest}"
    manifest = read_document(data, where=where)
    for entry in manifest.get("manifests") or ():
        copy_to_layout(source=source, digest=Descriptor.from_dict(entry, where=where).digest, layout=layout)
    for blob in _blobs(source, manifest, where=where):
        layout.add_blob(blob)
    written = layout.write_blob(data, media_type=media_type_of(manifest), expected=digest)
    layout.add_manifest(written, tag=tag)
    return layout.reference(digest)
