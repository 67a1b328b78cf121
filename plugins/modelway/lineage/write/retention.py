"""What garbage collection reads from the lineage and records in it."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection, insert

from modelway.lineage.read.batches import batches
from modelway.lineage.read.retention import describe_files, digests_in_use, retained_digests
from modelway.lineage.records.retention import StoredFile, UnneededFile
from modelway.lineage.schema.asset_tables import removed_files
from modelway.lineage.schema.engine import reading, writing
from modelway.lineage.schema.part import LineagePart
from modelway.lineage.write.assets import forget_removed
from modelway.lineage.write.events import add_event
from modelway.lineage.write.versions import locked_keys


class Retention(LineagePart):
    """Finds the files that no retained version needs, and records their removal."""

    def unneeded(self, files: Collection[StoredFile], *, keep: int) -> list[UnneededFile]:
        """Return which of the files no retained version needs, by URI.

        :param keep: how many of the newest versions of each model and asset are retained in any case
        """
        with reading(self._engine) as connection:
            return _unneeded(connection, files, keep=keep)

    def record_removal(
        self, files: Collection[StoredFile], *, keep: int, actor: str, rule: dict[str, int]
    ) -> list[UnneededFile]:
        """Record that the unneeded ones of the files are removed, in one transaction, and return them.

        :param rule: by which they were chosen, for the event
        """
        with writing(self._engine) as connection:
            found = _unneeded(connection, files, keep=keep)
            if found:
                _record(connection, [each.file for each in found], actor=actor, rule=rule)
            return found

    def record_run_removal(
        self, version: tuple[str, int], files: Collection[StoredFile], *, actor: str, run_id: str, rule: dict[str, int]
    ) -> list[StoredFile]:
        """Record that files of a run, which no version or asset needs, are removed, and return them.

        :param version: the model's name and the number of the version that the run made
        :param rule: by which they were chosen, for the event
        """
        model, number = version
        with writing(self._engine) as connection:
            digests = [file.digest for file in files]
            needed = digests_in_use(connection, digests)
            found = [file for file in files if file.digest not in needed]
            if found:
                keys = locked_keys(connection, model, number)
                _record(connection, found, actor=actor, rule=rule, keys=keys, run_id=run_id)
            return found

    def forget_removal(self, uris: Collection[str]) -> None:
        """Record that files which were recorded as removed are stored after all."""
        with writing(self._engine) as connection:
            forget_removed(connection, uris)


def _unneeded(connection: Connection, files: Collection[StoredFile], *, keep: int) -> list[UnneededFile]:
    needed = retained_digests(connection, files, keep=keep)
    found = sorted((file for file in files if not (file.is_whole and file.digest in needed)), key=lambda file: file.uri)
    names = describe_files(connection, {file.digest for file in found if file.is_whole})
    return [
        UnneededFile(file=file, what=names.get(file.digest, "of no version") if file.is_whole else "left over")
        for file in found
    ]


def _record(
    connection: Connection,
    files: Sequence[StoredFile],
    *,
    actor: str,
    rule: dict[str, int],
    keys: Mapping[str, int] | None = None,
    run_id: str | None = None,
) -> None:
    forget_removed(connection, [file.uri for file in files])
    now = datetime.now(UTC)
    for some in batches(files):
        rows = [{"uri": file.uri, "digest": file.digest, "at": now, "actor": actor} for file in some]
        connection.execute(insert(removed_files), rows)
    detail = {"files": len(files), "bytes": sum(file.size for file in files), **rule}
    add_event(connection, keys or {}, kind="files-removed", actor=actor, run_id=run_id, detail=detail)
