"""Who has a content. Each function works inside the caller's transaction; every query is index lookups."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Connection, Integer, Select, bindparam, cast, exists, literal, null, select

from modelway.lineage.records.answers import FileHolder
from modelway.lineage.records.assets import Holder
from modelway.lineage.schema.asset_tables import asset_files, asset_versions, assets
from modelway.lineage.schema.columns import Text
from modelway.lineage.schema.tables import datasets, files, images, models, runs, version_files, versions

#: of each way to have it; the newest are returned
MOST = 10_000
_DIGEST = bindparam("digest", type_=Text)
_NO_NUMBER = cast(null(), Integer).label("number")
_NOTHING = literal("")


@dataclass(frozen=True)
class _Way:
    """A way to have a content: the column of its digest, and the query of its rows, newest first."""

    digest: Any
    query: Select[Any]
    newest: Any


def read_holders(connection: Connection, digest: str, *, dags: Collection[str] | None = None) -> list[FileHolder]:
    """Return who has a content: versions, runs, data sets, images and assets, the newest of each first."""
    found: list[FileHolder] = []
    for way in _ways_of(connection, digest):
        parameters: dict[str, Any] = {"digest": digest} if dags is None else {"digest": digest, "dags": list(dags)}
        rows = connection.execute(_query(way, of_dags=dags is not None), parameters)
        found += [FileHolder(**row._mapping) for row in rows]
    return found


def read_file_holders(connection: Connection, digest: str) -> list[Holder]:
    """Return the versions of assets and of models that have a content as a file, the newest of each first."""
    size: int | None = connection.execute(select(files.c.size).where(files.c.digest == digest)).scalar()
    if size is None:
        return []
    return [
        Holder(kind=kind, size=size, **row._mapping)
        for way, kind in (("asset", "asset"), ("file", "model"))
        for row in connection.execute(_dated_query(way), {"digest": digest})
    ]


def _ways_of(connection: Connection, digest: str) -> Sequence[str]:
    """Return in which ways the content is used: most contents have one or two."""
    row = connection.execute(_outline(), {"digest": digest}).one()
    return [name for name, there in row._mapping.items() if there]


@cache
def _outline() -> Select[Any]:
    there: list[Any] = [exists().where(way.digest == _DIGEST).label(name) for name, way in _ways().items()]
    return select(*there)


@cache
def _query(name: str, *, of_dags: bool) -> Select[Any]:
    way = _ways()[name]
    query = way.query.where(way.digest == _DIGEST).order_by(way.newest.desc()).limit(MOST)
    return query.where(runs.c.dag_id.in_(bindparam("dags", expanding=True))) if of_dags else query


@cache
def _dated_query(name: str) -> Select[Any]:
    """Return the query of the fields of ``Holder``."""
    made = asset_versions if name == "asset" else versions
    query = _query(name, of_dags=False)
    named = [query.selected_columns[column] for column in ("name", "number", "path")]
    return query.with_only_columns(*named, made.c.created_at, made.c.created_by)


@cache
def _ways() -> dict[str, _Way]:
    """Return the ways by name, in the order in which they are returned."""
    archive = _version_query(versions.c.archive_uri, literal("archive"))
    frozen = _version_query(_NOTHING, literal("model"))
    checkpoint = _version_query(versions.c.checkpoint, literal("checkpoint"))
    part = _version_query(version_files.c.path, version_files.c.role)
    part = part.join(version_files, version_files.c.version == versions.c.id)
    image = _version_query(images.c.reference, images.c.builder, kind="image")
    return {
        "file": _Way(version_files.c.digest, part, versions.c.id),
        "archive": _Way(versions.c.archive_digest, archive, versions.c.id),
        "model": _Way(versions.c.model_digest, frozen, versions.c.id),
        "checkpoint": _Way(versions.c.checkpoint_digest, checkpoint, versions.c.id),
        "code": _Way(runs.c.code_digest, _run_query(), runs.c.id),
        "dataset": _Way(datasets.c.digest, _dataset_query(), datasets.c.id),
        "image": _Way(images.c.digest, image.join(images, images.c.version == versions.c.id), images.c.id),
        "asset": _Way(asset_files.c.digest, _asset_query(), asset_versions.c.id),
    }


def _version_query(path: Any, role: Any, *, kind: str = "version") -> Select[Any]:
    """Return a query of versions with the models and runs that they belong to."""
    query = select(literal(kind).label("kind"), models.c.name, versions.c.number, path.label("path"))
    query = query.add_columns(role.label("role"), runs.c.dag_id, runs.c.run_id)
    return query.join_from(versions, models).join(runs, versions.c.run == runs.c.id)


def _run_query() -> Select[Any]:
    query = select(literal("run").label("kind"), models.c.name, _NO_NUMBER, _NOTHING.label("path"))
    return query.add_columns(literal("code").label("role"), runs.c.dag_id, runs.c.run_id).join_from(runs, models)


def _dataset_query() -> Select[Any]:
    query = select(literal("dataset").label("kind"), datasets.c.name, _NO_NUMBER)
    query = query.add_columns(datasets.c.uri.label("path"), datasets.c.stage.label("role"), runs.c.dag_id)
    return query.add_columns(runs.c.run_id).join_from(datasets, runs)


def _asset_query() -> Select[Any]:
    query = select(literal("asset").label("kind"), assets.c.name, asset_versions.c.number, asset_files.c.path)
    query = query.add_columns(_NOTHING.label("role"), runs.c.dag_id, runs.c.run_id)
    query = query.join_from(asset_files, asset_versions).join(assets, asset_versions.c.asset == assets.c.id)
    query = query.outerjoin(versions, asset_versions.c.version == versions.c.id)
    return query.outerjoin(runs, versions.c.run == runs.c.id)
