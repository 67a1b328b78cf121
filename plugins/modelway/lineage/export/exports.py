"""Exports in the lineage's facade: runs that begin and fail, whole models, how far each exporter is."""

import time
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from sqlalchemy import Connection, case, func, select, update

from modelway.lineage.export.delivery import deliver
from modelway.lineage.export.outbox import WAITING, put, put_all
from modelway.lineage.export.run_facts import candidate_facts, run_to_dict
from modelway.lineage.exporters.base import Destination
from modelway.lineage.read.failures import read_account
from modelway.lineage.read.keys import model_key
from modelway.lineage.read.queries import read_aliases
from modelway.lineage.read.run_parts import read_candidates
from modelway.lineage.records.exports import Delivery, ExporterState
from modelway.lineage.records.version import RunRecord
from modelway.lineage.schema.asset_tables import outbox
from modelway.lineage.schema.engine import reading, writing
from modelway.lineage.schema.part import LineagePart
from modelway.lineage.schema.tables import deployments, images, runs, versions

#: rows of started and failed runs that are searched for one of them
_NEWEST = 1000


class Exports(LineagePart):
    """What other systems receive of the lineage."""

    def record_run_started(self, *, model: str, run: RunRecord) -> None:
        """Store that a run has started to make a version, once: not at each attempt, nor when it is cleared later."""
        whose = {"dag_id": run.dag_id, "run_id": run.run_id}
        with writing(self._engine) as connection:
            kind, _ = _last_of_run(connection, **whose).get(model, ("", None))
            if kind == "run-started" or read_account(connection, model=model, **whose).version is not None:
                return
            put(connection, kind="run-started", fact={"model": model, "run": run_to_dict(run)})

    def record_run_failed(self, *, dag_id: str, run_id: str) -> int:
        """Store that a run failed, for each started model without a made or reused version; return how many."""
        with writing(self._engine) as connection:
            stored = 0
            for model, (kind, run) in _last_of_run(connection, dag_id=dag_id, run_id=run_id).items():
                if kind == "run-failed":
                    continue
                account = read_account(connection, model=model, dag_id=dag_id, run_id=run_id)
                if account.version is None:
                    unresolved = [failure for failure in account.failures if failure.resolved_by is None]
                    error = unresolved[-1].cause if unresolved else "the DAG run failed"
                    advice = unresolved[-1].advice if unresolved else ""
                    fact = {"model": model, "run": run, "error": error, "advice": advice}
                    stored += put(connection, kind="run-failed", fact=fact)
            return stored

    def add_model(self, model: str, *, exporters: Collection[str]) -> int:
        """Store each version of a model and then its aliases for the exporters that never got them; return how many.

        :raises UnknownModel: nothing was ever registered for it
        """
        with writing(self._engine) as connection:
            key = model_key(connection, model, lock=True)
            query = select(versions.c.number, versions.c.created_at, versions.c.run, versions.c.created_by)
            query = query.add_columns(runs.c.dag_id, runs.c.run_id)
            query = query.join(runs, versions.c.run == runs.c.id).where(versions.c.model == key)
            made = connection.execute(query.order_by(versions.c.number)).all()
            aliases = read_aliases(connection, key)
            stored = 0
            for exporter in exporters:
                there = _exported_versions(connection, exporter, model)
                for row in made:
                    if row.number not in there:
                        fact = {"model": model, "version": row.number, "actor": row.created_by, "run_id": row.run_id}
                        only = {"at": row.created_at, "exporters": [exporter]}
                        stored += put(connection, kind="version-registered", fact=fact, **only)
                        whose = RunRecord(dag_id=row.dag_id, run_id=row.run_id, actor=row.created_by)
                        of_sweep = read_candidates(connection, row.run)
                        facts = candidate_facts(model, whose, of_sweep, version=row.number)
                        stored += put_all(connection, kind="candidate-ended", facts=facts, **only)
                for alias, number in aliases.items() if len(there) < len(made) else ():
                    why = "the model is exported as a whole"
                    fact = {"model": model, "version": number, "alias": alias, "reason": why}
                    stored += put(connection, kind="alias-set", fact=fact, exporters=[exporter])
                for kind, fact in _later_facts(connection, key) if len(there) < len(made) else ():
                    stored += put(connection, kind=kind, fact={"model": model, **fact}, exporters=[exporter])
            return stored

    def states(self) -> list[ExporterState]:
        """Return the progress of each exporter that has ever had a row, by name."""
        waiting = func.sum(case((WAITING, 1), else_=0)).label("waiting")
        sent = func.sum(case((outbox.c.sent_at.is_not(None), 1), else_=0)).label("sent")
        refused = func.sum(case((outbox.c.refused_at.is_not(None), 1), else_=0)).label("refused")
        query = select(outbox.c.exporter, waiting, sent, refused).group_by(outbox.c.exporter)
        with reading(self._engine) as connection:
            return [_state(connection, row) for row in connection.execute(query.order_by(outbox.c.exporter)).all()]

    def retry_refused(self) -> int:
        """Queue the rejected rows again, in their old place in the order; return how many."""
        with writing(self._engine) as connection:
            query = update(outbox).where(outbox.c.refused_at.is_not(None))
            return connection.execute(query.values(refused_at=None, error="")).rowcount

    def flush(self, destinations: Iterable[Destination], *, seconds: float = 10.0) -> list[Delivery]:
        """Send what waits, each exporter on its own, and return after about ``seconds`` at the latest.

        :raises ModelwayError: the lineage database does not answer
        """
        return deliver(self._engine, destinations, until=time.monotonic() + seconds)


def _last_of_run(connection: Connection, *, dag_id: str, run_id: str) -> dict[str, tuple[str, Any]]:
    """Return the kind of the last fact about a run's start or failure and the run's data in it, by model."""
    query = select(outbox.c.kind, outbox.c.fact).where(outbox.c.kind.in_(("run-started", "run-failed")))
    found: dict[str, tuple[str, Any]] = {}
    for kind, fact in connection.execute(query.order_by(outbox.c.id.desc()).limit(_NEWEST)):
        if (fact["run"]["dag_id"], fact["run"]["run_id"]) == (dag_id, run_id):
            found.setdefault(fact["model"], (kind, fact["run"]))
    return found


def _later_facts(connection: Connection, model: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the images of a model's versions and what they serve, as they are now."""
    number, of_model = versions.c.number.label("version"), versions.c.model == model
    built = select(number, images.c.builder, images.c.digest, images.c.reference).join(images)
    serving = select(number, deployments.c.endpoint, deployments.c.weight).join(deployments)
    for kind, query in (
        ("image-built", built.where(of_model).order_by(images.c.id)),
        ("weight-set", serving.where(of_model, deployments.c.weight > 0).order_by(deployments.c.endpoint)),
    ):
        yield from ((kind, dict(row._mapping)) for row in connection.execute(query))


def _exported_versions(connection: Connection, exporter: str, model: str) -> set[int]:
    query = select(outbox.c.fact).where(outbox.c.exporter == exporter, outbox.c.kind == "version-registered")
    return {fact["version"] for fact in connection.execute(query).scalars() if fact["model"] == model}


def _state(connection: Connection, row: Any) -> ExporterState:
    own = outbox.c.exporter == row.exporter
    head = connection.execute(select(outbox).where(own, WAITING).order_by(outbox.c.id).limit(1)).first()
    of_refused = select(outbox.c.error).where(own, outbox.c.refused_at.is_not(None)).order_by(outbox.c.id.desc())
    error = (head.error if head else "") or connection.execute(of_refused.limit(1)).scalar() or ""
    return ExporterState(
        exporter=row.exporter,
        waiting=int(row.waiting),
        sent=int(row.sent),
        refused=int(row.refused),
        oldest=head.at if head else None,
        error=error,
        claimed_until=head.claimed_until if head else None,
    )
