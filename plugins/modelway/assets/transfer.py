"""Transfers of assets: from a folder into the artifact store and the lineage, and back into a folder.

A transfer that was cut off continues: whole files are not sent again, and a partial one from where it was.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from modelway.artifacts.asset_names import PARTS, check_asset_name, parse_wanted
from modelway.artifacts.store import Artifact, ArtifactStore, file_digest
from modelway.artifacts.whole_files import sweep_partial_files
from modelway.assets.folder import AssetDraft, AssetFolder
from modelway.errors import DigestMismatch, ModelwayError, UnknownAsset
from modelway.lineage.records.assets import AssetDetail, AssetFile, NewAssetVersion, RemovedFile, UploadedVersion
from modelway.lineage.records.readable import time_text
from modelway.lineage.store import Assets

#: where the files of assets are in the artifact store; no model's name starts like this
STORED_AS = "_assets"


@dataclass(frozen=True, kw_only=True)
class Downloaded:
    """A version that is in a folder now, and how many of its files had to be fetched."""

    detail: AssetDetail
    folder: Path
    brought: int


def upload_asset(
    assets: Assets, store: ArtifactStore, folder: AssetFolder, *, actor: str, message: str = ""
) -> UploadedVersion:
    """Store the files of an asset's folder and record them as a version, with references and aliases.

    :raises ModelwayError: a file is not there, is a link, or changed while it was stored
    :raises UnknownAsset: it refers to what was never uploaded
    """
    draft = folder.read()
    # Before anything is sent: an error should not come hours later.
    for name, wanted in draft.references.items():
        check_asset_name(name, what="a reference")
        _check_target(assets, wanted)
    digests = {path: file_digest(folder.file(path)) for path in draft.files}
    places = assets.places(digests.values())
    files = [
        _stored(store, folder.file(path), path=path, digest=digest, places=places.get(digest, ()))
        for path, digest in digests.items()
    ]
    new = NewAssetVersion(
        name=draft.name,
        files=files,
        references=draft.references,
        aliases=draft.aliases,
        message=message,
        description=draft.description or None,
        actor=actor,
    )
    uploaded = assets.add(new)
    folder.write(replace(draft, aliases=(), version=uploaded.number, digests=digests))
    return uploaded


def _check_target(assets: Assets, wanted: str) -> None:
    try:
        assets.version(wanted)
    except UnknownAsset as error:
        name = parse_wanted(wanted).name
        raise UnknownAsset(
            f"it refers to '{wanted}', which is not there: {error.what}",
            known=error.known,
            do=f"Upload that one first: modelway asset upload {name}",
        ) from error


def _stored(store: ArtifactStore, file: Path, *, path: str, digest: str, places: Sequence[str]) -> AssetFile:
    """Return a file where it is stored already, under any name and model, or store it."""
    size = file.stat().st_size
    for uri in places:
        if store.holds(Artifact(uri=uri, digest=digest, size=size)):
            return AssetFile(path=path, digest=digest, size=size, uri=uri)
    artifact = store.put(file, model=STORED_AS, digest=digest)
    return AssetFile(path=path, digest=digest, size=artifact.size, uri=artifact.uri)


def download_asset(
    assets: Assets, store: ArtifactStore, wanted: str, *, to: Path, with_references: bool = False
) -> list[Downloaded]:
    """Fetch a version into the folder of its name below ``to``, the versions it refers to into folders beside it.

    Of two versions of one asset, the second goes into ``NAME@NUMBER``. Files that exist already are not fetched again.

    :raises UnknownAsset: there is no such version
    :raises DigestMismatch: stored bytes are not what they should be, or are gone
    :raises ModelwayError: something else is where a file would go
    """
    found = assets.with_references(wanted) if with_references else [assets.version(wanted)]
    todo: list[tuple[AssetDetail, AssetFolder, list[tuple[AssetFile, Path]]]] = []
    used: set[str] = set()
    for detail in found:
        name = detail.summary.asset
        folder = AssetFolder(to / (f"{name}@{detail.summary.number}" if name in used else name))
        used.add(name)
        _check_unchanged(folder, name)
        free = [(file, folder.free_place(file.path, digest=file.digest)) for file in detail.files]
        todo.append((detail, folder, [(file, place) for file, place in free if place]))
    return [_bring(assets, store, *each) for each in todo]


def _check_unchanged(folder: AssetFolder, name: str) -> None:
    if not folder.is_there:
        return
    draft = folder.read()
    if draft.name != name or set(draft.files) != set(draft.digests) or draft.aliases:
        what = f"holds asset '{draft.name}'" if draft.name != name else "has changes that were never uploaded"
        do = "Upload them, or download to another folder with --to"
        raise ModelwayError(f"the folder {what}", where=str(folder.place), do=do)


def _bring(
    assets: Assets,
    store: ArtifactStore,
    detail: AssetDetail,
    folder: AssetFolder,
    files: Sequence[tuple[AssetFile, Path]],
) -> Downloaded:
    places = assets.places([file.digest for file, _ in files])
    removed = {each.uri: each for each in detail.removed}
    parts = folder.place / PARTS
    for file, place in files:
        artifact = _found(store, file, places=places.get(file.digest, ()))
        if artifact is None:
            raise _gone(detail, file, removed)
        store.fetch(artifact, to=place, parts=parts)
    folder.place.mkdir(parents=True, exist_ok=True)
    folder.write(draft_of(detail))
    if parts.is_dir():
        # What remains belongs to files that are no longer needed here.
        sweep_partial_files(parts)
        with suppress(OSError):
            parts.rmdir()
    return Downloaded(detail=detail, folder=folder.place, brought=len(files))


def _found(store: ArtifactStore, file: AssetFile, *, places: Sequence[str]) -> Artifact | None:
    """Return where a file's content is: where it was stored, or where others stored the same content."""
    for uri in (file.uri, *places):
        if found := store.find(file.digest, model=STORED_AS, uri=uri):
            return Artifact(uri=found.uri, digest=file.digest, size=file.size)
    return None


def _gone(detail: AssetDetail, file: AssetFile, removed: Mapping[str, RemovedFile]) -> DigestMismatch:
    named = f"'{file.path}' of {detail.summary.asset}@{detail.summary.number}"
    do = f"Upload a file with {file.digest} again"
    if gone := removed.get(file.uri):
        when = time_text(gone.at)
        return DigestMismatch(
            f"{named} was removed from the artifact store by {gone.actor} at {when} (modelway gc)", do=do
        )
    return DigestMismatch(f"{named} is gone from the artifact store", where=file.uri, do=do)


def draft_of(detail: AssetDetail) -> AssetDraft:
    """Return the record for the folder of a downloaded version."""
    return AssetDraft(
        name=detail.summary.asset,
        description=detail.description,
        files=[file.path for file in detail.files],
        references={each.name: f"{each.asset}@{each.number}" for each in detail.references},
        version=detail.summary.number,
        digests={file.path: file.digest for file in detail.files},
    )
