"""Image references, descriptors, manifests and configs, as the OCI image specification 1.1 writes them."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from modelway.errors import ImageInvalid

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER_TAR = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_LAYER_TAR = "application/vnd.docker.image.rootfs.diff.tar"

#: what an image says of its platform when nothing else is known; model files run anywhere
DEFAULT_ARCHITECTURE = "amd64"
#: the specification asks registries to accept manifests up to this size; nothing larger is read into memory
LARGEST_DOCUMENT = 4 * 1024 * 1024

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HOST = re.compile(r"(localhost|[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+|[A-Za-z0-9-]+(?=:)|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?")
_REPOSITORY = re.compile(r"[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_LAYOUT = "oci-layout:"


def is_digest(text: str) -> bool:
    """Return whether ``text`` is ``sha256:<64 hex digits>``, the only form of digest that is used here."""
    return _DIGEST.fullmatch(text) is not None


def bytes_digest(data: bytes) -> str:
    """Return ``sha256:<hex>`` of bytes in memory."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def canonical_json(document: Mapping[str, Any]) -> bytes:
    """Return the one way in which a document is written: sorted keys, no blanks, UTF-8."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@dataclass(frozen=True, kw_only=True)
class Descriptor:
    """What names a blob: its kind, its digest (``sha256:<hex>``) and its size in bytes."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the descriptor as the specification writes it."""
        plain: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        return {**plain, "annotations": dict(self.annotations)} if self.annotations else plain

    @classmethod
    def from_dict(cls, data: Any, *, where: str) -> "Descriptor":
        """Read a descriptor from a document found at ``where``.

        :raises ImageInvalid: a key is missing, or the digest is not a SHA-256
        """
        try:
            media_type, digest, size = str(data["mediaType"]), str(data["digest"]), int(data["size"])
            annotations = {str(key): str(value) for key, value in (data.get("annotations") or {}).items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ImageInvalid("a descriptor lacks mediaType, digest or size", where=where, do=_ANOTHER) from error
        if not is_digest(digest) or size < 0:
            raise ImageInvalid(f"a descriptor names {digest!r} with size {size}", where=where, do=_ANOTHER)
        return cls(media_type=media_type, digest=digest, size=size, annotations=annotations)


_ANOTHER = "Use an image that follows the OCI image specification"


@dataclass(frozen=True, kw_only=True)
class LayoutReference:
    """An image in an image layout folder: ``oci-layout:<absolute folder>@sha256:<manifest digest>``."""

    root: Path
    digest: str

    def __str__(self) -> str:
        return f"{_LAYOUT}{self.root}@{self.digest}"


@dataclass(frozen=True, kw_only=True)
class RegistryReference:
    """An image in a registry: ``<host[:port]>/<repository>@sha256:<manifest digest>``."""

    host: str
    repository: str
    digest: str

    def __str__(self) -> str:
        return f"{self.host}/{self.repository}@{self.digest}"


def parse_reference(text: str) -> LayoutReference | RegistryReference:
    """Read an image reference.

    :raises ImageInvalid: it is no reference, or it is not pinned by a digest
    """
    name, _, digest = text.rpartition("@")
    if not name or not is_digest(digest):
        raise ImageInvalid(
            f"'{_without_login(text)}' does not pin an image by its digest",
            do="Write <host>/<repository>@sha256:<64 hex digits>, or oci-layout:<folder>@sha256:<64 hex digits>; "
            "a tag can be moved to another image",
        )
    if name.startswith(_LAYOUT):
        root = Path(name.removeprefix(_LAYOUT))
        if not root.is_absolute():
            raise ImageInvalid(f"'{text}' names a relative folder", do="Write the layout folder as an absolute path")
        return LayoutReference(root=root, digest=digest)
    host, repository = parse_repository(name)
    return RegistryReference(host=host, repository=repository, digest=digest)


def parse_tagged(text: str) -> tuple[str, str, str | None]:
    """Read ``<host>/<repository>`` or ``<host>/<repository>:<tag>`` and return host, repository and tag.

    :raises ImageInvalid: it is neither
    """
    name, sign, tag = text.rpartition(":")
    if sign and "/" not in tag:
        check_tag(tag)
        return *parse_repository(name), tag
    return *parse_repository(text), None


def parse_repository(text: str) -> tuple[str, str]:
    """Read ``<host[:port]>/<repository>`` and return host and repository.

    :raises ImageInvalid: no host, upper-case letters, a tag, or anything else that registries refuse
    """
    host, _, repository = text.partition("/")
    if _HOST.fullmatch(host) is None or _REPOSITORY.fullmatch(repository) is None:
        raise ImageInvalid(
            f"'{_without_login(text)}' is not a registry's host and a repository",
            do="Write <host[:port]>/<repository> in lower case without a tag or login, such as "
            "registry.example.com/models/digits or docker.io/library/debian",
        )
    return host, repository


def check_tag(tag: str) -> None:
    """Refuse what no registry takes as a tag.

    :raises ImageInvalid: it is no tag
    """
    if _TAG.fullmatch(tag) is None:
        raise ImageInvalid(
            f"'{tag}' is not a tag", do="Write up to 128 letters, digits, '_', '.' and '-', the first a letter or digit"
        )


def _without_login(text: str) -> str:
    return re.sub(r"^[^@]*:[^@]*@(?!sha256:)", "***@", text)


class ImageSource(Protocol):
    """Where an image is read from: a layout folder, or a repository of a registry."""

    @property
    def where(self) -> str:
        """The folder, or host and repository, as it is named in errors."""

    def read_manifest(self, digest: str) -> bytes:
        """Return the bytes of a manifest or index, checked against its digest."""

    def read_blob(self, descriptor: Descriptor) -> bytes:
        """Return the bytes of a small blob, checked against its digest."""

    def open_blob(self, descriptor: Descriptor) -> AbstractContextManager[BinaryIO]:
        """Open a blob for one pass of reading; the reader checks the digest."""


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image's manifest and config, read and checked; ``diff_ids`` are the digests of the unpacked layers."""

    digest: str
    config: Mapping[str, Any]
    layers: tuple[Descriptor, ...]
    diff_ids: tuple[str, ...]


def read_image(source: ImageSource, digest: str, *, architecture: str = DEFAULT_ARCHITECTURE) -> Image:
    """Read and check the manifest and the config of the image ``digest``.

    An index is followed to its manifest for ``linux`` and ``architecture``.

    :raises ImageInvalid: a document is missing, damaged, or not what the OCI image specification describes
    """
    manifest = read_document(source.read_manifest(digest), where=f"{source.where}@{digest}")
    if "manifests" in manifest:
        digest = _for_platform(manifest["manifests"], architecture, where=f"{source.where}@{digest}")
        manifest = read_document(source.read_manifest(digest), where=f"{source.where}@{digest}")
    where = f"{source.where}@{digest}"
    config = read_document(source.read_blob(Descriptor.from_dict(manifest.get("config"), where=where)), where=where)
    layers = manifest.get("layers")
    rootfs = config.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(layers, list) or not isinstance(diff_ids, list) or len(layers) != len(diff_ids):
        raise ImageInvalid("the manifest's layers and the config's diff_ids do not belong together", where=where)
    return Image(
        digest=digest,
        config=config,
        layers=tuple(Descriptor.from_dict(layer, where=where) for layer in layers),
        diff_ids=tuple(str(diff_id) for diff_id in diff_ids),
    )


def read_document(data: bytes, *, where: str) -> dict[str, Any]:
    """Parse a manifest, index or config.

    :raises ImageInvalid: the bytes are not a JSON object
    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ImageInvalid("a manifest or config is not JSON", where=where, do=_ANOTHER) from error
    if not isinstance(document, dict):
        raise ImageInvalid("a manifest or config is not a JSON object", where=where, do=_ANOTHER)
    return document


def media_type_of(manifest: Mapping[str, Any]) -> str:
    """Return the media type of a manifest or an index; the specification lets both leave it out."""
    return str(manifest.get("mediaType") or (INDEX if "manifests" in manifest else MANIFEST))


def check_document(data: bytes, digest: str, *, where: str, do: str) -> bytes:
    """Return ``data`` if it is what ``digest`` names.

    :raises ImageInvalid: it is not
    """
    if bytes_digest(data) != digest:
        raise ImageInvalid(f"the stored bytes are not {digest}: they are damaged", where=where, do=do)
    return data


def _for_platform(manifests: Sequence[Any], architecture: str, *, where: str) -> str:
    platforms: dict[str, str] = {}
    for entry in manifests if isinstance(manifests, list) else ():
        platform = entry.get("platform") if isinstance(entry, dict) else None
        if isinstance(platform, dict):
            name = f"{platform.get('os')}/{platform.get('architecture')}"
            platforms.setdefault(name, Descriptor.from_dict(entry, where=where).digest)
    wanted = f"linux/{architecture}"
    if wanted not in platforms:
        raise ImageInvalid(f"the image has no {wanted}", where=where, known=platforms, do="Pin one platform's manifest")
    return platforms[wanted]
