"""Who has a content. Each function works inside the caller's transaction; every query is one look into an index."""

from collections.abc import Collection
from dataclasses import fields
from functools import cache
from typing import Any

from sqlalchemy import Connection, Integer, Select, Text, bindparam, cast, literal, null, select, union_all

from modelway.lineage.asset_tables import asset_files, asset_versions, assets
from modelway.lineage.query_record import FileHolder
from modelway.lineage.tables import datasets, images, models, runs, version_files, versions

#: of each kind; the newest are told
MOST = 1_000
_DIGEST = bindparam("digest", type_=Text)
_NO_NUMBER = cast(null(), Integer).label("number")
#: a query, and the key by which its rows are newer or older
_Part = tuple[Select[Any], Any]


def read_holders(connection: Connection, digest: str, *, dags: Collection[str] | None = None) -> list[FileHolder]:
    """Return who has a content: versions, runs, data sets, images and assets, the newest of each first."""
    given: dict[str, Any] = {"digest": digest} if dags is None else {"digest": digest, "dags": list(dags)}
    return [FileHolder(**row._mapping) for row in connection.execute(_query(of_dags=dags is not None), given)]


@cache
def _query(*, of_dags: bool) -> Select[Any]:
    """Return one statement for all: nine would be nine trips, and making it takes longer than the database does."""
    parts = []
    for place, (query, order) in enumerate((*_versions(), _runs(), _datasets(), _images(), _assets())):
        if of_dags:
            query = query.where(runs.c.dag_id.in_(bindparam("dags", expanding=True)))
        query = query.add_columns(literal(place).label("place"), order.label("key"))
        parts.append(select(query.order_by(order.desc()).limit(MOST).subquery()))
    whole = union_all(*parts).subquery()
    columns = [whole.c[field.name] for field in fields(FileHolder)]
    return select(*columns).order_by(whole.c.place, whole.c.key.desc())


def _made(kind: str, path: Any, role: Any) -> Select[Any]:
    """Return a query of versions with the models and runs that they belong to."""
    query = select(literal(kind).label("kind"), models.c.name, versions.c.number, path.label("path"))
    query = query.add_columns(role.label("role"), runs.c.dag_id, runs.c.run_id)
    return query.join_from(versions, models).join(runs, versions.c.run == runs.c.id)


def _versions() -> list[_Part]:
    parts = _made("version", version_files.c.path, version_files.c.role)
    parts = parts.join(version_files, version_files.c.version == versions.c.id).where(version_files.c.digest == _DIGEST)
    wholes = {
        "archive": (versions.c.archive_digest, versions.c.archive_uri),
        "model": (versions.c.model_digest, literal("")),
        "checkpoint": (versions.c.checkpoint_digest, versions.c.checkpoint),
    }
    queries = [parts, *(_made("version", where, literal(role)) for role, (_, where) in wholes.items())]
    columns = [None, *(column for column, _ in wholes.values())]
    return [
        (query if column is None else query.where(column == _DIGEST), versions.c.id)
        for query, column in zip(queries, columns, strict=True)
    ]


def _runs() -> _Part:
    query = select(literal("run").label("kind"), models.c.name, _NO_NUMBER, literal("").label("path"))
    query = query.add_columns(literal("code").label("role"), runs.c.dag_id, runs.c.run_id).join_from(runs, models)
    return query.where(runs.c.code_digest == _DIGEST), runs.c.id


def _datasets() -> _Part:
    query = select(literal("dataset").label("kind"), datasets.c.name, _NO_NUMBER)
    query = query.add_columns(datasets.c.uri.label("path"), datasets.c.stage.label("role"), runs.c.dag_id)
    query = query.add_columns(runs.c.run_id).join_from(datasets, runs).where(datasets.c.digest == _DIGEST)
    return query, datasets.c.id


def _images() -> _Part:
    query = _made("image", images.c.reference, images.c.builder).join(images, images.c.version == versions.c.id)
    return query.where(images.c.digest == _DIGEST), images.c.id


def _assets() -> _Part:
    query = select(literal("asset").label("kind"), assets.c.name, asset_versions.c.number, asset_files.c.path)
    query = query.add_columns(literal("").label("role"), runs.c.dag_id, runs.c.run_id)
    query = query.join_from(asset_files, asset_versions).join(assets, asset_versions.c.asset == assets.c.id)
    query = query.outerjoin(versions, asset_versions.c.version == versions.c.id)
    query = query.outerjoin(runs, versions.c.run == runs.c.id).where(asset_files.c.digest == _DIGEST)
    return query, asset_versions.c.id
