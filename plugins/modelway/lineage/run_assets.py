"""The assets that the pipeline writes by itself: a model's versions, and the code that they came from."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from modelway.lineage.asset_record import AssetFile
from modelway.lineage.asset_tables import asset_files, asset_references, asset_versions, assets, removed_files
from modelway.lineage.assets import version_digest
from modelway.lineage.engine import in_one_trip, insert_new
from modelway.lineage.record import VersionRecord
from modelway.lineage.tables import files, versions

#: how a model's asset calls what it refers to, and the files' paths
CODE, BASE = "code", "base"
CODE_PATH, MODEL_PATH = "code.zip", "model.zip"


def write_run_assets(connection: Connection, record: VersionRecord, *, keys: Mapping[str, int], number: int) -> None:
    """Write the assets of a version that the caller's transaction has just written.

    ``<model>.code`` holds the code package; the same code again is no new version of it. ``<model>`` holds the archive
    and refers to the code and to the version that training began from; each version of the model has its own.

    :param keys: the keys of ``model`` and ``version``
    :param number: of the model's version
    """
    run, code = record.run, f"{record.model}.code"
    held = {
        record.model: AssetFile(
            path=MODEL_PATH, digest=record.archive_digest, size=record.archive_size, uri=record.archive_uri
        )
    }
    if run.code_uri and run.code_digest and run.code_size is not None:
        held[code] = AssetFile(path=CODE_PATH, digest=run.code_digest, size=run.code_size, uri=run.code_uri)
    found = _prepare(connection, held, actor=run.actor)
    message = f"{record.model} version {number}"
    writer = _Writer(connection, actor=run.actor, message=message)
    targets: dict[str, tuple[int, str, int]] = {}
    if code in held:
        targets[CODE] = writer.code(found[code], held[code])
    if record.base is not None and (base := _base(connection, found[record.model], keys["model"], record.base)):
        targets[BASE] = base
    writer.model(found[record.model], held[record.model], targets=targets, version=keys["version"])
    uris = [file.uri for file in held.values()] + [record.checkpoint_uri]
    with in_one_trip(connection):
        writer.write()
        connection.execute(delete(removed_files).where(removed_files.c.uri.in_([uri for uri in uris if uri])))


def _prepare(connection: Connection, held: Mapping[str, AssetFile], *, actor: str) -> dict[str, Any]:
    """Make files and assets known, in the order in which every writer does, and return the assets' locked rows."""
    sizes = {each.digest: each.size for each in sorted(held.values(), key=lambda each: each.digest)}
    more = {"description": "", "latest": 0, "created_at": datetime.now(UTC), "created_by": actor}
    with in_one_trip(connection):
        insert_new(connection, files, [{"digest": digest, "size": size} for digest, size in sizes.items()])
        insert_new(connection, assets, [{"name": name, **more} for name in sorted(held)])
    locked = select(assets).where(assets.c.name.in_(held)).order_by(assets.c.name).with_for_update()
    return {row.name: row for row in connection.execute(locked)}


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
        """Return the version of the code, which may have come before."""
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
        self._latest.append({"id": asset.id, "latest": asset.latest + 1})
        row = {"asset": asset.id, "number": asset.latest + 1, "digest": digest, "size": file.size, "version": version}
        into = insert(asset_versions).returning(asset_versions.c.id)
        key: int = self._connection.execute(into, row | self._common).scalar_one()
        self._files.append({"asset_version": key, "path": file.path, "digest": file.digest, "uri": file.uri})
        return key

    def write(self) -> None:
        """Write what was gathered."""
        for row in self._latest:
            self._connection.execute(update(assets).where(assets.c.id == row["id"]).values(latest=row["latest"]))
        self._connection.execute(insert(asset_files).inline(), self._files)
        if self._references:
            self._connection.execute(insert(asset_references).inline(), self._references)
