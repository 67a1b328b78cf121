"""What the monitor records: checks, requests to retrain, predictions and the labels that come later."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, delete, func, insert, select, update

from modelway.errors import ModelwayError
from modelway.lineage.read.keys import model_key
from modelway.lineage.read.last_checks import read_last_checks
from modelway.lineage.records.monitoring import (
    FAILED,
    AddedLabels,
    Check,
    LastCheck,
    MonitorSlice,
    MonitorState,
    RetrainRequest,
    Unanswered,
    noted,
)
from modelway.lineage.records.values import plain
from modelway.lineage.schema.engine import reading, writing
from modelway.lineage.schema.monitor_tables import (
    labels,
    monitor_slices,
    monitor_states,
    predictions,
    retrain_requests,
)
from modelway.lineage.schema.part import LineagePart
from modelway.lineage.write.bulk_insert import insert_new
from modelway.lineage.write.events import add_event
from modelway.lineage.write.versions import locked_keys

#: names of one query
_AT_ONCE = 500


class Monitoring(LineagePart):
    """Reads and writes of the monitor; a write is one transaction."""

    def state(self, endpoint: str) -> MonitorState | None:
        """Return what the monitor remembers of an endpoint, None before its first check."""
        with reading(self._engine) as connection:
            return _state(connection, endpoint)

    def last_checks(self, endpoints: Collection[str]) -> dict[str, LastCheck]:
        """Return what the last check of each endpoint found, by name; of one that was never checked, nothing."""
        with reading(self._engine) as connection:
            return read_last_checks(connection, endpoints)

    def record_unanswered(self, endpoint: str, *, model: str, found: Unanswered) -> None:
        """Record that a check got no answer; when the endpoint answered last stays, and so does what was counted."""
        with writing(self._engine) as connection:
            before = _state(connection, endpoint, lock=True)
            note = noted(found, before=before.state if before else {})
            if before is None:
                row = {"endpoint": endpoint, "model": model, "revision": 1, "updated_at": found.since, "state": note}
                insert_new(connection, monitor_states, [row])
            else:
                values = {"state": {**before.state, **note}, "revision": before.revision + 1}
                connection.execute(update(monitor_states).filter_by(endpoint=endpoint).values(values))

    def slices(self, endpoint: str, version: int, *, since: datetime) -> list[MonitorSlice]:
        """Return what checks counted of a version that ended after a moment, the oldest first."""
        columns = [column for column in monitor_slices.c if column.name != "id"]
        query = select(*columns).where(monitor_slices.c.end > since).order_by(monitor_slices.c.end)
        query = query.filter_by(endpoint=endpoint, version=version)
        with reading(self._engine) as connection:
            return [MonitorSlice(**row._mapping) for row in connection.execute(query)]

    def checks(self, model: str, *, limit: int) -> list[MonitorSlice]:
        """Return what the rules said at the newest checks of a model's endpoints, the oldest first, without tallies."""
        columns = [column for column in monitor_slices.c if column.name not in ("id", "tallies")]
        of_model = select(monitor_states.c.endpoint).where(monitor_states.c.model == model)
        query = select(*columns).where(monitor_slices.c.endpoint.in_(of_model))
        query = query.order_by(monitor_slices.c.end.desc(), monitor_slices.c.id.desc()).limit(limit)
        with reading(self._engine) as connection:
            found = connection.execute(query).all()
        return [MonitorSlice(**row._mapping, tallies={}) for row in reversed(found)]

    def save_check(self, check: Check, *, state: Callable[[int | None], Mapping[str, Any]]) -> int | None:
        """Write a check with the state after it, and return the key of its request, if it has one.

        :param state: returns the state, by the key of the request
        :raises ModelwayError: another check of the endpoint was written since ``check.before`` was read
        """
        before = check.before
        with writing(self._engine) as connection:
            found = _state(connection, before.endpoint, lock=True)
            if (found.revision if found else 0) != before.revision:
                raise ModelwayError("another check was faster", where=f"endpoint {before.endpoint}")
            request = _add_request(connection, check.request) if check.request else None
            values = {"model": before.model, "revision": before.revision + 1, "updated_at": check.at}
            values["state"] = plain(state(request))
            if found is None:
                connection.execute(insert(monitor_states).values(endpoint=before.endpoint, **values))
            else:
                connection.execute(update(monitor_states).filter_by(endpoint=before.endpoint).values(values))
            _add_counts(connection, check)
            return request

    def requests(self, model: str, *, limit: int = 50) -> list[RetrainRequest]:
        """Return the requests to retrain a model, newest first."""
        query = select(retrain_requests).filter_by(model=model).order_by(retrain_requests.c.id.desc()).limit(limit)
        with reading(self._engine) as connection:
            return [RetrainRequest(**row._mapping) for row in connection.execute(query)]

    def record_sent(self, request: int, *, at: datetime) -> None:
        """Record that the event of a request was sent."""
        self._update(request, sent_at=at)

    def record_answer(self, request: int, *, run: str) -> None:
        """Record the run that a request started, by its key; the first one stays."""
        query = update(retrain_requests).where(retrain_requests.c.id == request, retrain_requests.c.run_id.is_(None))
        with writing(self._engine) as connection:
            connection.execute(query.values(run_id=run))

    def record_outcome(self, request: int, *, outcome: str = FAILED) -> None:
        """Record how the run of a request ended: ``version 7``, or ``failed``."""
        self._update(request, outcome=outcome)

    def add_labels(self, model: str, values: Mapping[str, float], *, actor: str = "cli") -> AddedLabels:
        """Add what requests should have been answered, by their ids; a label that is there gets its new value.

        :raises UnknownModel: there is no such model
        """
        now, names = datetime.now(UTC), sorted(values)
        found = AddedLabels()
        with writing(self._engine) as connection:
            model_key(connection, model, lock=True)
            for at in range(0, len(names), _AT_ONCE):
                part = {name: values[name] for name in names[at : at + _AT_ONCE]}
                found = _add_labels(connection, model, part, found, actor=actor, now=now)
        return found

    def labelled(self, model: str, version: int, *, since: datetime) -> tuple[int, int]:
        """Return how many predictions of a version since a moment have a label, and how many of them are right."""
        right = func.sum((labels.c.value == predictions.c.value).cast(predictions.c.version.type))
        with reading(self._engine) as connection:
            count, sum_ = connection.execute(_of_labelled(model, version, since, right)).one()
        return int(count), int(sum_ or 0)

    def errors(self, model: str, version: int, *, since: datetime) -> tuple[int, float, float]:
        """Return how many predicted numbers have a label, the sum of their absolute errors, and that of the squares."""
        error = predictions.c.value - labels.c.value
        sums = (func.sum(func.abs(error)), func.sum(error * error))
        with reading(self._engine) as connection:
            count, total, squares = connection.execute(_of_labelled(model, version, since, *sums)).one()
        return int(count), float(total or 0), float(squares or 0)

    def _update(self, request: int, **values: Any) -> None:
        with writing(self._engine) as connection:
            connection.execute(update(retrain_requests).where(retrain_requests.c.id == request).values(values))


def _of_labelled(model: str, version: int, since: datetime, *sums: ColumnElement[Any]) -> Select[Any]:
    """Select the number of a version's predictions since a moment that have a label, and sums over them."""
    of_request = (labels.c.model == predictions.c.model) & (labels.c.request_id == predictions.c.request_id)
    query = select(func.count(), *sums).select_from(predictions.join(labels, of_request))
    return query.where(predictions.c.model == model, predictions.c.version == version, predictions.c.at > since)


def _state(connection: Connection, endpoint: str, *, lock: bool = False) -> MonitorState | None:
    query = select(monitor_states).filter_by(endpoint=endpoint)
    row: Row[Any] | None = connection.execute(query.with_for_update() if lock else query).one_or_none()
    return None if row is None else MonitorState(**row._mapping)


def _add_request(connection: Connection, request: RetrainRequest) -> int:
    """Write a request, and the event that the page of the version shows."""
    row = {name: value for name, value in vars(request).items() if name != "id"} | {"numbers": plain(request.numbers)}
    key: int = connection.execute(insert(retrain_requests).values(row).returning(retrain_requests.c.id)).scalar_one()
    keys = locked_keys(connection, request.model, request.version)
    detail = {"endpoint": request.endpoint, "rule": request.rule, "reason": request.reason, "request": key}
    add_event(connection, keys, kind="retrain-requested", actor="monitor", run_id=None, detail=detail)
    return key


def _add_counts(connection: Connection, check: Check) -> None:
    if check.counted is not None:
        row = vars(check.counted) | {"tallies": plain(check.counted.tallies), "numbers": plain(check.counted.numbers)}
        connection.execute(insert(monitor_slices).values(row))
        found = {"model": check.before.model, "version": check.counted.version, "at": check.at}
        insert_new(connection, predictions, [found | vars(each) for each in _once(check.predictions)])
    if check.oldest is not None:
        of_endpoint = monitor_slices.c.endpoint == check.before.endpoint
        connection.execute(delete(monitor_slices).where(of_endpoint, monitor_slices.c.end < check.oldest))
        for table in (predictions, labels):
            old = (table.c.model == check.before.model) & (table.c.at < check.oldest)
            connection.execute(delete(table).where(old))


def _once(found: Sequence[Any]) -> list[Any]:
    """Return the first prediction of each id: a client may use one twice."""
    return list({each.request_id: each for each in reversed(found)}.values())


def _add_labels(
    connection: Connection, model: str, values: Mapping[str, float], found: AddedLabels, *, actor: str, now: datetime
) -> AddedLabels:
    of_model = labels.c.model == model
    query = select(labels.c.request_id, labels.c.value).where(of_model, labels.c.request_id.in_(values))
    before = {name: value for name, value in connection.execute(query)}
    is_known = select(predictions.c.request_id).filter_by(model=model).where(predictions.c.request_id.in_(values))
    known = {name for (name,) in connection.execute(is_known)}
    rows = [
        {"model": model, "request_id": name, "value": value, "at": now, "actor": actor}
        for name, value in values.items()
        if name not in before
    ]
    insert_new(connection, labels, rows)
    changed = [name for name, value in before.items() if values[name] != value]
    for name in changed:
        query_of_one = update(labels).where(of_model, labels.c.request_id == name)
        connection.execute(query_of_one.values(value=values[name], at=now, actor=actor))
    return AddedLabels(
        new=found.new + len(rows),
        same=found.same + len(before) - len(changed),
        changed=found.changed + len(changed),
        unknown=found.unknown + len(values.keys() - known),
    )
