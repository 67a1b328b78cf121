"""The record of rollouts: of an endpoint one is running at a time, and one that is over stays over."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, update

from modelway.errors import ModelwayError, RolloutAborted, RolloutChanged
from modelway.lineage.read import queries
from modelway.lineage.read.newest_rollouts import read_newest_rollouts
from modelway.lineage.records.rollout import has_moved, is_finishing, is_returning
from modelway.lineage.records.steering import Steering, steered
from modelway.lineage.records.values import plain
from modelway.lineage.records.version import ROLLOUT_STATES, RolloutRecord
from modelway.lineage.schema.engine import reading, writing
from modelway.lineage.schema.part import LineagePart
from modelway.lineage.schema.tables import rollouts
from modelway.lineage.write.bulk_insert import insert_new
from modelway.lineage.write.events import add_event
from modelway.lineage.write.versions import locked_keys

#: how often a rollout that is written as it was shows that it lives
_HEARTBEAT = timedelta(minutes=2)


class RolloutRecords(LineagePart):
    """Reads and writes of rollouts; a write is one transaction and can be repeated."""

    def rollout(self, endpoint: str, run_id: str) -> RolloutRecord | None:
        """Return the progress of a run's rollout at an endpoint, None before it started."""
        with reading(self._engine) as connection:
            return queries.read_rollout(connection, endpoint=endpoint, run_id=run_id)

    def rollouts(
        self, endpoint: str, *, dags: Collection[str] | None = None, limit: int | None = None
    ) -> list[RolloutRecord]:
        """Return the rollouts of an endpoint, the one that was begun last first.

        :param dags: only of versions that runs of these made
        """
        with reading(self._engine) as connection:
            return queries.read_rollouts(connection, endpoint=endpoint, dags=dags, limit=limit)

    def newest_rollouts(
        self, endpoints: Collection[str], *, dags: Collection[str] | None = None
    ) -> dict[str, RolloutRecord]:
        """Return the rollout of each endpoint that was begun last, by its name.

        :param dags: only of versions that runs of these made
        """
        with reading(self._engine) as connection:
            return read_newest_rollouts(connection, endpoints, dags=dags)

    def endpoint_targets(self) -> dict[str, str]:
        """Return where each endpoint serves, such as ``docker``, as its last rollout has it; no line of others."""
        with reading(self._engine) as connection:
            return queries.read_targets(connection)

    def rollouts_of_run(self, run_id: str, *, dags: Collection[str] | None = None) -> list[RolloutRecord]:
        """Return the rollouts of a run, by its key, at all endpoints; with ``dags``, of versions that they made."""
        with reading(self._engine) as connection:
            return queries.read_rollouts(connection, run_id=run_id, dags=dags)

    def served_before(self, endpoint: str) -> tuple[int | None, int | None]:
        """Return the version that took over an endpoint last, and the one that served before it; None where none did.

        A rollback leads on from the version that it returned to: the version before is then an earlier one still.
        """
        served: list[int] = []
        for each in reversed(self.rollouts(endpoint)):
            if each.state != "done" or each.version in served[-1:]:
                continue
            if each.detail.get("rollback") and each.version in served:
                served = served[: served.index(each.version) + 1]
            else:
                served.append(each.version)
        before, current = [None, None, *served][-2:]
        return current, before

    def request_rollback(self, rollout: RolloutRecord, *, actor: str, reason: str) -> None:
        """Record who wants a running rollout to end, and why; its own run returns the traffic."""
        with writing(self._engine) as connection:
            keys = locked_keys(connection, rollout.model, rollout.version)
            detail = {"endpoint": rollout.endpoint, "reason": reason}
            add_event(connection, keys, kind="rollback-requested", actor=actor, run_id=rollout.run_id, detail=detail)

    def begin_rollout(
        self, record: RolloutRecord, *, over: Mapping[str, str] | None = None, actor: str = "airflow"
    ) -> tuple[RolloutRecord, ...]:
        """Begin a rollout unless another one is running at the endpoint; return those that are, none if it began.

        Of two that begin at once, in any two processes, one does. A rollout that began already stays as it is.

        :param over: running rollouts to close as aborted in the same transaction: the run's key and why; one whose
            version is taking over is not closed
        """
        over = over or {}
        with writing(self._engine) as connection:
            # Locks the model's row, and an endpoint is of one model: whoever comes second sees what the first wrote.
            locked_keys(connection, record.model, record.version)
            found = queries.read_rollouts(connection, endpoint=record.endpoint)
            if any(each.run_id == record.run_id for each in found):
                return ()
            running = [each for each in found if each.state == "running"]
            if others := tuple(each for each in running if each.run_id not in over or is_finishing(each)):
                return others
            for each in running:
                detail = {**each.detail, "reason": over[each.run_id]}
                if has_moved(each):
                    detail["returning"] = True
                _write(connection, replace(each, state="aborted", detail=detail), before=each, actor=actor)
            _write(connection, record, before=None, actor=actor)
            return ()

    def save_rollout(self, record: RolloutRecord, *, actor: str = "airflow") -> RolloutRecord:
        """Write the progress of a rollout and return it as written; a change of its state is an event.

        A record that was read is written only if nobody else wrote it since, which ``updated_at`` says.

        :raises ModelwayError: the state is not one of ``ROLLOUT_STATES``
        :raises RolloutAborted: the rollout was closed meanwhile, such as by another one that replaced it
        :raises RolloutChanged: it was written since ``record`` was read
        """
        if record.state not in ROLLOUT_STATES:
            raise ModelwayError(
                f"'{record.state}' is not a state of a rollout", known=ROLLOUT_STATES, given=record.state
            )
        with writing(self._engine) as connection:
            locked_keys(connection, record.model, record.version)
            before = queries.read_rollout(connection, endpoint=record.endpoint, run_id=record.run_id)
            if before == record and not _is_due(before):
                return before
            _refuse_stale(record, before)
            return _write(connection, record, before=before, actor=actor)

    def steer_rollout(self, record: RolloutRecord, wish: Steering) -> RolloutRecord:
        """Record what a person does to a running rollout, in one transaction with the event; its own run does it.

        :param record: which one; as it is now counts
        :raises RolloutChanged: it is over or in another step, or somebody else was faster
        """
        with writing(self._engine) as connection:
            keys = locked_keys(connection, record.model, record.version)
            before = queries.read_rollout(connection, endpoint=record.endpoint, run_id=record.run_id)
            if before is None:
                raise RolloutChanged("the rollout is not recorded any more", where=f"endpoint {record.endpoint}")
            found = steered(before, wish, now=datetime.now(UTC).timestamp())
            weight = {} if wish.weight is None else {"weight": wish.weight}
            detail = {"endpoint": record.endpoint, "reason": wish.reason, **weight}
            add_event(connection, keys, kind=f"rollout-{wish.act}", actor=wish.by, run_id=record.run_id, detail=detail)
            return _write(connection, found, before=before, actor=wish.by)

    def record_returned(self, record: RolloutRecord) -> None:
        """Record that the traffic of an aborted rollout is back."""
        with writing(self._engine) as connection:
            locked_keys(connection, record.model, record.version)
            before = queries.read_rollout(connection, endpoint=record.endpoint, run_id=record.run_id)
            if before is not None and is_returning(before):
                done = ("returning", "withdraw")
                detail = {name: value for name, value in before.detail.items() if name not in done}
                _write(connection, replace(before, detail=detail), before=before, actor="")


def _is_due(record: RolloutRecord) -> bool:
    """Return whether a running rollout has to show that it lives."""
    written = record.updated_at
    return record.state == "running" and written is not None and datetime.now(UTC) - written > _HEARTBEAT


def _refuse_stale(record: RolloutRecord, before: RolloutRecord | None) -> None:
    """Refuse to write over a rollout that is closed, or that somebody else wrote since ``record`` was read.

    :raises RolloutAborted: the rollout is closed
    :raises RolloutChanged: it was written
    """
    if before is None:
        return
    where = f"endpoint {record.endpoint}"
    if before.state != "running":
        reason = before.detail.get("reason") or f"it is {before.state}"
        raise RolloutAborted(f"this run's rollout was closed: {reason}", where=where)
    if before != record and record.updated_at not in (None, before.updated_at):
        raise RolloutChanged(f"the rollout of run {record.run_id} was changed by another process", where=where)


def _write(connection: Connection, record: RolloutRecord, *, before: RolloutRecord | None, actor: str) -> RolloutRecord:
    keys = locked_keys(connection, record.model, record.version)
    now, row = datetime.now(UTC), {"endpoint": record.endpoint, "run_id": record.run_id}
    if before is not None and before.updated_at is not None:
        # Rises with every write, also where clocks differ: two writes are distinguished by it.
        now = max(now, before.updated_at + timedelta(microseconds=1))
    news = {"version": keys["version"], "state": record.state, "step": record.step}
    news |= {"detail": plain(record.detail), "updated_at": now}
    insert_new(connection, rollouts, [row | news | {"started_at": now}])
    connection.execute(update(rollouts).filter_by(**row).values(news))
    if before is None or before.state != record.state:
        # The rest is of use to the rollout alone.
        found = {name: value for name, value in record.detail.items() if name not in ("evidence", "returning")}
        detail = {"endpoint": record.endpoint, "step": record.step, **found}
        add_event(connection, keys, kind=f"rollout-{record.state}", actor=actor, run_id=record.run_id, detail=detail)
    return replace(record, updated_at=now)
