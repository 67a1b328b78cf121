"""What refers to an image in its repository, such as provenance; a tag lists it where the registry does not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelway.errors import RegistryError
from modelway.oci.blobs import document_blob
from modelway.oci.manifest import (
    INDEX,
    MANIFEST,
    Descriptor,
    bytes_digest,
    canonical_json,
    media_type_of,
    read_document,
)
from modelway.oci.push import push
from modelway.oci.registry import RegistryClient

_NOTHING = b"{}"
_EMPTY = Descriptor(media_type="application/vnd.oci.empty.v1+json", digest=bytes_digest(_NOTHING), size=len(_NOTHING))
#: another writer of the same list of referrers is met so often
_ATTEMPTS = 5


@dataclass(frozen=True, kw_only=True)
class Referrer:
    """A document that refers to an image."""

    artifact_type: str
    data: bytes = field(repr=False)
    annotations: Mapping[str, str] = field(default_factory=dict)


def attach(*, client: RegistryClient, repository: str, subject: Descriptor, referrer: Referrer) -> str:
    """Push a document that refers to ``subject`` and return its manifest's digest; one that is there stays.

    :raises RegistryError: the registry refuses (terminal) or does not answer (retryable)
    """
    payload = Descriptor(media_type=referrer.artifact_type, digest=bytes_digest(referrer.data), size=len(referrer.data))
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": referrer.artifact_type,
        "config": _EMPTY.to_dict(),
        "layers": [payload.to_dict()],
        "subject": Descriptor(media_type=subject.media_type, digest=subject.digest, size=subject.size).to_dict(),
        **({"annotations": dict(referrer.annotations)} if referrer.annotations else {}),
    }
    data = canonical_json(manifest)
    known = Descriptor(media_type=MANIFEST, digest=bytes_digest(data), size=len(data))
    has_list, listed = _listed(client, repository, subject.digest)
    if any(entry.get("digest") == known.digest for entry in listed):
        return known.digest
    blobs = [document_blob(_NOTHING, _EMPTY), document_blob(referrer.data, payload)]
    push(client=client, repository=repository, manifest=data, descriptor=known, blobs=blobs)
    if not has_list:
        _list_by_tag(client, repository, subject.digest, _entry(known, manifest))
    return known.digest


def list_referrer(*, client: RegistryClient, repository: str, subject: str, data: bytes) -> None:
    """List a referrer that was pushed as it is by the tag, where the registry has no list of referrers of its own.

    :param subject: the digest of what it refers to
    :param data: the referrer's manifest
    :raises RegistryError: the registry refuses (terminal) or does not answer (retryable)
    """
    if client.list_referrers(repository=repository, digest=subject) is not None:
        return
    manifest = read_document(data, where=f"{client.host}/{repository}")
    known = Descriptor(media_type=media_type_of(manifest), digest=bytes_digest(data), size=len(data))
    _list_by_tag(client, repository, subject, _entry(known, manifest))


def _entry(known: Descriptor, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return what lists a referrer: its descriptor with its kind and its annotations."""
    kind = manifest.get("artifactType") or (manifest.get("config") or {}).get("mediaType") or ""
    entry: dict[str, Any] = {**known.to_dict(), "artifactType": kind}
    if manifest.get("annotations"):
        entry["annotations"] = manifest["annotations"]
    return entry


def read_referrers(*, client: RegistryClient, repository: str, digest: str) -> list[tuple[str, str]]:
    """Return the kind and the manifest's digest of each referrer of an image, in the registry's order."""
    _, listed = _listed(client, repository, digest)
    return [(str(entry.get("artifactType", "")), str(entry["digest"])) for entry in listed if entry.get("digest")]


def read_referrer(*, client: RegistryClient, repository: str, digest: str) -> Referrer:
    """Return a referrer by its manifest's digest.

    :raises ImageInvalid: it is not what its digest names, or is no referrer
    """
    where = f"{client.host}/{repository}@{digest}"
    manifest = read_document(client.pull_manifest(repository=repository, digest=digest), where=where)
    payload = Descriptor.from_dict(next(iter(manifest.get("layers") or ()), None), where=where)
    data = client.pull_document(repository=repository, descriptor=payload)
    annotations = {str(name): str(value) for name, value in (manifest.get("annotations") or {}).items()}
    return Referrer(artifact_type=str(manifest.get("artifactType", "")), data=data, annotations=annotations)


def _tag(digest: str) -> str:
    return digest.replace(":", "-")


def _listed(client: RegistryClient, repository: str, digest: str) -> tuple[bool, Sequence[dict[str, Any]]]:
    """Return whether the registry lists referrers itself, and the list."""
    data = client.list_referrers(repository=repository, digest=digest)
    has_list = data is not None
    if data is None:
        data = _by_tag(client, repository, digest)
    entries = read_document(data, where=f"{client.host}/{repository}").get("manifests") if data else ()
    return has_list, [entry for entry in entries or () if isinstance(entry, dict)]


def _by_tag(client: RegistryClient, repository: str, digest: str) -> bytes | None:
    index = client.find_manifest(repository=repository, name=_tag(digest))
    return client.pull_manifest(repository=repository, digest=index) if index else None


def _list_by_tag(client: RegistryClient, repository: str, digest: str, entry: dict[str, Any]) -> None:
    """Add an entry to the index under the tag that stands for a list of referrers."""
    for _ in range(_ATTEMPTS):
        data = _by_tag(client, repository, digest)
        before = read_document(data, where=f"{client.host}/{repository}").get("manifests", []) if data else []
        if entry in before:
            return
        index = canonical_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": [*before, entry]})
        client.replace_tag(
            repository=repository, tag=_tag(digest), manifest=index, media_type=INDEX, digest=bytes_digest(index)
        )
        # Whoever wrote at the same time may have replaced the entry: it is read once more.
    after = _by_tag(client, repository, digest)
    if after is None or entry not in read_document(after, where=client.host).get("manifests", []):
        raise RegistryError("other writers replace the list of referrers", where=f"{client.host}/{repository}")
