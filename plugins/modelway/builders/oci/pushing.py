"""Pushes a built image to its repository, and beside it what was asked for: ModelPack, provenance, signature."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from modelway.builders.base import BuildOptions
from modelway.builders.oci.documents import BuiltDocuments
from modelway.builders.oci.settings import OciSettings
from modelway.oci.blobs import Blob
from modelway.oci.manifest import canonical_json, parse_repository
from modelway.oci.signatures import ENVELOPE, STATEMENT, signed

if TYPE_CHECKING:
    from modelway.oci.referrers import Referrer


def push_documents(
    blobs: Sequence[Blob],
    images: Sequence[tuple[str | None, BuiltDocuments]],
    options: BuildOptions,
    settings: OciSettings,
    *,
    mount_from: str | None,
) -> str:
    """Push the image, then what is made of the same layers, then what refers to it; return the image's reference.

    :param blobs: the layers
    :param images: tags and documents, the image's first
    :param mount_from: another repository of the registry that may have some of the layers
    """
    # httpx is loaded only where a registry is named.
    from modelway.oci.push import push
    from modelway.oci.referrers import attach
    from modelway.oci.registry import RegistryClient

    host, repository = parse_repository(options.repository or "")
    with RegistryClient(
        host=host,
        username=options.username,
        password=options.password,
        insecure=options.insecure or settings.insecure,
        chunk_bytes=settings.chunk_bytes,
    ) as client:
        references: list[str] = []
        for tag, documents in images:
            pushed = push(
                client=client,
                repository=repository,
                manifest=documents.data,
                descriptor=documents.manifest.descriptor,
                blobs=[*blobs, *documents.blobs] if not references else documents.blobs,
                tag=tag,
                mount_from=mount_from,
                parallel=settings.parallel,
            )
            references.append(pushed.reference)
        subject = images[0][1].manifest.descriptor
        for referrer in _referrers(subject.digest, references[0], options):
            attach(client=client, repository=repository, subject=subject, referrer=referrer)
    return references[0]


def _referrers(digest: str, reference: str, options: BuildOptions) -> "Iterable[Referrer]":
    from modelway.oci.referrers import Referrer

    if options.statement is None:
        return
    name, hexdigits = reference.partition("@")[0], digest.removeprefix("sha256:")
    subject: dict[str, Any] = {"name": name, "digest": {"sha256": hexdigits}}
    statement = canonical_json({**options.statement, "subject": [subject]})
    kind = {"predicateType": str(options.statement.get("predicateType", ""))}
    if options.signing_key is None:
        yield Referrer(artifact_type=STATEMENT, data=statement, annotations=kind)
    else:
        yield Referrer(artifact_type=ENVELOPE, data=signed(statement, key=options.signing_key), annotations=kind)
