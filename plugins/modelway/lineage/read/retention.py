"""Which stored files are needed: all that aliases, traffic, references or the newest versions reach."""

from collections import defaultdict
from collections.abc import Collection, Iterator
from datetime import UTC, datetime

from sqlalchemy import Connection, and_, literal, or_, select, union_all

from modelway.lineage.read.batches import batches
from modelway.lineage.records.kept import KeepRule, Unselected
from modelway.lineage.records.retention import StoredFile
from modelway.lineage.schema.asset_tables import asset_aliases, asset_files, asset_references, asset_versions, assets
from modelway.lineage.schema.tables import (
    aliases,
    deployments,
    evaluations,
    models,
    rollouts,
    runs,
    versions,
    weight_history,
)

#: a version of a model or an asset: what kind, and its key
Node = tuple[str, int]
_MODEL, _ASSET = "model", "asset"


def retained_digests(connection: Connection, files: Collection[StoredFile], *, keep: int) -> set[str]:
    """Return the digests of the files that are needed.

    :param files: the stored files that are considered
    :param keep: how many of the newest versions of each model and asset are retained in any case
    """
    retained = _reached(connection, set(_roots(connection, keep=keep)))
    found: set[str] = set()
    for some in batches([key for kind, key in retained if kind == _MODEL]):
        query = select(versions.c.archive_digest, versions.c.checkpoint_digest, runs.c.code_digest)
        for row in connection.execute(query.join_from(versions, runs).where(versions.c.id.in_(some))):
            found.update(digest for digest in row if digest)
        found |= _kept_unselected(connection, some, files)
    for some in batches([key for kind, key in retained if kind == _ASSET]):
        query = select(asset_files.c.digest).where(asset_files.c.asset_version.in_(some)).distinct()
        found.update(connection.execute(query).scalars())
    return found


def _kept_unselected(connection: Connection, keys: Collection[int], files: Collection[StoredFile]) -> set[str]:
    """Return the checkpoints of versions' runs that were not selected and stay by the rule of the run's spec."""
    stored = {file.digest: file for file in files if file.is_whole}
    query = select(versions.c.checkpoint_digest, runs.c.id, runs.c.spec).join_from(versions, runs)
    rules = {
        key: (selected, KeepRule.of(spec or {}))
        for selected, key, spec in connection.execute(query.where(versions.c.id.in_(keys)))
    }
    of_runs: dict[int, list[Unselected]] = defaultdict(list)
    columns = select(evaluations.c.run, evaluations.c.digest, evaluations.c.step)
    for some in batches(rules):
        for run, digest, step in connection.execute(columns.where(evaluations.c.run.in_(some))):
            if digest != rules[run][0] and (file := stored.get(digest)):
                of_runs[run].append(Unselected(digest=digest, step=step or 0, size=file.size, stored=file.modified))
    now = datetime.now(UTC)
    return set().union(*(rules[run][1].kept(losers, now=now) for run, losers in of_runs.items()))


def _roots(connection: Connection, *, keep: int) -> Iterator[Node]:
    """Yield the versions that are retained by themselves."""
    # A running rollout may return to any version that it took traffic from.
    moved = and_(
        weight_history.c.endpoint == rollouts.c.endpoint,
        or_(weight_history.c.run_id == rollouts.c.run_id, weight_history.c.at >= rollouts.c.started_at),
    )
    running = rollouts.c.state == "running"
    of_models = union_all(
        select(aliases.c.version),
        select(deployments.c.version).where(deployments.c.weight > 0),
        select(rollouts.c.version).where(running),
        select(weight_history.c.version).join(rollouts, moved).where(running),
        select(versions.c.id)
        .join(models, versions.c.model == models.c.id)
        .where(versions.c.number > models.c.latest - keep),
    )
    yield from ((_MODEL, key) for key in connection.execute(of_models).scalars())
    newest = select(asset_versions.c.id).join(assets, asset_versions.c.asset == assets.c.id)
    of_assets = union_all(
        select(asset_aliases.c.asset_version), newest.where(asset_versions.c.number > assets.c.latest - keep)
    )
    yield from ((_ASSET, key) for key in connection.execute(of_assets).scalars())


def _reached(connection: Connection, roots: Collection[Node]) -> set[Node]:
    """Return the roots and everything that can be reached from them."""
    edges: dict[Node, list[Node]] = defaultdict(list)
    for version, base in connection.execute(select(versions.c.id, versions.c.base).where(versions.c.base.is_not(None))):
        edges[_MODEL, version].append((_MODEL, base))
    for one, other in connection.execute(select(asset_references.c.asset_version, asset_references.c.target)):
        edges[_ASSET, one].append((_ASSET, other))
    written = select(asset_versions.c.id, asset_versions.c.version).where(asset_versions.c.version.is_not(None))
    for asset_version, version in connection.execute(written):
        # Two names of one thing: each retains the other.
        edges[_ASSET, asset_version].append((_MODEL, version))
        edges[_MODEL, version].append((_ASSET, asset_version))
    found, waiting = set(roots), list(roots)
    while waiting:
        news = [node for node in edges.get(waiting.pop(), ()) if node not in found]
        found.update(news)
        waiting += news
    return found


def digests_in_use(connection: Connection, digests: Collection[str]) -> set[str]:
    """Return those of the digests that any version or asset has as a file of its own."""
    found: set[str] = set()
    for some in batches(digests):
        for column in (
            versions.c.archive_digest,
            versions.c.checkpoint_digest,
            runs.c.code_digest,
            asset_files.c.digest,
        ):
            found.update(connection.execute(select(column).where(column.in_(some))).scalars())
    return found


def describe_files(connection: Connection, digests: Collection[str]) -> dict[str, str]:
    """Return descriptions of files by digest; files that the lineage does not know are left out."""
    found: dict[str, str] = {}
    own = select(literal("archive"), versions.c.archive_digest, models.c.name, versions.c.number)
    chosen = select(literal("checkpoint"), versions.c.checkpoint_digest, models.c.name, versions.c.number)
    code = select(literal("code"), runs.c.code_digest, models.c.name, versions.c.number)
    for some in batches(digests):
        for what, query, column in (
            ("model", own, versions.c.archive_digest),
            ("model", chosen, versions.c.checkpoint_digest),
            ("model", code, runs.c.code_digest),
        ):
            joined = query.join_from(versions, models, versions.c.model == models.c.id)
            joined = joined.join(runs, versions.c.run == runs.c.id).where(column.in_(some)).order_by(versions.c.id)
            for kind, digest, model, number in connection.execute(joined):
                found[digest] = f"{kind} of {what} {model} v{number}"
        of_assets = select(asset_files.c.digest, assets.c.name, asset_versions.c.number, asset_files.c.path)
        of_assets = of_assets.join_from(asset_files, asset_versions).join(assets, asset_versions.c.asset == assets.c.id)
        of_assets = of_assets.where(asset_files.c.digest.in_(some), asset_versions.c.version.is_(None))
        for digest, asset, number, path in connection.execute(of_assets.order_by(asset_versions.c.id)):
            found.setdefault(digest, f"{path} of {asset}@{number}")
    return found
