"""Layers for a builder, and images made of raw layers as no builder of ours makes them."""

import hashlib
import io
import tarfile

from modelway.artifacts.store import ArtifactStore
from modelway.builders.base import BuildOptions, Layer, LayerFile
from modelway.oci.manifest import CONFIG, LAYER_TAR, MANIFEST, bytes_digest, canonical_json
from modelway.runs.image_contents import build_version_image
from modelway.runs.messages.version import RegisteredVersion


def entry(name, data=b"", **fields):
    """One tar member: a file unless ``type`` says otherwise."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for key, value in fields.items():
        setattr(member, key, value)
    return member, data


def folder(name):
    return entry(name, type=tarfile.DIRTYPE, mode=0o755)


def link(name, target, kind=tarfile.SYMTYPE):
    return entry(name, type=kind, linkname=target)


def tar(*entries):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member, data in entries:
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def make_image(layout, *layers, media_type=LAYER_TAR, pack=lambda data: data, diff_ids=None):
    """Write an image of raw layer archives and return its reference."""
    descriptors = [layout.write_blob(pack(layer), media_type=media_type) for layer in layers]
    config = {
        "os": "linux",
        "architecture": "amd64",
        "rootfs": {"type": "layers", "diff_ids": diff_ids or [bytes_digest(layer) for layer in layers]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": layout.write_blob(canonical_json(config), media_type=CONFIG).to_dict(),
        "layers": [descriptor.to_dict() for descriptor in descriptors],
    }
    written = layout.write_blob(canonical_json(manifest), media_type=MANIFEST)
    layout.add_manifest(written)
    return layout.reference(written.digest)


def image_layers(folder, weights, small):
    """Write files below ``folder`` and return their layers: one for each of the weights, one for what is small."""
    return [
        Layer(files=tuple(_layer_file(folder / "src", name, data) for name, data in group.items()))
        for group in [*({name: data} for name, data in weights.items()), small]
    ]


def _layer_file(folder, name, data):
    path = folder / name.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    return LayerFile(path_in_image=name, source=path, size=len(data), digest=digest)


def built_here(known, layout):
    """Return the digest of the image that a task makes of a version in the lineage."""
    version, store = RegisteredVersion.of(known, blocked_reason=None, requested=False), ArtifactStore("")
    archive, options = store.readable_file(version.archive), BuildOptions(name=version.model, layout=layout)
    image = build_version_image(
        version, archive=archive, store=store, base="scratch", path="/models", builder="oci", options=options
    )
    return image.digest
