"""Assets in the lineage: versions that never change, references between them, aliases that move, who has a file.

Every write is one transaction and can be repeated: what exists already is not written again.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from modelway.artifacts.asset_names import check_asset_name, check_asset_path, parse_wanted
from modelway.errors import ModelwayError
from modelway.lineage.read import asset_queries
from modelway.lineage.read.asset_queries import VersionKey
from modelway.lineage.read.batches import batches
from modelway.lineage.read.holders import read_file_holders
from modelway.lineage.records.alias import check_alias
from modelway.lineage.records.assets import (
    AssetDetail,
    AssetFile,
    AssetHistory,
    AssetSummary,
    Holder,
    NewAssetVersion,
    RemovedFile,
    UploadedVersion,
)
from modelway.lineage.schema.asset_tables import (
    asset_alias_history,
    asset_aliases,
    asset_files,
    asset_references,
    asset_versions,
    assets,
    removed_files,
)
from modelway.lineage.schema.engine import reading, writing
from modelway.lineage.schema.part import LineagePart
from modelway.lineage.schema.tables import files
from modelway.lineage.write.bulk_insert import insert_new, insert_rows
from modelway.lineage.write.events import add_event

_LONGEST_TEXT = 10_000


class Assets(LineagePart):
    """Reads and writes of assets; ``NAME``, ``NAME@3`` and ``NAME:alias`` name versions."""

    def add(self, new: NewAssetVersion) -> UploadedVersion:
        """Write a version in one transaction; the same files and references again are the version that has them.

        Numbers have no gaps: the asset's row is locked until the transaction ends.

        :raises ModelwayError: a name, path, digest or alias cannot be used, or it refers to itself
        :raises UnknownAsset: it refers to something that does not exist
        """
        _check(new)
        with writing(self._engine) as connection:
            # Before any asset's row is locked, as registering a model does: else two could wait for each other.
            sizes = {file.digest: file.size for file in sorted(new.files, key=lambda file: file.digest)}
            insert_new(connection, files, [{"digest": digest, "size": size} for digest, size in sizes.items()])
            asset = _locked(connection, new)
            targets = {
                name: asset_queries.find_version(connection, parse_wanted(wanted))
                for name, wanted in new.references.items()
            }
            digest = version_digest(new.files, {name: (to.name, to.number) for name, to in targets.items()})
            same = select(asset_versions.c.id, asset_versions.c.number).filter_by(asset=asset.id, digest=digest)
            found = connection.execute(same.order_by(asset_versions.c.number.desc())).first()
            if found is None:
                key = _write_version(connection, new, asset=asset, digest=digest, targets=targets)
            else:
                key = VersionKey(found.id, asset.id, new.name, found.number)
            forget_removed(connection, [file.uri for file in new.files])
            moved = [
                alias
                for alias in dict.fromkeys(new.aliases)
                if _point(connection, key, alias=alias, actor=new.actor, reason=new.message or "uploaded")
            ]
            return UploadedVersion(name=new.name, number=key.number, is_new=found is None, moved=tuple(moved))

    def set_alias(self, wanted: str, alias: str, *, actor: str = "airflow", reason: str = "") -> bool:
        """Point an alias of an asset at one of its versions and say whether it moved.

        :raises ModelwayError: the alias reads like a version number, or is ``latest``
        :raises UnknownAsset: there is no such version
        """
        check_alias(alias)
        parsed = parse_wanted(wanted)
        with writing(self._engine) as connection:
            connection.execute(select(assets.c.id).where(assets.c.name == parsed.name).with_for_update())
            key = asset_queries.find_version(connection, parsed)
            return _point(connection, key, alias=alias, actor=actor, reason=reason)

    def version(self, wanted: str) -> AssetDetail:
        """Return the whole record of a version.

        :raises UnknownAsset: there is no such asset, version or alias
        """
        with reading(self._engine) as connection:
            found = asset_queries.find_version(connection, parse_wanted(wanted))
            return asset_queries.read_detail(connection, found)

    def with_references(self, wanted: str) -> list[AssetDetail]:
        """Return a version and all that its references lead to, the nearest first, each once.

        :raises UnknownAsset: there is no such asset, version or alias
        """
        with reading(self._engine) as connection:
            found = [asset_queries.find_version(connection, parse_wanted(wanted))]
            # The list grows while it is walked: a target that is new is walked in its turn.
            for key in found:
                found += [each for each in asset_queries.read_targets(connection, key.id) if each not in found]
            return [asset_queries.read_detail(connection, key) for key in found]

    def newest(self) -> list[AssetSummary]:
        """Return the newest version of every asset, by name."""
        with reading(self._engine) as connection:
            found = asset_queries.read_summaries(connection, asset_versions.c.number == assets.c.latest)
            return sorted(found, key=lambda summary: summary.asset)

    def history(self, name: str) -> AssetHistory:
        """Return an asset's versions and the moves of its aliases, newest first.

        :raises UnknownAsset: there is no such asset
        """
        with reading(self._engine) as connection:
            return asset_queries.read_history(connection, check_asset_name(name))

    def find_by_digest(self, digest: str) -> list[Holder]:
        """Return every version of an asset or a model that has a content (``sha256:<hex>``), under any name."""
        with reading(self._engine) as connection:
            return read_file_holders(connection, digest)

    def places(self, digests: Iterable[str]) -> Mapping[str, Sequence[str]]:
        """Return where contents were stored before, by digest."""
        with reading(self._engine) as connection:
            return asset_queries.places_of(connection, digests)

    def removed(self, uris: Collection[str]) -> Mapping[str, RemovedFile]:
        """Return which files garbage collection removed, by URI."""
        with reading(self._engine) as connection:
            return asset_queries.read_removed(connection, uris)


def version_digest(files_of: Iterable[AssetFile], references: Mapping[str, tuple[str, int]]) -> str:
    """Return the digest of a version: the same for the same files under the same paths with the same references."""
    content = [sorted([file.path, file.digest] for file in files_of), sorted([n, *to] for n, to in references.items())]
    return "sha256:" + hashlib.sha256(json.dumps(content).encode()).hexdigest()


def forget_removed(connection: Connection, uris: Collection[str]) -> None:
    """Record that files which garbage collection removed are stored again."""
    for some in batches(uris):
        connection.execute(delete(removed_files).where(removed_files.c.uri.in_(some)))


def _check(new: NewAssetVersion) -> None:
    check_asset_name(new.name)
    paths = {check_asset_path(file.path) for file in new.files}
    if not paths:
        raise ModelwayError(f"asset '{new.name}' has no files", do=f"modelway asset add {new.name} FILE")
    if len(paths) < len(new.files):
        raise ModelwayError(f"asset '{new.name}' has a path twice", do="Give every file its own path")
    for path in paths:
        parents = path.split("/")[:-1]
        if any("/".join(parents[:depth]) in paths for depth in range(1, len(parents) + 1)):
            raise ModelwayError(f"'{path}' is below a path that is a file itself", do="Give every file its own path")
    for alias in new.aliases:
        check_alias(alias)
    for name, wanted in new.references.items():
        check_asset_name(name, what="a reference")
        if parse_wanted(wanted).name == new.name:
            raise ModelwayError(f"asset '{new.name}' cannot refer to itself", do="Refer to another asset")
    if any("\0" in text or len(text) > _LONGEST_TEXT for text in (new.message, new.description or "")):
        raise ModelwayError(f"a message or description has more than {_LONGEST_TEXT:,} characters, or a null")


def _locked(connection: Connection, new: NewAssetVersion) -> Any:
    row = {"name": new.name, "description": "", "latest": 0, "created_at": datetime.now(UTC), "created_by": new.actor}
    insert_new(connection, assets, [row])
    asset = connection.execute(select(assets).where(assets.c.name == new.name).with_for_update()).one()
    if new.description is not None and new.description != asset.description:
        connection.execute(update(assets).where(assets.c.id == asset.id).values(description=new.description))
    return asset


def _write_version(
    connection: Connection, new: NewAssetVersion, *, asset: Any, digest: str, targets: Mapping[str, VersionKey]
) -> VersionKey:
    number, now = int(asset.latest) + 1, datetime.now(UTC)
    connection.execute(update(assets).where(assets.c.id == asset.id).values(latest=number))
    row = {
        "asset": asset.id,
        "number": number,
        "digest": digest,
        "size": sum(file.size for file in new.files),
        "message": new.message,
        "created_at": now,
        "created_by": new.actor,
    }
    key: int = connection.execute(insert(asset_versions).returning(asset_versions.c.id), row).scalar_one()
    file_rows = [
        {"asset_version": key, "path": each.path, "digest": each.digest, "uri": each.uri} for each in new.files
    ]
    insert_rows(connection, asset_files, file_rows)
    if targets:
        rows = [{"asset_version": key, "name": name, "target": target.id} for name, target in targets.items()]
        insert_rows(connection, asset_references, rows)
    detail = {"asset": new.name, "number": number, "files": len(new.files), "size": row["size"]}
    add_event(connection, {}, kind="asset-uploaded", actor=new.actor, run_id=None, detail=detail)
    return VersionKey(key, asset.id, new.name, number)


def _point(connection: Connection, key: VersionKey, *, alias: str, actor: str, reason: str) -> bool:
    """Point an alias at a version and write the move into its history and the events; False if it points there."""
    is_it = (asset_aliases.c.asset == key.asset) & (asset_aliases.c.name == alias)
    if connection.execute(select(asset_aliases.c.asset_version).where(is_it)).scalar() == key.id:
        return False
    row = {"asset": key.asset, "asset_version": key.id, "name": alias}
    insert_new(connection, asset_aliases, [row])
    connection.execute(update(asset_aliases).where(is_it).values(asset_version=key.id))
    detail = {"asset": key.name, "number": key.number, "alias": alias, "reason": reason}
    at = add_event(connection, {}, kind="asset-alias-set", actor=actor, run_id=None, detail=detail)
    connection.execute(insert(asset_alias_history), row | {"at": at, "actor": actor, "reason": reason})
    return True
