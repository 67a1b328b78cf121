"""The record of rollouts: of an endpoint one is running at a time, and one that is over stays over."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from sqlalchemy import Connection, update

from modelway.errors import ModelwayError, RolloutAborted
from modelway.lineage.read import queries
from modelway.lineage.records.values import plain
from modelway.lineage.records.version import ROLLOUT_STATES, RolloutRecord
from modelway.lineage.schema.engine import reading, writing
from modelway.lineage.schema.part import LineagePart
from modelway.lineage.schema.tables import rollouts
from modelway.lineage.write.bulk_insert import insert_new
from modelway.lineage.write.events import add_event
from modelway.lineage.write.versions import locked_keys


class RolloutRecords(LineagePart):
    """Reads and writes of rollouts; a write is one transaction and can be repeated."""

    def rollout(self, endpoint: str, run_id: str) -> RolloutRecord | None:
        """Return the progress of a run's rollout at an endpoint, None before it started."""
        with reading(self._engine) as connection:
            return queries.read_rollout(connection, endpoint=endpoint, run_id=run_id)

    def rollouts(self, endpoint: str) -> list[RolloutRecord]:
        """Return all rollouts of an endpoint, the one that was begun last first."""
        with reading(self._engine) as connection:
            return queries.read_rollouts(connection, endpoint=endpoint)

    def rollouts_of_run(self, run_id: str) -> list[RolloutRecord]:
        """Return the rollouts of a run, by its key, at all endpoints."""
        with reading(self._engine) as connection:
            return queries.read_rollouts(connection, run_id=run_id)

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

        :param over: running rollouts to close as aborted in the same transaction: the run's key and why
        """
        over = over or {}
        with writing(self._engine) as connection:
            # Locks the model's row, and an endpoint is of one model: whoever comes second sees what the first wrote.
            locked_keys(connection, record.model, record.version)
            found = queries.read_rollouts(connection, endpoint=record.endpoint)
            if any(each.run_id == record.run_id for each in found):
                return ()
            running = [each for each in found if each.state == "running"]
            if others := tuple(each for each in running if each.run_id not in over):
                return others
            for each in running:
                detail = {**each.detail, "reason": over[each.run_id]}
                _write(connection, replace(each, state="aborted", detail=detail), before=each, actor=actor)
            _write(connection, record, before=None, actor=actor)
            return ()

    def save_rollout(self, record: RolloutRecord, *, actor: str = "airflow") -> None:
        """Write the progress of a rollout; a change of its state is an event.

        :raises ModelwayError: the state is not one of ``ROLLOUT_STATES``
        :raises RolloutAborted: the rollout was closed meanwhile, such as by another one that replaced it
        """
        if record.state not in ROLLOUT_STATES:
            raise ModelwayError(
                f"'{record.state}' is not a state of a rollout", known=ROLLOUT_STATES, given=record.state
            )
        with writing(self._engine) as connection:
            locked_keys(connection, record.model, record.version)
            before = queries.read_rollout(connection, endpoint=record.endpoint, run_id=record.run_id)
            if before == record:
                return
            if before is not None and before.state != "running":
                reason = before.detail.get("reason") or f"it is {before.state}"
                raise RolloutAborted(f"this run's rollout was closed: {reason}", where=f"endpoint {record.endpoint}")
            _write(connection, record, before=before, actor=actor)


def _write(connection: Connection, record: RolloutRecord, *, before: RolloutRecord | None, actor: str) -> None:
    keys = locked_keys(connection, record.model, record.version)
    now, row = datetime.now(UTC), {"endpoint": record.endpoint, "run_id": record.run_id}
    news = {"version": keys["version"], "state": record.state, "step": record.step}
    news |= {"detail": plain(record.detail), "updated_at": now}
    insert_new(connection, rollouts, [row | news | {"started_at": now}])
    connection.execute(update(rollouts).filter_by(**row).values(news))
    if before is None or before.state != record.state:
        # The evidence is of use to the rollout alone.
        found = {name: value for name, value in record.detail.items() if name != "evidence"}
        detail = {"endpoint": record.endpoint, "step": record.step, **found}
        add_event(connection, keys, kind=f"rollout-{record.state}", actor=actor, run_id=record.run_id, detail=detail)
