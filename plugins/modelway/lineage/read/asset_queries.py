"""Reads of assets: rows to records. Each function works inside the caller's transaction."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Select, literal, select, union_all

from modelway.artifacts.asset_names import WantedVersion
from modelway.errors import UnknownAsset
from modelway.lineage.read.batches import batches
from modelway.lineage.records.assets import (
    AssetAliasChange,
    AssetDetail,
    AssetFile,
    AssetHistory,
    AssetReference,
    AssetSummary,
    RemovedFile,
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
from modelway.lineage.schema.tables import aliases, files, versions

#: the most names that an error lists
_MOST_NAMES = 1_000
_DO_UPLOAD = "An asset appears here when somebody uploads it, or its model is registered"


class VersionKey(NamedTuple):
    """A version of an asset: its own key, its asset's, and its name."""

    id: int
    asset: int
    name: str
    number: int


def find_asset(connection: Connection, name: str) -> Row[Any]:
    """Return the row of an asset.

    :raises UnknownAsset: nothing was ever uploaded under the name
    """
    found = connection.execute(select(assets).where(assets.c.name == name)).first()
    if found is None:
        names = select(assets.c.name).order_by(assets.c.name).limit(_MOST_NAMES)
        known = connection.execute(names).scalars().all()
        raise UnknownAsset(f"there is no asset '{name}'", known=known, given=name, do=_DO_UPLOAD)
    return found


def find_version(connection: Connection, wanted: WantedVersion) -> VersionKey:
    """Return the version that is meant: an alias is the asset's own or, where it has none, its model's.

    :raises UnknownAsset: there is no such asset, or it has no such version or alias
    """
    asset = find_asset(connection, wanted.name)
    query = select(asset_versions.c.id, asset_versions.c.number).where(asset_versions.c.asset == asset.id)
    if wanted.alias is None:
        number = wanted.number or asset.latest
        found = connection.execute(query.where(asset_versions.c.number == number)).first()
    else:
        own = query.join(asset_aliases, asset_aliases.c.asset_version == asset_versions.c.id)
        found = connection.execute(own.where(asset_aliases.c.name == wanted.alias)).first()
        found = found or connection.execute(_of_model(query, wanted.alias)).first()
    if found is None:
        known = [f"1 to {asset.latest}"] if asset.latest else []
        pointers = select(asset_aliases.c.name).where(asset_aliases.c.asset == asset.id)
        known += connection.execute(pointers.order_by(asset_aliases.c.name)).scalars()
        raise UnknownAsset(f"asset '{wanted.name}' has no version '{wanted}'", known=known, given=wanted.alias)
    return VersionKey(found.id, asset.id, wanted.name, found.number)


def _of_model(query: Select[Any], alias: str) -> Select[Any]:
    """Narrow the query to the versions that were written for the model's version of this alias, or number (``v3``)."""
    query = query.join(versions, asset_versions.c.version == versions.c.id).order_by(asset_versions.c.number.desc())
    if re.fullmatch(r"v\d{1,9}", alias):
        return query.where(versions.c.number == int(alias[1:]))
    return query.join(aliases, aliases.c.version == versions.c.id).where(aliases.c.name == alias)


def read_summaries(connection: Connection, which: Any, *, limit: int | None = None) -> list[AssetSummary]:
    """Return versions of assets, newest first."""
    joined = asset_versions.join(assets, asset_versions.c.asset == assets.c.id)
    joined = joined.outerjoin(versions, asset_versions.c.version == versions.c.id)
    query = select(asset_versions, assets.c.name, versions.c.number.label("model_version")).select_from(joined)
    rows = connection.execute(query.where(which).order_by(asset_versions.c.id.desc()).limit(limit)).all()
    pointers: dict[int, list[str]] = defaultdict(list)
    for keys in batches([row.id for row in rows]):
        named = select(asset_aliases.c.asset_version, asset_aliases.c.name).order_by(asset_aliases.c.name)
        for version, alias in connection.execute(named.where(asset_aliases.c.asset_version.in_(keys))):
            pointers[version].append(alias)
    return [
        AssetSummary(
            asset=row.name,
            number=row.number,
            digest=row.digest,
            size=row.size,
            message=row.message,
            created_at=row.created_at,
            created_by=row.created_by,
            aliases=tuple(pointers[row.id]),
            model_version=row.model_version,
        )
        for row in rows
    ]


def read_detail(connection: Connection, found: VersionKey) -> AssetDetail:
    """Return the whole record of a version."""
    of_version = asset_files.c.asset_version == found.id
    stored = select(asset_files.c.path, asset_files.c.digest, files.c.size, asset_files.c.uri).join(files)
    gone = select(removed_files).where(removed_files.c.uri.in_(select(asset_files.c.uri).where(of_version)))
    (summary,) = read_summaries(connection, asset_versions.c.id == found.id)
    return AssetDetail(
        summary=summary,
        description=find_asset(connection, found.name).description,
        files=tuple(AssetFile(**row._mapping) for row in connection.execute(stored.where(of_version).order_by("path"))),
        references=_references(connection, found.id, outward=True),
        referred_by=_references(connection, found.id, outward=False),
        removed=tuple(RemovedFile(**row._mapping) for row in connection.execute(gone.order_by("uri"))),
    )


def _references(connection: Connection, version: int, *, outward: bool) -> tuple[AssetReference, ...]:
    near, far = asset_references.c.asset_version, asset_references.c.target
    near, far = (near, far) if outward else (far, near)
    query = select(asset_references.c.name, assets.c.name.label("asset"), asset_versions.c.number)
    query = query.join(asset_versions, far == asset_versions.c.id).join(assets, asset_versions.c.asset == assets.c.id)
    order = asset_references.c.name if outward else asset_versions.c.id.desc()
    rows = connection.execute(query.where(near == version).order_by(order).limit(_MOST_NAMES))
    return tuple(AssetReference(**row._mapping) for row in rows)


def read_targets(connection: Connection, version: int) -> list[VersionKey]:
    """Return the versions that a version refers to, by the references' names."""
    query = select(asset_versions.c.id, asset_versions.c.asset, assets.c.name, asset_versions.c.number)
    query = query.join(asset_references, asset_references.c.target == asset_versions.c.id)
    query = query.join(assets, asset_versions.c.asset == assets.c.id)
    query = query.where(asset_references.c.asset_version == version).order_by(asset_references.c.name)
    return [VersionKey(*row) for row in connection.execute(query)]


def read_history(connection: Connection, name: str) -> AssetHistory:
    """Return all versions of an asset and all moves of its aliases."""
    asset = find_asset(connection, name)
    moves = select(asset_alias_history, asset_versions.c.number)
    moves = moves.outerjoin(asset_versions, asset_alias_history.c.asset_version == asset_versions.c.id)
    moves = moves.where(asset_alias_history.c.asset == asset.id).order_by(asset_alias_history.c.id.desc())
    return AssetHistory(
        name=asset.name,
        description=asset.description,
        versions=tuple(read_summaries(connection, asset_versions.c.asset == asset.id)),
        moves=tuple(
            AssetAliasChange(alias=row.name, number=row.number, at=row.at, actor=row.actor, reason=row.reason)
            for row in connection.execute(moves)
        ),
    )


def places_of(connection: Connection, digests: Iterable[str]) -> dict[str, list[str]]:
    """Return where contents were stored, by digest, as far as that is recorded."""
    found: dict[str, list[str]] = defaultdict(list)
    for some in batches(sorted(set(digests))):
        recorded = union_all(
            select(asset_files.c.digest, asset_files.c.uri).where(asset_files.c.digest.in_(some)).distinct(),
            select(versions.c.archive_digest, versions.c.archive_uri).where(versions.c.archive_digest.in_(some)),
            select(versions.c.checkpoint_digest, versions.c.checkpoint_uri).where(
                versions.c.checkpoint_digest.in_(some), versions.c.checkpoint_uri != literal("")
            ),
        )
        for digest, uri in connection.execute(recorded):
            if uri not in found[digest]:
                found[digest].append(uri)
    return found


def read_removed(connection: Connection, uris: Collection[str]) -> dict[str, RemovedFile]:
    """Return which of the files garbage collection removed, by URI."""
    found = {}
    for some in batches(uris):
        for row in connection.execute(select(removed_files).where(removed_files.c.uri.in_(some))):
            found[row.uri] = RemovedFile(**row._mapping)
    return found
