"""The record of endpoints: where they serve, and the weights of their versions."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from sqlalchemy import Connection, delete, insert, select

from modelway.errors import ModelwayError
from modelway.lineage.export.outbox import put_event
from modelway.lineage.read import queries
from modelway.lineage.read.endpoint_state import STARTED, STOPPED, read_state
from modelway.lineage.read.keys import model_key, version_key
from modelway.lineage.records.version import WeightChange
from modelway.lineage.schema.engine import reading, writing
from modelway.lineage.schema.part import LineagePart
from modelway.lineage.schema.tables import deployments, versions, weight_history
from modelway.lineage.write.events import add_event


class EndpointRecords(LineagePart):
    """Reads and writes of what endpoints do; a write is one transaction and can be repeated."""

    def weights(self, endpoint: str) -> dict[int, int]:
        """Return the current percentage of each version that the endpoint has had, by version number."""
        query = select(versions.c.number, deployments.c.weight).join(deployments)
        query = query.where(deployments.c.endpoint == endpoint).order_by(versions.c.number)
        with reading(self._engine) as connection:
            return {number: weight for number, weight in connection.execute(query)}

    def weight_history(
        self, endpoint: str, *, dags: Collection[str] | None = None, limit: int | None = None
    ) -> list[WeightChange]:
        """Return the changes of the endpoint's weights, newest first; with ``dags``, of versions that they made."""
        of_endpoint = weight_history.c.endpoint == endpoint
        with reading(self._engine) as connection:
            return queries.read_weight_history(connection, of_endpoint, dags=dags, limit=limit)

    def record_weights(
        self,
        *,
        endpoint: str,
        model: str,
        weights: Mapping[int, int],
        others: Mapping[str, Mapping[int, int]] | None = None,
        actor: str = "airflow",
        run_id: str | None = None,
    ) -> bool:
        """Record an endpoint's weights (per cent by version) and return whether any changed.

        A version that is left out goes to 0; only changes go into the history.

        :param others: the weights of versions of other models at this endpoint, by model
        :raises ModelwayError: a weight is not within 0 to 100
        """
        by_model = {model: weights, **(others or {})}
        if any(not 0 <= weight <= 100 for each in by_model.values() for weight in each.values()):
            raise ModelwayError(f"weights must lie within 0 and 100, got {dict(weights)}", where=f"endpoint {endpoint}")
        with writing(self._engine) as connection:
            # always in the same order, so that two writers do not wait for each other
            keys = {name: model_key(connection, name, lock=True) for name in sorted(by_model)}
            wanted = {
                version_key(connection, name, keys[name], number): weight
                for name, each in by_model.items()
                for number, weight in each.items()
            }
            changed = _write_weights(connection, endpoint, wanted, actor=actor, run_id=run_id)
            if not changed:
                return False
            detail: dict[str, object] = {"endpoint": endpoint, "weights": dict(weights)}
            if others:
                detail["others"] = {name: dict(each) for name, each in others.items()}
            about = {"model": keys[model]}
            at = add_event(connection, about, kind="weights-set", actor=actor, run_id=run_id, detail=detail)
            for version, weight in changed:
                fact = {"endpoint": endpoint, "weight": weight, "actor": actor, "run_id": run_id}
                put_event(connection, version, kind="weight-set", at=at, **fact)
            return True

    def is_endpoint_stopped(self, *, endpoint: str, model: str) -> bool:
        """Return whether the last that was recorded of an endpoint is that somebody stopped it.

        :raises UnknownModel: nothing was ever registered for the model
        """
        with reading(self._engine) as connection:
            state = read_state(connection, model_key(connection, model), endpoint=endpoint)
            return state is not None and state.stopped_at is not None

    def record_endpoint(
        self,
        *,
        endpoint: str,
        model: str,
        url: str,
        is_stopped: bool = False,
        actor: str = "airflow",
        run_id: str | None = None,
    ) -> bool:
        """Record where an endpoint serves, or that somebody stopped it, and return whether that is new.

        :raises UnknownModel: nothing was ever registered for the model
        """
        with writing(self._engine) as connection:
            key = model_key(connection, model, lock=True)
            before = read_state(connection, key, endpoint=endpoint)
            if before is not None and (before.url, before.stopped_at is not None) == (url, is_stopped):
                return False
            kind, detail = STOPPED if is_stopped else STARTED, {"endpoint": endpoint, "url": url}
            add_event(connection, {"model": key}, kind=kind, actor=actor, run_id=run_id, detail=detail)
            return True


def _write_weights(
    connection: Connection, endpoint: str, wanted: Mapping[int, int], *, actor: str, run_id: str | None
) -> list[tuple[int, int]]:
    """Write the weights that changed, and return them by the versions' keys."""
    query = select(deployments.c.version, deployments.c.weight).where(deployments.c.endpoint == endpoint)
    current: dict[int, int] = {version: weight for version, weight in connection.execute(query)}
    target = dict.fromkeys(current, 0) | dict(wanted)
    changed = [(version, weight) for version, weight in target.items() if current.get(version) != weight]
    now = datetime.now(UTC)
    for version, weight in changed:
        row = {"endpoint": endpoint, "version": version}
        connection.execute(delete(deployments).filter_by(**row))
        connection.execute(insert(deployments), row | {"weight": weight, "since": now})
        line = row | {"weight": weight, "at": now, "actor": actor, "run_id": run_id}
        connection.execute(insert(weight_history), line)
    return changed
