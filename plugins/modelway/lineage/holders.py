"""Who has a content. Each function works inside the caller's transaction; every query is one look into an index."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, Select, literal, null, select

from modelway.lineage.asset_tables import asset_files, asset_versions, assets
from modelway.lineage.query_record import FileHolder
from modelway.lineage.tables import datasets, images, models, runs, version_files, versions

#: of each kind; the newest are told
MOST = 1_000


def read_holders(connection: Connection, digest: str, *, dags: Collection[str] | None = None) -> list[FileHolder]:
    """Return who has a content: versions, runs, data sets, images and assets, the newest of each first."""
    found = [
        *_versions(connection, digest, dags),
        *_runs(connection, digest, dags),
        *_datasets(connection, digest, dags),
        *_images(connection, digest, dags),
        *_assets(connection, digest, dags),
    ]
    return [FileHolder(**row) for row in found]


def _rows(connection: Connection, query: Select[Any], order: Any, dags: Collection[str] | None) -> list[dict[str, Any]]:
    if dags is not None:
        query = query.where(runs.c.dag_id.in_(dags))
    return [dict(row._mapping) for row in connection.execute(query.order_by(order.desc()).limit(MOST))]


def _made(kind: str, path: Any, role: Any) -> Select[Any]:
    """Return a query of versions with the models and runs that they belong to."""
    query = select(literal(kind).label("kind"), models.c.name, versions.c.number, path.label("path"))
    query = query.add_columns(role.label("role"), runs.c.dag_id, runs.c.run_id)
    return query.join_from(versions, models).join(runs, versions.c.run == runs.c.id)


def _versions(connection: Connection, digest: str, dags: Collection[str] | None) -> list[dict[str, Any]]:
    parts = _made("version", version_files.c.path, version_files.c.role)
    parts = parts.join(version_files, version_files.c.version == versions.c.id).where(version_files.c.digest == digest)
    wholes = {
        "archive": (versions.c.archive_digest, versions.c.archive_uri),
        "model": (versions.c.model_digest, literal("")),
        "checkpoint": (versions.c.checkpoint_digest, versions.c.checkpoint),
    }
    queries = [parts, *(_made("version", where, literal(role)) for role, (_, where) in wholes.items())]
    columns = [None, *(column for column, _ in wholes.values())]
    return [
        row
        for query, column in zip(queries, columns, strict=True)
        for row in _rows(connection, query if column is None else query.where(column == digest), versions.c.id, dags)
    ]


def _runs(connection: Connection, digest: str, dags: Collection[str] | None) -> list[dict[str, Any]]:
    query = select(literal("run").label("kind"), models.c.name, null().label("number"), literal("").label("path"))
    query = query.add_columns(literal("code").label("role"), runs.c.dag_id, runs.c.run_id).join_from(runs, models)
    return _rows(connection, query.where(runs.c.code_digest == digest), runs.c.id, dags)


def _datasets(connection: Connection, digest: str, dags: Collection[str] | None) -> list[dict[str, Any]]:
    query = select(literal("dataset").label("kind"), datasets.c.name, null().label("number"))
    query = query.add_columns(datasets.c.uri.label("path"), datasets.c.stage.label("role"), runs.c.dag_id)
    query = query.add_columns(runs.c.run_id).join_from(datasets, runs).where(datasets.c.digest == digest)
    return _rows(connection, query, datasets.c.id, dags)


def _images(connection: Connection, digest: str, dags: Collection[str] | None) -> list[dict[str, Any]]:
    query = _made("image", images.c.reference, images.c.builder).join(images, images.c.version == versions.c.id)
    return _rows(connection, query.where(images.c.digest == digest), images.c.id, dags)


def _assets(connection: Connection, digest: str, dags: Collection[str] | None) -> list[dict[str, Any]]:
    query = select(literal("asset").label("kind"), assets.c.name, asset_versions.c.number, asset_files.c.path)
    query = query.add_columns(literal("").label("role"), runs.c.dag_id, runs.c.run_id)
    query = query.join_from(asset_files, asset_versions).join(assets, asset_versions.c.asset == assets.c.id)
    query = query.outerjoin(versions, asset_versions.c.version == versions.c.id)
    query = query.outerjoin(runs, versions.c.run == runs.c.id).where(asset_files.c.digest == digest)
    return _rows(connection, query, asset_versions.c.id, dags)
