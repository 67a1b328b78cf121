"""Images by their reference, in a layout or a registry: opened, and unpacked into a folder."""

import platform
import shutil
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from modelway.artifacts.whole_files import locked, sync_folder, writing
from modelway.errors import RegistryRefused
from modelway.oci.contents import is_unpacked, mark_unpacked
from modelway.oci.layout import OciLayout
from modelway.oci.manifest import (
    ImageSource,
    LayoutReference,
    RegistryReference,
    parse_reference,
    parse_tagged,
    read_image,
)
from modelway.oci.unpack import InPlace, unpack_layers


@contextmanager
def open_source(
    *,
    reference: LayoutReference | RegistryReference,
    username: str | None = None,
    password: str | None = None,
    insecure: bool = False,
) -> Iterator[ImageSource]:
    """Open the layout or repository that a reference names, to read images from it; mirrors are read first.

    :param username: login of the registry; default: that of Docker's own settings, as it is for mirrors
    """
    if isinstance(reference, LayoutReference):
        yield OciLayout(reference.root)
        return
    # httpx is loaded only where a registry is named.
    from modelway.oci.registry import RegistryClient
    from modelway.oci.sources import MirroredImages, RegistryImages, mirrors_of

    with ExitStack() as opened:
        places = []
        for host, repository in mirrors_of(reference.host, reference.repository):
            mirror = opened.enter_context(RegistryClient(host=host, insecure=insecure, attempts=1))
            places.append(RegistryImages(client=mirror, repository=repository))
        client = opened.enter_context(
            RegistryClient(host=reference.host, username=username, password=password, insecure=insecure)
        )
        own = RegistryImages(client=client, repository=reference.repository)
        yield MirroredImages(places=(*places, own)) if places else own


def pinned_reference(
    text: str, *, username: str | None = None, password: str | None = None, insecure: bool = False
) -> LayoutReference | RegistryReference:
    """Read a reference by digest, or one by a tag, whose digest the registry says.

    :raises ImageInvalid: it is no reference
    :raises RegistryError: the registry has no such tag, or does not answer
    """
    if "@" in text or text.startswith("oci-layout:"):
        return parse_reference(text)
    host, repository, tag = parse_tagged(text)
    # httpx is loaded only where a registry is named.
    from modelway.oci.registry import RegistryClient

    with RegistryClient(host=host, username=username, password=password, insecure=insecure) as client:
        digest = client.find_manifest(repository=repository, name=tag or "latest")
    if digest is None:
        raise RegistryRefused(f"there is no tag '{tag or 'latest'}'", where=f"{host}/{repository}")
    return RegistryReference(host=host, repository=repository, digest=digest)


def unpack_image(
    *,
    reference: str,
    into: Path,
    username: str | None = None,
    password: str | None = None,
    insecure: bool = False,
    in_place: InPlace | None = None,
) -> Path:
    """Unpack all layers of an image into the folder ``into/<manifest digest in hex>`` and return that folder.

    The manifest, the config, every layer and every diffID are checked while they are read; the folder appears
    whole or not at all. A finished folder is reused if every file is as it was unpacked.

    :param reference: ``oci-layout:<folder>@sha256:…`` or ``<host>/<repository>@sha256:…``
    :param username: login of the registry, if it requires one
    :param insecure: speak HTTP with a registry on another machine
    :param in_place: which files are not copied out of a layout folder
    :raises ImageInvalid: something is missing or damaged, or a layer's file would land outside the folder
    :raises NotWritable: ``into`` cannot be written
    :raises RegistryError: the registry refuses or does not answer
    """
    parsed = parse_reference(reference)
    hexdigits = parsed.digest.removeprefix("sha256:")
    final = into.absolute() / hexdigits
    with writing(into):
        into.mkdir(parents=True, exist_ok=True)
        with locked(into / f".{hexdigits}.lock"):
            if is_unpacked(final, digest=parsed.digest):
                return final
            with open_source(reference=parsed, username=username, password=password, insecure=insecure) as source:
                _unpack(source, parsed.digest, final, in_place)
    return final


def this_architecture() -> str:
    """Return this machine's architecture, as images name it."""
    return {"aarch64": "arm64", "arm64": "arm64"}.get(platform.machine(), "amd64")


def _unpack(source: ImageSource, digest: str, final: Path, in_place: InPlace | None) -> None:
    """Unpack beside ``final`` and rename.

    The caller holds the lock, so what is beside was left by a killed process.
    """
    for left in final.parent.glob(f".{final.name}.*.part"):
        shutil.rmtree(left, ignore_errors=True)
    image = read_image(source, digest, architecture=this_architecture())
    beside = final.parent / f".{final.name}.{uuid.uuid4().hex}.part"
    beside.mkdir(mode=0o755)
    try:
        unpack_layers(source=source, image=image, root=beside, in_place=in_place)
        mark_unpacked(beside, digest=digest)
        if final.exists():
            # A folder that lost files: its open files stay valid for processes that have them open.
            final.rename(final.parent / f".{final.name}.damaged-{uuid.uuid4().hex}.part")
        beside.rename(final)
        sync_folder(final.parent)
    finally:
        for left in final.parent.glob(f".{final.name}.*.part"):
            shutil.rmtree(left, ignore_errors=True)
