"""Writes versions, the aliases that point at them and the images made of them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection, insert, select

from modelway.errors import ChangedMeanwhile
from modelway.lineage.read import queries
from modelway.lineage.read.keys import model_key, version_key
from modelway.lineage.records.alias import check_alias
from modelway.lineage.records.note import EDITED, checked_note
from modelway.lineage.records.version import VersionNote, VersionRecord
from modelway.lineage.schema.engine import writing
from modelway.lineage.schema.part import LineagePart
from modelway.lineage.schema.tables import events, images
from modelway.lineage.write.alias import point_alias
from modelway.lineage.write.events import add_event
from modelway.lineage.write.register import register_version


class VersionWriter(LineagePart):
    """Writes versions; each call is one transaction and can be repeated: what exists already is not written again."""

    def register(self, record: VersionRecord) -> int:
        """Write a version in one transaction and return its number.

        A second call for the same (model, DAG run) returns the first number and changes nothing.
        """
        with writing(self._engine) as connection:
            return register_version(connection, record)

    def record_reuse(
        self,
        *,
        model: str,
        version: int,
        dag_id: str,
        run_id: str,
        actor: str = "airflow",
        reason: str = "",
        alias: str | None = None,
    ) -> bool:
        """Record that a run reused a version and point an alias at it in one transaction; return whether that was new.

        The same again changes nothing: the alias is not moved either.

        :raises ModelwayError: the alias reads like a version number, or is ``latest``
        """
        if alias is not None:
            check_alias(alias)
        with writing(self._engine) as connection:
            keys = locked_keys(connection, model, version)
            query = select(events.c.detail).where(
                events.c.kind == "version-reused", events.c.version == keys["version"], events.c.run_id == run_id
            )
            if any(detail.get("dag_id") == dag_id for detail in connection.execute(query).scalars()):
                return False
            detail = {"dag_id": dag_id, "run_id": run_id, "reason": reason}
            add_event(connection, keys, kind="version-reused", actor=actor, run_id=run_id, detail=detail)
            if alias is not None:
                point_alias(connection, keys, alias=alias, actor=actor, reason=reason, run_id=run_id)
            return True

    def set_alias(
        self,
        *,
        model: str,
        alias: str,
        version: int,
        actor: str = "airflow",
        reason: str = "",
        run_id: str | None = None,
    ) -> bool:
        """Point an alias at a version and return whether it moved; the move goes into its history and the events.

        :raises ModelwayError: the alias reads like a version number, or is ``latest``
        """
        check_alias(alias)
        with writing(self._engine) as connection:
            keys = locked_keys(connection, model, version)
            if queries.read_aliases(connection, keys["model"]).get(alias) == version:
                return False
            point_alias(connection, keys, alias=alias, actor=actor, reason=reason, run_id=run_id)
            return True

    def describe(
        self, *, model: str, version: int, description: str, tags: Sequence[str], actor: str, since: datetime | None
    ) -> VersionNote | None:
        """Write a version's description and tags; what they were before stays in its events.

        :param since: when the note was written that the writer saw; None: there was none
        :raises ModelwayError: one of them cannot be stored
        :raises ChangedMeanwhile: somebody else wrote them since
        """
        text, found = checked_note(description, tags)
        with writing(self._engine) as connection:
            keys = locked_keys(connection, model, version)
            before = queries.read_note(connection, keys["version"])
            if before is not None and (before.description, before.tags) == (text, found):
                return before
            if before is not None and before.at != since:
                raise ChangedMeanwhile(
                    f"{before.actor} has changed description and tags since you opened them",
                    where=f"{model} v{version}",
                    do="Load the page again, and write yours into theirs",
                )
            add_event(
                connection, keys, kind=EDITED, actor=actor, run_id=None, detail={"description": text, "tags": found}
            )
            return queries.read_note(connection, keys["version"])

    def record_image(
        self, *, model: str, version: int, builder: str, digest: str, reference: str, actor: str = "airflow"
    ) -> None:
        """Record an image made of a version; the same image again changes nothing."""
        with writing(self._engine) as connection:
            keys = locked_keys(connection, model, version)
            image = {"builder": builder, "digest": digest, "reference": reference}
            row = {"version": keys["version"], **image}
            if connection.execute(select(images.c.id).filter_by(**row)).first() is None:
                connection.execute(insert(images), row | {"created_at": datetime.now(UTC)})
                add_event(connection, keys, kind="image-built", actor=actor, run_id=None, detail=image)


def locked_keys(connection: Connection, model: str, version: int) -> Mapping[str, int]:
    """Return the keys of ``model`` and ``version``; the model's row is locked, which serialises its writers.

    :raises UnknownModel: nothing was ever registered for the model
    :raises UnknownVersion: the model has no such version
    """
    key = model_key(connection, model, lock=True)
    return {"model": key, "version": version_key(connection, model, key, version)}
