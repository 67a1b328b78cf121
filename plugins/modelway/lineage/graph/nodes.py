"""The things of a lineage graph: what each is called, and whether a user may see it.

Each function works inside the caller's transaction.
"""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, func, literal_column, select

from modelway.lineage.read.holders import read_holders
from modelway.lineage.records.answers import GraphNode
from modelway.lineage.schema.asset_tables import asset_versions, assets
from modelway.lineage.schema.tables import (
    URI_KEY,
    datasets,
    deployments,
    environments,
    images,
    models,
    runs,
    stages,
    versions,
)


class Thing(NamedTuple):
    """A node before it is described; versions, runs, environments and assets by their keys in the database."""

    kind: str
    key: Any


Dags = Collection[str] | None


def describe(connection: Connection, thing: Thing, *, dags: Dags = None) -> GraphNode | None:
    """Return the node of a thing; None where a run of another DAG than ``dags`` made it, or it does not exist.

    What no run made, such as a commit, has to be of one of their runs or versions.
    """
    if dags is not None and not _is_theirs(connection, thing, dags):
        return None
    return _KINDS[thing.kind](connection, thing.key, dags)


def _is_theirs(connection: Connection, thing: Thing, dags: Collection[str]) -> bool:
    """Return whether a run of some DAGs has to do with a thing that no run made; true of all others."""
    kind, key = thing
    if kind == "file":
        return bool(read_holders(connection, key, dags=dags))
    if kind == "code":
        query = select(runs.c.id).where(runs.c.code_digest == key)
    elif kind == "commit":
        query = select(runs.c.id).where(runs.c.commit_id == key)
    elif kind == "environment":
        query = select(runs.c.id).join(stages, stages.c.run == runs.c.id).where(stages.c.environment == key)
    elif kind == "endpoint":
        query = select(runs.c.id).join(versions, versions.c.run == runs.c.id)
        query = query.join(deployments, deployments.c.version == versions.c.id).where(deployments.c.endpoint == key)
    else:
        return True
    return connection.execute(query.where(runs.c.dag_id.in_(dags)).limit(1)).first() is not None


def _node(kind: str, identity: str, name: str, **detail: Any) -> GraphNode:
    return GraphNode(id=f"{kind}:{identity}", kind=kind, name=name, detail=detail)


def _version(connection: Connection, key: int, dags: Dags) -> GraphNode | None:
    query = select(models.c.name, versions.c.number, versions.c.created_at, versions.c.created_by, runs.c.dag_id)
    query = query.add_columns(versions.c.model_digest).join_from(versions, models)
    row = connection.execute(query.join(runs, versions.c.run == runs.c.id).where(versions.c.id == key)).one()
    if dags is not None and row.dag_id not in dags:
        return None
    about = {"created_at": row.created_at, "created_by": row.created_by, "model_digest": row.model_digest}
    return _node("version", f"{row.name}@{row.number}", f"{row.name} v{row.number}", **about)


def _run(connection: Connection, key: int, dags: Dags) -> GraphNode | None:
    row = connection.execute(select(runs, models.c.name).join_from(runs, models).where(runs.c.id == key)).one()
    if dags is not None and row.dag_id not in dags:
        return None
    about = {"model": row.name, "actor": row.actor, "started_at": row.started_at}
    named = f"{row.dag_id}/{row.run_id}"
    # Two models may have a run of one DAG and id.
    return _node("run", named if row.name == row.dag_id else f"{row.name}/{named}", named, **about)


def _code(_connection: Connection, key: str, _dags: Dags) -> GraphNode:
    return _node("code", key, _short(key), digest=key)


def _commit(_connection: Connection, key: str, _dags: Dags) -> GraphNode:
    return _node("commit", key, key[:12])


def _dataset(connection: Connection, key: tuple[str | None, str], dags: Dags) -> GraphNode | None:
    digest, uri = key
    query = select(datasets.c.name, datasets.c.uri, datasets.c.version, datasets.c.rows).join(runs)
    query = query.where(same_dataset(digest, uri))
    if dags is not None:
        query = query.where(runs.c.dag_id.in_(dags))
    row = connection.execute(query.order_by(datasets.c.id).limit(1)).first()
    if row is None:
        return None
    about = {"digest": digest, "uri": row.uri, "version": row.version, "rows": row.rows}
    return _node("dataset", digest or uri, row.name, **about)


def dataset_key(digest: str | None, uri: str) -> tuple[str | None, str]:
    """Return what identifies a data set: its content, or where that is not known the place."""
    return (digest, "") if digest else (None, uri)


def same_dataset(digest: str | None, uri: str) -> Any:
    """Return the condition that a row is of this data set."""
    if digest is not None:
        return datasets.c.digest == digest
    return and_(at_uri(uri), datasets.c.digest.is_(None))


def at_uri(uri: str) -> Any:
    """Return the condition that a data set is at this URI, written as in the index: no bound numbers."""
    begin = func.substr(datasets.c.uri, literal_column("1"), literal_column(str(URI_KEY)))
    # If the column itself were compared, SQLite would put the value into the other condition and find no index.
    return and_(begin == uri[:URI_KEY], datasets.c.uri.concat(literal_column("''")) == uri)


def _environment(connection: Connection, key: int, _dags: Dags) -> GraphNode:
    row = connection.execute(select(environments).where(environments.c.id == key)).one()
    about = {"image": row.image, "packages": len(row.packages), "digest": row.digest}
    return _node("environment", row.digest, f"Python {row.python}, {row.platform}", **about)


def has_image(digest: str) -> Any:
    """Return the condition that an environment's image has this digest, written as in the index."""
    image = environments.c.image
    return func.substr(image, func.length(image) - literal_column("70")) == digest


def _image(connection: Connection, key: str, dags: Dags) -> GraphNode | None:
    query = select(images).join(versions, images.c.version == versions.c.id).join(runs, versions.c.run == runs.c.id)
    if dags is not None:
        query = query.where(runs.c.dag_id.in_(dags))
    row = connection.execute(query.where(images.c.digest == key).order_by(images.c.id.desc()).limit(1)).first()
    return _node("image", key, _short(key), reference=row.reference, builder=row.builder) if row else None


def _endpoint(_connection: Connection, key: str, _dags: Dags) -> GraphNode:
    return _node("endpoint", key, key)


def _asset(connection: Connection, key: int, dags: Dags) -> GraphNode | None:
    query = select(assets.c.name, asset_versions.c.number, asset_versions.c.created_by, runs.c.dag_id)
    query = query.join_from(asset_versions, assets).outerjoin(versions, asset_versions.c.version == versions.c.id)
    query = query.outerjoin(runs, versions.c.run == runs.c.id).where(asset_versions.c.id == key)
    row = connection.execute(query).one()
    # What people uploaded was not made by a run, so no DAG's read permission applies to it.
    if dags is not None and row.dag_id not in dags:
        return None
    return _node("asset", f"{row.name}@{row.number}", f"{row.name}@{row.number}", created_by=row.created_by)


def _file(_connection: Connection, key: str, _dags: Dags) -> GraphNode:
    return _node("file", key, _short(key), digest=key)


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]


_KINDS: dict[str, Callable[[Connection, Any, Dags], GraphNode | None]] = {
    "version": _version,
    "run": _run,
    "code": _code,
    "commit": _commit,
    "dataset": _dataset,
    "environment": _environment,
    "image": _image,
    "endpoint": _endpoint,
    "asset": _asset,
    "file": _file,
}
KINDS = tuple(sorted(_KINDS))
