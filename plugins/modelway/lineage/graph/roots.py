"""Find what a name refers to in the lineage. Each function works inside the caller's transaction."""

import itertools
import re
from collections.abc import Callable, Iterator

from sqlalchemy import Connection, select

from modelway.errors import ModelwayError, UnknownVersion
from modelway.lineage.graph.nodes import KINDS, Thing, at_uri, dataset_key, has_image
from modelway.lineage.schema.asset_tables import asset_aliases, asset_files, asset_versions, assets
from modelway.lineage.schema.tables import (
    aliases,
    datasets,
    deployments,
    environments,
    images,
    models,
    runs,
    version_files,
    versions,
)

#: of things with one name
_MOST = 20
_DO = (
    "Give MODEL or MODEL@VERSION, an asset, a data set by name or URI, a commit, an endpoint, a run's id, a digest "
    "(sha256:…); KIND: before it says what is meant"
)


def find_things(connection: Connection, wanted: str) -> list[Thing]:
    """Return everything that a text names: ``digits@3``, a name, a URI, a commit, a digest, or ``dataset:`` and a name.

    :raises UnknownVersion: nothing has this name
    """
    kind, _, rest = wanted.partition(":")
    if kind in KINDS and rest:
        found = list(dict.fromkeys(_OF_KIND[kind](connection, rest)))
    else:
        found = list(dict.fromkeys(thing for of_kind in _OF_KIND.values() for thing in of_kind(connection, wanted)))
        # Every model has an asset of its name, and most an endpoint: the model is meant.
        found = [thing for thing in found if thing.kind == "version"] or found
    if not found:
        names = select(models.c.name).order_by(models.c.name).limit(_MOST * 5)
        known = [*connection.execute(names).scalars(), *(f"{each}:…" for each in KINDS)]
        name = rest if kind in KINDS else wanted
        raise UnknownVersion(f"the lineage knows nothing that is called '{wanted}'", known=known, given=name, do=_DO)
    return found


def check_digest(text: str) -> str:
    """Return ``sha256:`` and the 64 digits.

    :raises ModelwayError: it is not a SHA-256 digest
    """
    if (digest := _digest(text)) is None:
        raise ModelwayError(f"'{text}' is not a digest of a content", do="Write sha256: and 64 hexadecimal digits")
    return digest


def _digest(text: str) -> str | None:
    found = re.fullmatch(r"(?:sha256:)?([0-9a-fA-F]{64})", text)
    return f"sha256:{found[1].lower()}" if found else None


def _versions(connection: Connection, text: str) -> Iterator[Thing]:
    name, sign, wanted = text.rpartition("@")
    name, wanted = (name, wanted) if sign else (text, "latest")
    query = select(versions.c.id).join(models, versions.c.model == models.c.id).where(models.c.name == name)
    if wanted == "latest":
        query = query.order_by(versions.c.number.desc()).limit(1)
    elif re.fullmatch(r"v?\d{1,9}", wanted):
        query = query.where(versions.c.number == int(wanted.lstrip("v")))
    else:
        query = query.join(aliases, aliases.c.version == versions.c.id).where(aliases.c.name == wanted)
    yield from (Thing("version", key) for key in connection.execute(query).scalars())


def _assets(connection: Connection, text: str) -> Iterator[Thing]:
    name, number, alias = _asset_parts(text)
    query = select(asset_versions.c.id).join(assets, asset_versions.c.asset == assets.c.id).where(assets.c.name == name)
    if number:
        query = query.where(asset_versions.c.number == number)
    elif alias:
        query = query.join(asset_aliases, asset_aliases.c.asset_version == asset_versions.c.id)
        query = query.where(asset_aliases.c.name == alias)
    else:
        query = query.order_by(asset_versions.c.number.desc()).limit(1)
    yield from (Thing("asset", key) for key in connection.execute(query).scalars())


def _asset_parts(text: str) -> tuple[str, int | None, str | None]:
    found = re.fullmatch(r"([^@:]+)(?:@(\d{1,9})|:([^@:]+))?", text)
    return (found[1], int(found[2]) if found[2] else None, found[3]) if found else (text, None, None)


def _runs(connection: Connection, text: str) -> Iterator[Thing]:
    parts = text.split("/", 1)
    if len(parts) == 2:
        query = select(runs.c.id).where(runs.c.dag_id == parts[0], runs.c.run_id == parts[1])
        # By the index that begins with the model, of which there are few.
        query = query.where(runs.c.model.in_(select(models.c.id)))
        yield from (Thing("run", key) for key in connection.execute(query.limit(_MOST)).scalars())
    # As the id of a node has it where the DAG is not called like the model.
    places = [place for place, letter in enumerate(text) if letter == "/"]
    for first, second in itertools.pairwise(places[:3]):
        model, dag, run = text[:first], text[first + 1 : second], text[second + 1 :]
        query = select(runs.c.id).join(models, runs.c.model == models.c.id).where(models.c.name == model)
        keys = connection.execute(query.where(runs.c.dag_id == dag, runs.c.run_id == run)).scalars()
        yield from (Thing("run", key) for key in keys)


def _datasets(connection: Connection, text: str) -> Iterator[Thing]:
    columns = select(datasets.c.digest, datasets.c.uri).order_by(datasets.c.id.desc()).limit(_MOST)
    conditions = [
        datasets.c.name == text,
        at_uri(text),
    ]
    if digest := _digest(text):
        conditions.append(datasets.c.digest == digest)
    for condition in conditions:
        rows = connection.execute(columns.where(condition)).all()
        yield from (Thing("dataset", dataset_key(*row)) for row in rows)


def _commits(connection: Connection, text: str) -> Iterator[Thing]:
    # A range of the index; no hexadecimal digit comes after "f".
    if re.fullmatch(r"[0-9a-f]{6,64}", text):
        query = select(runs.c.commit_id).where(runs.c.commit_id >= text, runs.c.commit_id < text + "g").distinct()
        keys = connection.execute(query.order_by(runs.c.commit_id).limit(_MOST)).scalars()
        yield from (Thing("commit", key) for key in keys)


def _endpoints(connection: Connection, text: str) -> Iterator[Thing]:
    if connection.execute(select(deployments.c.endpoint).where(deployments.c.endpoint == text).limit(1)).first():
        yield Thing("endpoint", text)


def _by_digest(kind: str, *columns: object) -> Callable[[Connection, str], Iterator[Thing]]:
    def found(connection: Connection, text: str) -> Iterator[Thing]:
        digest = _digest(text)
        if digest and any(_has(connection, column, digest) for column in columns):
            yield Thing(kind, digest)

    return found


def _has(connection: Connection, column: object, digest: str) -> bool:
    return connection.execute(select(column).where(column == digest).limit(1)).first() is not None  # type: ignore[call-overload]


def _environments(connection: Connection, text: str) -> Iterator[Thing]:
    if digest := _digest(text):
        query = select(environments.c.id).where(environments.c.digest == digest)
        yield from (Thing("environment", key) for key in connection.execute(query).scalars())


def _images(connection: Connection, text: str) -> Iterator[Thing]:
    """Yield an image that was made of a version, and what was run in an image."""
    yield from _by_digest("image", images.c.digest)(connection, text)
    if digest := _digest(text):
        query = select(environments.c.id).where(has_image(digest)).order_by(environments.c.id.desc()).limit(_MOST)
        yield from (Thing("environment", key) for key in connection.execute(query).scalars())


_OF_KIND: dict[str, Callable[[Connection, str], Iterator[Thing]]] = {
    "version": _versions,
    "asset": _assets,
    "dataset": _datasets,
    "endpoint": _endpoints,
    "run": _runs,
    "commit": _commits,
    "code": _by_digest("code", runs.c.code_digest),
    "image": _images,
    "environment": _environments,
    "file": _by_digest(
        "file",
        version_files.c.digest,
        asset_files.c.digest,
        versions.c.archive_digest,
        versions.c.model_digest,
        versions.c.checkpoint_digest,
    ),
}
