"""Builds an image without a daemon: a base and one uncompressed tar layer per given layer, in an image layout.

The same files, name, annotations and base give the same digest on any machine: entries are sorted, owner 0, mode
0644 and 0755, times 1970-01-01, and no version number is written anywhere.
"""

import hashlib
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

from modelway.artifacts.whole_files import blocks
from modelway.builders.base import BuildOptions, BuiltImage, Layer, LayerFile
from modelway.errors import DigestMismatch, ImageInvalid
from modelway.oci.images import open_source
from modelway.oci.layout import OciLayout
from modelway.oci.manifest import (
    CONFIG,
    DEFAULT_ARCHITECTURE,
    DOCKER_LAYER_GZIP,
    DOCKER_LAYER_TAR,
    LAYER_GZIP,
    LAYER_TAR,
    MANIFEST,
    Descriptor,
    Image,
    RegistryReference,
    canonical_json,
    check_tag,
    parse_reference,
    parse_repository,
    read_image,
)

SCRATCH = "scratch"
_EPOCH = "1970-01-01T00:00:00Z"
_ANNOTATION = "org.opencontainers.image."
_AS_OCI = {DOCKER_LAYER_GZIP: LAYER_GZIP, DOCKER_LAYER_TAR: LAYER_TAR}
_FREEZE = "Run the freeze stage again, and let nothing write to its files"


def build(*, layers: Sequence[Layer], base: str, options: BuildOptions) -> BuiltImage:
    """Write the image to the layout folder, and push it if a repository is named; see ``Builder.build``.

    :param base: ``scratch``, ``oci-layout:<folder>@sha256:…`` or ``<host>/<repository>@sha256:…``
    """
    paths = [_sorted_files(layer) for layer in layers]
    if options.repository:
        parse_repository(options.repository)
    if options.tag:
        check_tag(options.tag)
    layout = OciLayout(options.layout)
    base_image = _copy_base(base, layout, options)
    own = [layout.write_blob(_tar(files), media_type=LAYER_TAR) for files in paths]
    manifest = _manifest(layout, base_image, own, options)
    data = canonical_json(manifest)
    written = layout.write_blob(data, media_type=MANIFEST)
    tag = f"{options.name}:{options.tag}" if options.tag else None
    layout.add_manifest(written, tag=tag)
    blobs = [written.size, manifest["config"]["size"], *(layer["size"] for layer in manifest["layers"])]
    return BuiltImage(
        digest=written.digest,
        reference=_push(layout, written.digest, base, options) or layout.reference(written.digest),
        tag=options.tag,
        size=sum(blobs),
        layers=tuple(layer["digest"] for layer in manifest["layers"]),
    )


def _copy_base(base: str, layout: OciLayout, options: BuildOptions) -> Image | None:
    """Bring the base's layers into the layout and return the base, ``None`` for ``scratch``."""
    if base == SCRATCH:
        return None
    reference = parse_reference(base)
    layout.create()
    # The login belongs to the repository's host and goes nowhere else.
    own_host = isinstance(reference, RegistryReference) and (options.repository or "").startswith(f"{reference.host}/")
    with open_source(
        reference=reference,
        scratch=layout.root,
        username=options.username if own_host else None,
        password=options.password if own_host else None,
        insecure=options.insecure and own_host,
    ) as source:
        image = read_image(source, reference.digest)
        layout.copy_layers(source=source, image=image)
    return image


def _manifest(
    layout: OciLayout, base: Image | None, own: Sequence[Descriptor], options: BuildOptions
) -> dict[str, Any]:
    """Write the config and return the manifest."""
    config: dict[str, Any] = {"os": "linux", "architecture": DEFAULT_ARCHITECTURE, "config": {}}
    annotations = {f"{_ANNOTATION}title": options.name}
    below: list[Descriptor] = []
    diff_ids: list[str] = []
    if base is not None:
        config.update(base.config)
        annotations[f"{_ANNOTATION}base.digest"] = base.digest
        below, diff_ids = list(base.layers), list(base.diff_ids)
    # A base's history would no longer match the layers, and its time is not ours.
    config.pop("history", None)
    config["created"] = _EPOCH
    config["rootfs"] = {"type": "layers", "diff_ids": [*diff_ids, *(layer.digest for layer in own)]}
    written = layout.write_blob(canonical_json(config), media_type=CONFIG)
    return {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": written.to_dict(),
        "layers": [_as_oci(layer) for layer in (*below, *own)],
        "annotations": {**annotations, **options.annotations},
    }


def _as_oci(layer: Descriptor) -> dict[str, Any]:
    return {**layer.to_dict(), "mediaType": _AS_OCI.get(layer.media_type, layer.media_type)}


def _sorted_files(layer: Layer) -> dict[str, LayerFile]:
    """Return the files of a layer by their names in the archive, sorted, folders before what they hold.

    :raises ImageInvalid: a path cannot be in an image, is there twice, or is a file and a folder
    """
    files: dict[str, LayerFile] = {}
    for file in layer.files:
        path = PurePosixPath(file.path_in_image.lstrip("/"))
        bad = not path.parts or ".." in path.parts or "\0" in file.path_in_image or path.name.startswith(".wh.")
        if bad or str(path) in files:
            what = "cannot be in an image" if bad else "is there twice in one layer"
            raise ImageInvalid(f"the path {file.path_in_image!r} {what}", where=str(file.source))
        files[str(path)] = file
    for name in files:
        for folder in PurePosixPath(name).parents:
            if str(folder) in files:
                raise ImageInvalid(f"the path '/{folder}' is a file and a folder", where=str(files[name].source))
    return dict(sorted(files.items(), key=lambda item: PurePosixPath(item[0]).parts))


def _tar(files: dict[str, LayerFile]) -> Iterator[bytes]:
    """Yield the archive of a layer: PAX as Python writes it, which is USTAR unless a name or size needs more."""
    folders: set[str] = set()
    for name, file in files.items():
        for folder in reversed(PurePosixPath(name).parents[:-1]):
            if str(folder) not in folders:
                folders.add(str(folder))
                yield _header(f"{folder}/", mode=0o755, size=0, kind=tarfile.DIRTYPE)
        yield _header(name, mode=0o644, size=file.size, kind=tarfile.REGTYPE)
        yield from _checked(file)
        yield bytes(-file.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _header(name: str, *, mode: int, size: int, kind: bytes) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.size, entry.type = mode, size, kind
    return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _checked(file: LayerFile) -> Iterator[bytes]:
    """Yield the bytes of a source file, which must be the ones its digest names.

    :raises DigestMismatch: they are not
    """
    hasher, size = hashlib.sha256(), 0
    try:
        with file.source.open("rb") as source:
            if file.offset:
                source.seek(file.offset)
            for block in blocks(source, most=file.size if file.offset else None):
                hasher.update(block)
                size += len(block)
                yield block
    except OSError as error:
        what = f"{file.digest} cannot be read ({error.strerror})"
        raise DigestMismatch(what, where=str(file.source), do=_FREEZE) from error
    found = f"sha256:{hasher.hexdigest()}"
    if size != file.size or found != file.digest:
        what = f"found {found}, {size} bytes, instead of {file.digest}, {file.size} bytes"
        raise DigestMismatch(what, where=str(file.source), do=_FREEZE)


def _push(layout: OciLayout, digest: str, base: str, options: BuildOptions) -> str | None:
    """Push the image and return its reference in the registry, ``None`` if no repository is named."""
    if not options.repository:
        return None
    # httpx is loaded only where a registry is named.
    from modelway.oci.registry import RegistryClient, push_image

    host, repository = parse_repository(options.repository)
    below = parse_reference(base) if base != SCRATCH else None
    same_host = isinstance(below, RegistryReference) and below.host == host and below.repository != repository
    with RegistryClient(
        host=host, username=options.username, password=options.password, insecure=options.insecure
    ) as client:
        pushed = push_image(
            client=client,
            layout=layout,
            digest=digest,
            repository=repository,
            tag=options.tag,
            mount_from=below.repository if isinstance(below, RegistryReference) and same_host else None,
        )
    return pushed.reference
