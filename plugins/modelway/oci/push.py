"""Pushes a whole image: the blobs that the repository lacks, several at a time, then the manifest, then its tag."""

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial

from modelway.oci.blobs import Blob
from modelway.oci.http import BlobsMissing
from modelway.oci.manifest import Descriptor, RegistryReference
from modelway.oci.registry import RegistryClient

_log = logging.getLogger(__name__)
#: uploads at a time: as many as keep the registry busy
PARALLEL = 4


@dataclass(frozen=True, kw_only=True)
class PushedImage:
    """What a push did: the reference to pull by, and how many bytes of blobs were sent."""

    reference: str
    bytes_sent: int


def push(
    *,
    client: RegistryClient,
    repository: str,
    manifest: bytes,
    descriptor: Descriptor,
    blobs: Sequence[Blob],
    tag: str | None = None,
    mount_from: str | None = None,
    parallel: int = PARALLEL,
) -> PushedImage:
    """Push an image: only blobs that the repository lacks are sent, the manifest last, then the tag.

    A push that was broken off continues with the blobs that are not there yet.

    :param descriptor: the manifest's
    :param mount_from: another repository of the registry that may have some of the blobs
    :raises ImageInvalid: the bytes of a blob are not what its descriptor names
    :raises RegistryError: the registry refuses (terminal) or does not answer (retryable)
    """
    digest, media_type = descriptor.digest, descriptor.media_type
    client.refuse_other_tag(repository=repository, tag=tag, digest=digest)
    sent = _push_blobs(client, repository, blobs, parallel=parallel, mount_from=mount_from)
    put = partial(
        client.push_manifest, repository=repository, manifest=manifest, media_type=media_type, digest=digest, tag=tag
    )
    try:
        put()
    except BlobsMissing as error:
        # Garbage collection may have removed what was there a moment ago.
        _log.warning("%s All of them are sent.", error)
        sent += _push_blobs(client, repository, blobs, parallel=parallel, send_always=True)
        put()
    reference = str(RegistryReference(host=client.host, repository=repository, digest=digest))
    _log.info("Pushed %s, %d bytes of blobs sent.", reference, sent)
    return PushedImage(reference=reference, bytes_sent=sent)


def _push_blobs(
    client: RegistryClient,
    repository: str,
    blobs: Sequence[Blob],
    *,
    parallel: int,
    mount_from: str | None = None,
    send_always: bool = False,
) -> int:
    """Push blobs, several at a time, and return how many bytes were sent; where one fails, the others end."""
    unique = {blob.descriptor.digest: blob for blob in blobs}
    stop = threading.Event()
    push_blob = partial(
        client.push_blob, repository=repository, mount_from=mount_from, send_always=send_always, stop=stop
    )
    with ThreadPoolExecutor(max_workers=parallel, thread_name_prefix="push") as pool:
        uploads = [pool.submit(push_blob, blob=blob) for blob in unique.values()]
        try:
            return sum(upload.result() for upload in as_completed(uploads))
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
