"""An image of a layout folder on an engine: sent as the archive that ``docker load`` reads, without any registry."""

import json
import tarfile
from collections.abc import Iterator
from typing import BinaryIO

from modelway.artifacts.whole_files import blocks
from modelway.errors import ImageInvalid
from modelway.oci.layout import OciLayout
from modelway.oci.manifest import Descriptor, LayoutReference, read_document, read_image
from modelway.platforms.docker.engine import Engine, translate_errors

#: the repository of loaded images; nothing is pushed there
REPOSITORY = "modelway.local/model"


def loaded_name(reference: LayoutReference) -> str:
    """Return the name that an image has on the engine once it is loaded."""
    return f"{REPOSITORY}:{reference.digest.removeprefix('sha256:')}"


def load_missing(engine: Engine, reference: LayoutReference) -> str:
    """Load an image that the engine lacks, and return its name there.

    :raises ImageInvalid: it is damaged
    :raises SubmitFailed: the engine refused it or does not answer
    """
    name = loaded_name(reference)
    if engine.find_image(name) is None:
        with translate_errors():
            printed = [str(line.get("stream") or line.get("error") or "") for line in _load(engine, reference, name)]
        if engine.find_image(name) is None:
            raise ImageInvalid(
                f"the engine could not load it: {' '.join(printed).strip()[:500]}",
                where=str(reference),
                do="Build the image again",
            )
    return name


def _load(engine: Engine, reference: LayoutReference, name: str) -> Iterator[dict[str, object]]:
    yield from engine.api.load_image(_archive(OciLayout(reference.root), reference.digest, name)) or ()


def _archive(layout: OciLayout, digest: str, name: str) -> Iterator[bytes]:
    """Yield the archive of an image: its layers as they are, its config, and which is which."""
    image = read_image(layout, digest)
    manifest = read_document(layout.read_manifest(image.digest), where=layout.where)
    config = Descriptor.from_dict(manifest["config"], where=layout.where)
    own = f"{_hex(config)}.json"
    layers = [_hex(layer) for layer in image.layers]
    index = json.dumps([{"Config": own, "RepoTags": [name], "Layers": layers}]).encode()
    yield _header("manifest.json", len(index)) + _padded(index)
    yield _header(own, config.size) + _padded(layout.read_blob(config))
    for layer in {_hex(each): each for each in image.layers}.values():
        yield _header(_hex(layer), layer.size)
        with layout.open_blob(layer) as blob:
            yield from _exactly(blob, layer, layout.where)
        yield _padding(layer.size)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _exactly(blob: BinaryIO, layer: Descriptor, where: str) -> Iterator[bytes]:
    size = 0
    for block in blocks(blob, most=layer.size):
        size += len(block)
        yield block
    if size != layer.size:
        raise ImageInvalid(f"the layer {layer.digest} has {size} bytes of {layer.size}", where=where)


def _hex(descriptor: Descriptor) -> str:
    return descriptor.digest.removeprefix("sha256:")


def _header(name: str, size: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size = size
    return entry.tobuf(format=tarfile.GNU_FORMAT)


def _padded(data: bytes) -> bytes:
    return data + _padding(len(data))


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)
