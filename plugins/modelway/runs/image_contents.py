"""What the image of a version is made of: the layers of its files, its annotations, and where it comes from."""

import json
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from modelway.artifacts.archive import Member, Readable, manifest_member, member_offsets, members_digest, read_manifest
from modelway.artifacts.code_package import unpack_code_package
from modelway.artifacts.store import ArtifactStore, StoredFile
from modelway.builders.base import BuildOptions, BuiltImage, Layer, LayerFile, load_builder
from modelway.builders.layer_parts import layer_frame
from modelway.errors import DigestMismatch
from modelway.job.file_marks import digest_of
from modelway.ports import load
from modelway.runs.messages.version import KnownVersion

#: the model's folder in an image, unless a spec names another one
MODEL_PATH = "/models"
#: members of the archive that serving needs; the others describe one run
SERVED = ("model/", "golden/", "outputs/model.yml", "outputs/graph_version.txt")
#: overlay file systems mount about 60 layers; the rest is for the base
MOST_LAYERS = 48
#: a file of weights of at least this size has a layer of its own
OWN_LAYER_BYTES = 1 << 20
#: registries refuse larger blobs, or never finish them
LARGEST_LAYER_BYTES = 2_000_000_000
_AGAIN = "Run the freeze stage again"
_OCI, _OURS = "org.opencontainers.image.", "io.modelway."


def build_version_image(
    version: KnownVersion,
    *,
    archive: Readable,
    store: ArtifactStore,
    base: str,
    path: str,
    builder: str,
    options: BuildOptions,
) -> BuiltImage:
    """Make the image of a registered version with what it says of itself; the same each time.

    :param archive: the version's archive, whose parts are read where they are
    :param store: where its code package is, for a builder that needs it
    :param path: the model's folder in the image
    :param builder: the builder's name
    :raises DigestMismatch: the stored file is not the version's archive, or damaged
    """
    _check_archive(version, archive)
    layers, code = image_layers(archive=archive, path=path), _document(archive, "inputs/git_commit.yml")
    options = replace(
        options,
        annotations={**_annotations(version, code), **options.annotations},
        statement=_provenance(version, code, base=base),
    )
    if "dockerfile" not in load("builders", builder).capabilities:
        return load_builder(builder).build(layers=layers, base=base, options=options)
    with tempfile.TemporaryDirectory() as scratch:
        options = replace(options, code=_unpacked_code(version, code, store, scratch=Path(scratch)))
        return load_builder(builder).build(layers=layers, base=base, options=options)


def _check_archive(version: KnownVersion, archive: Readable) -> None:
    """Refuse another archive than the version's; one on this machine was compared when it was found or copied.

    :raises DigestMismatch: its bytes, or the model in it, have another digest
    """
    if isinstance(archive, StoredFile):
        # Of the manifest alone nothing is recorded: only the whole file says that no member was changed with it.
        with archive.open("rb") as file:
            digest = digest_of(file)
        if digest != version.archive.digest:
            what = f"the stored bytes are {digest}, not {version.archive.digest}"
            raise DigestMismatch(what, where=str(archive), do=_AGAIN)
    # Of the members, whose bytes are compared when they are read, and not the digest that stands beside them.
    found = members_digest(read_manifest(archive).members)
    if version.model_digest and found != version.model_digest:
        what = f"the archive has {found} instead of {version.model_digest}"
        raise DigestMismatch(what, where=str(archive), do=_AGAIN)


def _unpacked_code(version: KnownVersion, code: Mapping[str, Any], store: ArtifactStore, *, scratch: Path) -> Path:
    """Return a folder with the code that the version was trained with."""
    digest = str(code.get("code_digest"))
    package = store.find(digest, model=version.model)
    if package is None:
        raise DigestMismatch("the version's code package is gone", where=digest, do="Restore the artifact store")
    store.fetch(package, to=scratch / "code.zip")
    unpack_code_package(package=scratch / "code.zip", to=scratch / "code")
    return scratch / "code"


def image_layers(*, archive: Readable, path: str) -> list[Layer]:
    """Return the layers of an archive's files, to be read from it in place.

    Each file of weights has a layer of its own, by name, so that one that has not changed never travels again; where
    these would be too many, neighbours share one. All small files are in the last layer: it changes with each version,
    and what is below it stays on the nodes.

    :param path: the model's folder in the image
    :raises DigestMismatch: the file is not a whole archive
    """
    manifest, offsets = read_manifest(archive), member_offsets(archive)
    served = [member for member in manifest.members if member.path.startswith(SERVED)]
    weights = sorted((each for each in served if _is_weights(each.path, each.size)), key=lambda each: each.path)
    # The manifest, too: a server compares its files with it.
    small = [*(each for each in served if not _is_weights(each.path, each.size)), manifest_member(archive)]
    groups = [*_at_most(weights, MOST_LAYERS - 1), small]
    return [_layer(group, offsets, archive, path) for group in groups]


def weights_frame(member: str, size: int) -> tuple[bytes, bytes] | None:
    """Return what surrounds a file of weights in its layer at the path where images have the model by default.

    None for other members. So freezing computes the layer's digest while it writes the file.

    :param size: in bytes
    """
    return layer_frame(f"{MODEL_PATH}/{member}", size=size) if _is_weights(member, size) else None


def _annotations(version: KnownVersion, code: Mapping[str, Any]) -> dict[str, str]:
    """Return what the manifest of a version's image says of it.

    :param code: the archive's ``inputs/git_commit.yml``
    """
    annotations = {
        f"{_OCI}title": version.model,
        f"{_OCI}version": str(version.version),
        f"{_OCI}revision": str(code.get("commit") or ""),
        f"{_OURS}version": f"{version.model}@{version.version}",
        f"{_OURS}model.digest": version.model_digest,
        f"{_OURS}archive.digest": version.archive.digest,
    }
    return {name: value for name, value in annotations.items() if value}


def _provenance(version: KnownVersion, code: Mapping[str, Any], *, base: str) -> dict[str, Any]:
    """Return where a version's image comes from: an in-toto statement with SLSA's provenance, but for its subject.

    It has no time and no machine, so that the image built again has the same.
    """
    name = f"{version.model}@{version.version}"
    materials = [_material(f"modelway:{name}/archive", version.archive.digest)]
    if isinstance(sha := code.get("commit"), str) and sha:
        materials.append({"uri": "git", "digest": {"gitCommit": sha}})
    if isinstance(package := code.get("code_digest"), str):
        materials.append(_material(f"modelway:{name}/code", package))
    if "@" in base:
        materials.append(_material(base.rpartition("@")[0], base.rpartition("@")[2]))
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "https://modelway.io/image/v1",
                "externalParameters": {"model": version.model, "version": version.version, "base": base},
                "resolvedDependencies": materials,
            },
            "runDetails": {"builder": {"id": "https://modelway.io/builders/oci"}},
        },
    }


def _material(uri: str, digest: str) -> dict[str, Any]:
    algorithm, _, value = digest.partition(":")
    return {"uri": uri, "digest": {algorithm: value}}


def _document(archive: Readable, name: str) -> Mapping[str, Any]:
    """Return a JSON document of an archive, empty where it has none of that name."""
    try:
        with archive.open("rb") as file, zipfile.ZipFile(file) as zipped:
            document = json.loads(zipped.read(name)) if name in zipped.namelist() else {}
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise DigestMismatch(f"the member '{name}' is damaged ({error})", where=str(archive), do=_AGAIN) from error
    return document if isinstance(document, dict) else {}


def _is_weights(path: str, size: int) -> bool:
    return path.startswith("model/") and (size >= OWN_LAYER_BYTES or PurePosixPath(path).suffix == ".safetensors")


def _at_most(members: Sequence[Member], most: int) -> list[list[Member]]:
    """Return groups of neighbours, one member each unless these would be more than ``most``.

    Then a group is filled up to the size at which ``most`` of them are enough, and none beyond the largest layer.
    """
    if len(members) <= most:
        return [[member] for member in members]
    fill = min(LARGEST_LAYER_BYTES, 1 + sum(member.size for member in members) * 2 // most)
    groups: list[list[Member]] = [[]]
    for member in members:
        if groups[-1] and sum(each.size for each in groups[-1]) + member.size > fill:
            groups.append([])
        groups[-1].append(member)
    return groups


def _layer(group: Sequence[Member], offsets: Mapping[str, int], archive: Readable, path: str) -> Layer:
    known = group[0].layer if len(group) == 1 and path.rstrip("/") == MODEL_PATH else None
    return Layer(files=tuple(_layer_file(member, offsets, archive, path) for member in group), digest=known)


def _layer_file(member: Member, offsets: Mapping[str, int], archive: Readable, path: str) -> LayerFile:
    if member.path not in offsets:
        raise DigestMismatch(f"the member '{member.path}' is missing", where=str(archive), do=_AGAIN)
    return LayerFile(
        path_in_image=f"{path.rstrip('/')}/{member.path}",
        source=archive,
        offset=offsets[member.path],
        size=member.size,
        digest=f"sha256:{member.sha256}",
    )
