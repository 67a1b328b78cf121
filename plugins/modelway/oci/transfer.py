"""Copies images between registries and layouts as they are: every digest stays what it is."""

from modelway.oci.blobs import source_blob
from modelway.oci.layout import OciLayout
from modelway.oci.manifest import INDEX, MANIFEST, Descriptor, ImageSource, read_document
from modelway.oci.push import PushedImage, push
from modelway.oci.referrers import attach, read_referrer, read_referrers
from modelway.oci.registry import RegistryClient
from modelway.oci.sources import RegistryImages


def copy_to_registry(
    *,
    source: ImageSource,
    digest: str,
    client: RegistryClient,
    repository: str,
    tag: str | None,
    mount_from: str | None,
) -> PushedImage:
    """Copy an image, or an index with all of its images, and what refers to it; blobs are streamed.

    :param mount_from: the repository of the source, where it is in the same registry
    :raises ImageInvalid: the source is missing or damaged
    :raises RegistryError: a registry refuses (terminal) or does not answer (retryable)
    """
    data, where = source.read_manifest(digest), f"{source.where}@{digest}"
    manifest = read_document(data, where=where)
    sent = 0
    for entry in manifest.get("manifests") or ():
        listed = Descriptor.from_dict(entry, where=where)
        done = copy_to_registry(
            source=source, digest=listed.digest, client=client, repository=repository, tag=None, mount_from=mount_from
        )
        sent += done.bytes_sent
    blobs = [*(manifest.get("layers") or ()), *([manifest["config"]] if "config" in manifest else [])]
    media_type = str(manifest.get("mediaType") or (INDEX if "manifests" in manifest else MANIFEST))
    descriptor = Descriptor(media_type=media_type, digest=digest, size=len(data))
    pushed = push(
        client=client,
        repository=repository,
        manifest=data,
        descriptor=descriptor,
        blobs=[source_blob(source, Descriptor.from_dict(blob, where=where)) for blob in blobs],
        tag=tag,
        mount_from=mount_from,
    )
    if isinstance(source, RegistryImages):
        for _, name in read_referrers(client=source.client, repository=source.repository, digest=digest):
            referrer = read_referrer(client=source.client, repository=source.repository, digest=name)
            attach(client=client, repository=repository, subject=descriptor, referrer=referrer)
    return PushedImage(reference=pushed.reference, bytes_sent=sent + pushed.bytes_sent)


def copy_to_layout(*, source: ImageSource, digest: str, layout: OciLayout, tag: str | None = None) -> str:
    """Copy an image into a layout folder and return its reference there.

    :raises ImageInvalid: the source is missing or damaged
    :raises NotWritable: the folder cannot be written
    """
    data, where = source.read_manifest(digest), f"{source.where}@{digest}"
    manifest = read_document(data, where=where)
    for entry in manifest.get("manifests") or ():
        copy_to_layout(source=source, digest=Descriptor.from_dict(entry, where=where).digest, layout=layout)
    for blob in [*(manifest.get("layers") or ()), *([manifest["config"]] if "config" in manifest else [])]:
        layout.add_blob(source_blob(source, Descriptor.from_dict(blob, where=where)))
    written = layout.write_blob(data, media_type=str(manifest.get("mediaType") or MANIFEST), expected=digest)
    layout.add_manifest(written, tag=tag)
    return layout.reference(digest)
