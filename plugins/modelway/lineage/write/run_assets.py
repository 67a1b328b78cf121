"""The assets that the pipeline writes by itself: a model's versions, and the code that they came from."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from modelway.lineage.records.assets import AssetFile
from modelway.lineage.records.version import VersionRecord
from modelway.lineage.schema.asset_tables import asset_files, asset_references, asset_versions, assets, removed_files
from modelway.lineage.schema.engine import in_one_trip
from modelway.lineage.schema.tables import versions
from modelway.lineage.write.assets import version_digest
from modelway.lineage.write.bulk_insert import insert_new, insert_rows

#: the names of the references of a model's asset, and the files' paths
CODE, BASE = "code", "base"
CODE_PATH, MODEL_PATH = "code.zip", "model.zip"
_IS_NAMED = assets.c.name.in_((bindparam("one"), bindparam("other")))
_LOCKED = select(assets).where(_IS_NAMED).order_by(assets.c.name).with_for_update()
_NEW_VERSION = insert(asset_versions).returning(asset_versions.c.id)
_RESTORED = delete(removed_files).where(removed_files.c.uri == bindparam("of_uri"))
_SET_LATEST = update(assets).where(assets.c.id == bindparam("of_asset")).values(latest=bindparam("number"))


def assets_of(record: VersionRecord) -> dict[str, AssetFile]:
    """Return the file of each asset of a version, by the asset's name."""
    run = record.run
    stored = {
        record.model: AssetFile(
            path=MODEL_PATH, digest=record.archive_digest, size=record.archive_size, uri=record.archive_uri
        )
    }
    if run.code_uri and run.code_digest and run.code_size is not None:
        code = AssetFile(path=CODE_PATH, digest=run.code_digest, size=run.code_size, uri=run.code_uri)
        stored[f"{record.model}.code"] = code
    return stored


def write_run_assets(
    connection: Connection,
    record: VersionRecord,
    stored: Mapping[str, AssetFile],
    *,
    keys: Mapping[str, int],
    number: int,
) -> None:
    """Write the assets of a version that the caller's transaction has just written, with their files.

    ``<model>.code`` has the code package; the same code again is no new version of it. ``<model>`` has the archive
    and refers to the code and to the version that training began from; each version of the model has its own.

    :param stored: see ``assets_of``
    :param keys: the keys of ``model`` and ``version``
    :param number: of the model's version
    """
    run, code = record.run, f"{record.model}.code"
    found = _locked(connection, sorted(stored), actor=run.actor)
    message = f"{record.model} version {number}"
    writer = _Writer(connection, actor=run.actor, message=message)
    targets: dict[str, tuple[int, str, int]] = {}
    if code in stored:
        targets[CODE] = writer.code(found[code], stored[code])
    if record.base is not None and (base := _base(connection, found[record.model], keys["model"], record.base)):
        targets[BASE] = base
    writer.model(found[record.model], stored[record.model], targets=targets, version=keys["version"])
    uris = [file.uri for file in stored.values()] + [record.checkpoint_uri]
    with in_one_trip(connection):
        writer.write()
        connection.execute(_RESTORED, [{"of_uri": uri} for uri in uris if uri])


def _locked(connection: Connection, names: Sequence[str], *, actor: str) -> dict[str, Any]:
    """Return the assets' locked rows, created if needed; every writer records its files before."""
    both = {"one": names[0], "other": names[-1]}
    found = {row.name: row for row in connection.execute(_LOCKED, both)}
    if len(found) == len(names):
        return found
    more = {"description": "", "latest": 0, "created_at": datetime.now(UTC), "created_by": actor}
    insert_new(connection, assets, [{"name": name, **more} for name in names])
    return {row.name: row for row in connection.execute(_LOCKED, both)}


def _base(connection: Connection, asset: Any, model: int, number: int) -> tuple[int, str, int] | None:
    """Return the asset's version of the model's version that training began from; one from before assets has none."""
    query = select(asset_versions.c.id, asset_versions.c.number).join(
        versions, asset_versions.c.version == versions.c.id
    )
    row = connection.execute(query.where(versions.c.model == model, versions.c.number == number)).first()
    return (row.id, asset.name, row.number) if row else None


class _Writer:
    """The rows of one registration, gathered so that they are few statements."""

    def __init__(self, connection: Connection, *, actor: str, message: str) -> None:
        self._connection = connection
        self._common = {"message": message, "created_at": datetime.now(UTC), "created_by": actor}
        self._latest: list[dict[str, int]] = []
        self._files: list[dict[str, Any]] = []
        self._references: list[dict[str, Any]] = []

    def code(self, asset: Any, file: AssetFile) -> tuple[int, str, int]:
        """Return the version of the code, which may exist already."""
        digest = version_digest([file], {})
        same = select(asset_versions.c.id, asset_versions.c.number).filter_by(asset=asset.id, digest=digest)
        row = self._connection.execute(same.limit(1)).first()
        if row:
            return row.id, asset.name, row.number
        return self._add(asset, file, digest=digest), asset.name, asset.latest + 1

    def model(self, asset: Any, file: AssetFile, *, targets: Mapping[str, tuple[int, str, int]], version: int) -> None:
        """Add the version of the model."""
        digest = version_digest([file], {name: (name_of, number) for name, (_, name_of, number) in targets.items()})
        key = self._add(asset, file, digest=digest, version=version)
        self._references += [
            {"asset_version": key, "name": name, "target": target} for name, (target, _, _) in targets.items()
        ]

    def _add(self, asset: Any, file: AssetFile, *, digest: str, version: int | None = None) -> int:
        self._latest.append({"of_asset": asset.id, "number": asset.latest + 1})
        row = {"asset": asset.id, "number": asset.latest + 1, "digest": digest, "size": file.size, "version": version}
        key: int = self._connection.execute(_NEW_VERSION, row | self._common).scalar_one()
        self._files.append({"asset_version": key, "path": file.path, "digest": file.digest, "uri": file.uri})
        return key

    def write(self) -> None:
        """Write what was gathered."""
        for row in self._latest:
            self._connection.execute(_SET_LATEST, row)
        insert_rows(self._connection, asset_files, self._files)
        insert_rows(self._connection, asset_references, self._references)
