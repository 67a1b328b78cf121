"""Removes from the artifact store the files that no retained version needs; the records of them stay."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from modelway.artifacts.store import ArtifactStore, StoredObject
from modelway.lineage.records.retention import StoredFile, UnneededFile
from modelway.lineage.store import Lineage

#: where bundles keep the DAG files of runs; only Airflow knows which of them it still needs
_NOT_OURS = ("_snapshots",)


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """A file that no retained version needs, and what it once was, as far as the lineage knows."""

    uri: str
    digest: str
    size: int
    modified: datetime
    what: str


@dataclass(frozen=True, kw_only=True)
class Collected:
    """What garbage collection removed, or would remove, and how much it left."""

    files: tuple[Garbage, ...]
    left: int
    """Files that stay: needed, or recent."""
    young: int
    """Those of them that stay only because they are recent."""

    @property
    def size(self) -> int:
        """The bytes that are removed, or would be."""
        return sum(file.size for file in self.files)


@dataclass(kw_only=True)
class _Inventory:
    old: dict[str, StoredObject] = field(default_factory=dict)
    young: int = 0

    def files(self) -> list[StoredFile]:
        """Return the files that are old enough to be removed."""
        return [
            StoredFile(uri=each.uri, digest=each.digest, size=each.size, is_whole=each.whole, modified=each.modified)
            for each in self.old.values()
        ]

    def collected(self, unneeded: Sequence[UnneededFile]) -> Collected:
        """Return the result for these files."""
        files = [
            Garbage(
                uri=each.file.uri,
                digest=each.file.digest,
                size=each.file.size,
                modified=self.old[each.file.uri].modified,
                what=each.what,
            )
            for each in unneeded
        ]
        return Collected(files=tuple(files), left=self.young + len(self.old) - len(files), young=self.young)


def find_garbage(lineage: Lineage | None, store: ArtifactStore, *, keep: int, older_than: timedelta) -> Collected:
    """Return what would be removed, and remove nothing; without a lineage nothing is known to be garbage."""
    inventory = _take_inventory(store, datetime.now(UTC) - older_than)
    return inventory.collected(lineage.retention.unneeded(inventory.files(), keep=keep) if lineage else ())


def remove_garbage(
    lineage: Lineage | None, store: ArtifactStore, *, keep: int, older_than: timedelta, actor: str
) -> Collected:
    """Remove what no retained version needs and nobody has stored again recently; return what was removed.

    :param lineage: None where nothing was ever recorded: then nothing is removed
    :param keep: how many of the newest versions of each model and asset are retained in any case
    :param older_than: what was stored later stays in any case: the run that needs it may not have ended
    """
    before = datetime.now(UTC) - older_than
    inventory = _take_inventory(store, before)
    if lineage is None:
        return inventory.collected(())
    rule = {"keep": keep, "older_than_seconds": int(older_than.total_seconds())}
    # Recorded first: a file that exists although recorded as removed does no harm and is removed the next time, while
    # one that disappeared without a record could not be explained.
    unneeded = lineage.retention.record_removal(inventory.files(), keep=keep, actor=actor, rule=rule)
    stayed = {each.file.uri for each in unneeded if not store.remove(each.file.uri, before=before)}
    if stayed:
        lineage.retention.forget_removal(stayed)
    removed = inventory.collected([each for each in unneeded if each.file.uri not in stayed])
    return Collected(files=removed.files, left=removed.left, young=removed.young + len(stayed))


def _take_inventory(store: ArtifactStore, before: datetime) -> _Inventory:
    inventory = _Inventory()
    for each in store.objects():
        if each.folder in _NOT_OURS:
            continue
        if each.modified < before:
            inventory.old[each.uri] = each
        else:
            inventory.young += 1
    return inventory
