"""Taking out of the artifact store what no version that is kept reaches; the records stay, and tell what was taken."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, Engine, insert

from modelway.artifacts.store import ArtifactStore, StoredObject
from modelway.lineage.read.asset_queries import batches
from modelway.lineage.read.retention import kept_digests, names_of
from modelway.lineage.schema.asset_tables import removed_files
from modelway.lineage.schema.connect import engine_to_read, engine_to_write
from modelway.lineage.schema.engine import reading, writing
from modelway.lineage.write.assets import forget_removed
from modelway.lineage.write.events import add_event

#: where bundles keep the DAG files of runs; only Airflow knows which of them it still needs
_NOT_OURS = ("_snapshots",)


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """A file that no version that is kept reaches, and what it once was, as far as anybody knows."""

    uri: str
    digest: str
    size: int
    modified: datetime
    what: str


@dataclass(frozen=True, kw_only=True)
class Collected:
    """What garbage collection took, or would take, and how much it left."""

    files: tuple[Garbage, ...]
    left: int
    """Files that stay: kept, or young."""
    young: int
    """Those of them that stay at least because they are young."""

    @property
    def size(self) -> int:
        """The bytes that are gone, or would be."""
        return sum(file.size for file in self.files)


@dataclass(kw_only=True)
class _Looked:
    old: list[StoredObject] = field(default_factory=list)
    young: int = 0


def find_garbage(url: str, store: ArtifactStore, *, keep: int, older_than: timedelta) -> Collected:
    """Return what would be taken away, and take nothing."""
    looked = _look(store, datetime.now(UTC) - older_than)
    engine = engine_to_read(url)
    if engine is None:
        # Without a lineage nobody can tell what is garbage.
        return Collected(files=(), left=looked.young + len(looked.old), young=looked.young)
    with reading(engine) as connection:
        return _sorted_out(connection, looked, keep=keep)


def remove_garbage(url: str, store: ArtifactStore, *, keep: int, older_than: timedelta, actor: str) -> Collected:
    """Take away what no version that is kept reaches and nobody put again lately; return what was taken.

    :param keep: how many of the newest versions of each model and asset stay in any case
    :param older_than: what was put later stays, whatever it is: the run that needs it may not be over
    """
    before = datetime.now(UTC) - older_than
    looked = _look(store, before)
    if engine_to_read(url) is None:
        return Collected(files=(), left=looked.young + len(looked.old), young=looked.young)
    engine = engine_to_write(url)
    rule = {"keep": keep, "older_than_seconds": int(older_than.total_seconds())}
    # Recorded first: a file that is there although it counts as gone hurts nobody and is taken the next time, while one
    # that vanished untold could not be explained.
    with writing(engine) as connection:
        found = _sorted_out(connection, looked, keep=keep)
        if found.files:
            _record(connection, found, actor=actor, rule=rule)
    stayed = [file.uri for file in found.files if not store.remove(file.uri, before=before)]
    if stayed:
        _forget(engine, stayed)
    files = tuple(file for file in found.files if file.uri not in set(stayed))
    return Collected(files=files, left=found.left + len(stayed), young=found.young + len(stayed))


def _look(store: ArtifactStore, before: datetime) -> _Looked:
    looked = _Looked()
    for each in store.objects():
        if each.folder in _NOT_OURS:
            continue
        if each.modified < before:
            looked.old.append(each)
        else:
            looked.young += 1
    return looked


def _sorted_out(connection: Connection, looked: _Looked, *, keep: int) -> Collected:
    kept = kept_digests(connection, keep=keep)
    gone = [each for each in looked.old if not (each.whole and each.digest in kept)]
    names = names_of(connection, {each.digest for each in gone if each.whole})
    files = [
        Garbage(
            uri=each.uri,
            digest=each.digest,
            size=each.size,
            modified=each.modified,
            what=names.get(each.digest, "of no version") if each.whole else "left over",
        )
        for each in gone
    ]
    left = looked.young + len(looked.old) - len(gone)
    return Collected(files=tuple(sorted(files, key=lambda file: file.uri)), left=left, young=looked.young)


def _record(connection: Connection, found: Collected, *, actor: str, rule: dict[str, int]) -> None:
    forget_removed(connection, [file.uri for file in found.files])
    now = datetime.now(UTC)
    for some in batches(found.files):
        rows = [{"uri": file.uri, "digest": file.digest, "at": now, "actor": actor} for file in some]
        connection.execute(insert(removed_files), rows)
    detail = {"files": len(found.files), "bytes": found.size, **rule}
    add_event(connection, {}, kind="files-removed", actor=actor, run_id=None, detail=detail)


def _forget(engine: Engine, uris: Sequence[str]) -> None:
    with writing(engine) as connection:
        forget_removed(connection, uris)
