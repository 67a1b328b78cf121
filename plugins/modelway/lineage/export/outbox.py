"""What other systems are still to be told: written in the transaction of the fact itself, one row for each exporter.

Of two facts the later one has the higher id as far as one could know of the other: whatever happens to a model's
versions is written while the model's row is locked. ``delivery`` sends the rows.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, and_, case, func, insert, select, update

from modelway.errors import UnknownModel
from modelway.lineage.exporters.base import exporter_kinds
from modelway.lineage.records.addresses import public_address
from modelway.lineage.records.values import plain
from modelway.lineage.records.version import DatasetRecord, RunRecord
from modelway.lineage.schema.asset_tables import outbox
from modelway.lineage.schema.engine import reading, writing
from modelway.lineage.schema.tables import models, runs, versions
from modelway.lineage.write.failures import account_of

#: the option of an engine's connections that names the exporters
OPTION = "modelway_exporters"
#: rows of begun and failed runs that are looked through for one of them
_NEWEST = 1000
#: what is told of a run before it has made a version: no configuration, which may be large or name secrets
_TOLD_OF_RUN = (
    *("dag_id", "run_id", "actor", "run_type", "started_at", "code_digest", "commit", "branch", "dirty", "repository"),
    *("seed", "inputs_digest", "interval_start", "interval_end", "partition", "run_after", "reason"),
)
_TIMES = ("started_at", "interval_start", "interval_end", "run_after")
WAITS = and_(outbox.c.sent_at.is_(None), outbox.c.refused_at.is_(None))


@dataclass(frozen=True, kw_only=True)
class ExporterState:
    """How far one exporter is."""

    exporter: str
    waiting: int = 0
    sent: int = 0
    refused: int = 0
    oldest: datetime | None = None
    """When the oldest of those that wait happened."""
    error: str = ""
    """Why the first that waits could not be sent, else why the last refused one was refused."""
    claimed_until: datetime | None = None
    """Until when somebody is sending the first that waits."""


def with_exporters(engine: Engine, exporters: Iterable[str]) -> Engine:
    """Return the engine so that facts written through it are kept for these exporters, too."""
    return engine.execution_options(**{OPTION: tuple(exporters)})


def is_heard(connection: Connection) -> bool:
    """Say whether any exporter is told what is written through this connection."""
    return bool(connection.get_execution_options().get(OPTION, ()))


def put(
    connection: Connection,
    *,
    kind: str,
    fact: Mapping[str, Any],
    at: datetime | None = None,
    exporters: Collection[str] | None = None,
) -> int:
    """Keep a fact for each exporter that wants it, within the caller's transaction; return for how many.

    :param exporters: in place of those that the engine knows
    """
    known = connection.get_execution_options().get(OPTION, ()) if exporters is None else exporters
    wanting = [name for name in known if kind in exporter_kinds(name)]
    now = at or datetime.now(UTC)
    rows = [
        {"exporter": name, "kind": kind, "fact": plain(fact), "at": now, "attempts": 0, "error": ""} for name in wanting
    ]
    if rows:
        connection.execute(insert(outbox), rows)
    return len(rows)


def put_event(connection: Connection, keys: Mapping[str, Any], *, kind: str, at: datetime, **told: Any) -> None:
    """Keep what happened to a model or a version (``keys``) for each exporter that wants it."""
    known = connection.get_execution_options().get(OPTION, ())
    if not any(kind in exporter_kinds(name) for name in known):
        return
    query = select(models.c.name, versions.c.number).join(versions, versions.c.model == models.c.id)
    if (row := connection.execute(query.where(versions.c.id == keys.get("version"))).first()) is not None:
        put(connection, kind=kind, at=at, fact={"model": row.name, "version": row.number, **told})


def put_started(engine: Engine, *, model: str, run: RunRecord) -> None:
    """Keep that a run has begun to make a version, once: not at each try, and not when it is cleared with a version."""
    whose = {"dag_id": run.dag_id, "run_id": run.run_id}
    with writing(engine) as connection:
        kind, _ = _last_of_run(connection, **whose).get(model, ("", None))
        if kind == "run-started" or account_of(connection, model=model, **whose).version is not None:
            return
        put(connection, kind="run-started", fact={"model": model, "run": _run_to_dict(run)})


def put_failed(engine: Engine, *, dag_id: str, run_id: str) -> int:
    """Keep that a run failed, for each model that it began and made or took no version of; return how many rows."""
    with writing(engine) as connection:
        kept = 0
        for model, (kind, run) in _last_of_run(connection, dag_id=dag_id, run_id=run_id).items():
            if kind == "run-failed":
                continue
            account = account_of(connection, model=model, dag_id=dag_id, run_id=run_id)
            if account.version is None:
                open_ones = [failure for failure in account.failures if failure.mended_by is None]
                error = open_ones[-1].cause if open_ones else "the DAG run failed"
                advice = open_ones[-1].advice if open_ones else ""
                fact = {"model": model, "run": run, "error": error, "advice": advice}
                kept += put(connection, kind="run-failed", fact=fact)
        return kept


def _last_of_run(connection: Connection, *, dag_id: str, run_id: str) -> dict[str, tuple[str, Any]]:
    """Return the kind of the last fact that a run began or failed and what it tells of the run, by model."""
    query = select(outbox.c.kind, outbox.c.fact).where(outbox.c.kind.in_(("run-started", "run-failed")))
    found: dict[str, tuple[str, Any]] = {}
    for kind, fact in connection.execute(query.order_by(outbox.c.id.desc()).limit(_NEWEST)):
        if (fact["run"]["dag_id"], fact["run"]["run_id"]) == (dag_id, run_id):
            found.setdefault(fact["model"], (kind, fact["run"]))
    return found


def put_all(engine: Engine, model: str, *, exporters: Collection[str]) -> int:
    """Keep each version of a model and then its aliases for the exporters that were never told; return how many rows.

    :raises UnknownModel: nothing was ever registered for it
    """
    from modelway.lineage.read.queries import read_aliases

    with writing(engine) as connection:
        key = connection.execute(select(models.c.id).where(models.c.name == model).with_for_update()).scalar()
        if key is None:
            known = connection.execute(select(models.c.name).order_by(models.c.name)).scalars().all()
            raise UnknownModel(f"the lineage has no model '{model}'", known=known, given=model)
        query = select(versions.c.number, versions.c.created_at, runs.c.run_id, versions.c.created_by)
        made = connection.execute(
            query.join(runs, versions.c.run == runs.c.id).where(versions.c.model == key).order_by(versions.c.number)
        ).all()
        aliases = read_aliases(connection, key)
        kept = 0
        for exporter in exporters:
            told = _told(connection, exporter, model)
            for row in made:
                if row.number not in told:
                    fact = {"model": model, "version": row.number, "actor": row.created_by, "run_id": row.run_id}
                    only = {"at": row.created_at, "exporters": [exporter]}
                    kept += put(connection, kind="version-registered", fact=fact, **only)
            for alias, number in aliases.items() if len(told) < len(made) else ():
                fact = {"model": model, "version": number, "alias": alias, "reason": "the model is exported as a whole"}
                kept += put(connection, kind="alias-set", fact=fact, exporters=[exporter])
        return kept


def _told(connection: Connection, exporter: str, model: str) -> set[int]:
    query = select(outbox.c.fact).where(outbox.c.exporter == exporter, outbox.c.kind == "version-registered")
    return {fact["version"] for fact in connection.execute(query).scalars() if fact["model"] == model}


def states(engine: Engine) -> list[ExporterState]:
    """Return how far each exporter is that anything was ever kept for, by name."""
    waiting = func.sum(case((WAITS, 1), else_=0)).label("waiting")
    sent = func.sum(case((outbox.c.sent_at.is_not(None), 1), else_=0)).label("sent")
    refused = func.sum(case((outbox.c.refused_at.is_not(None), 1), else_=0)).label("refused")
    query = select(outbox.c.exporter, waiting, sent, refused).group_by(outbox.c.exporter).order_by(outbox.c.exporter)
    with reading(engine) as connection:
        return [_state(connection, row) for row in connection.execute(query).all()]


def _state(connection: Connection, row: Any) -> ExporterState:
    own = outbox.c.exporter == row.exporter
    head = connection.execute(select(outbox).where(own, WAITS).order_by(outbox.c.id).limit(1)).first()
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


def unrefuse(engine: Engine) -> int:
    """Let what was refused wait once more, in its old place in the order; return how many rows."""
    with writing(engine) as connection:
        query = update(outbox).where(outbox.c.refused_at.is_not(None))
        return connection.execute(query.values(refused_at=None, error="")).rowcount


def _run_to_dict(run: RunRecord) -> dict[str, Any]:
    told = {name: plain(getattr(run, name)) for name in _TOLD_OF_RUN}
    datasets = [plain(dataset) | {"uri": public_address(dataset.uri)} for dataset in run.datasets]
    return told | {"datasets": datasets}


def run_from_dict(told: Mapping[str, Any]) -> RunRecord:
    """Return the run that a fact tells of, as far as it does."""
    values: dict[str, Any] = {name: told.get(name) for name in _TOLD_OF_RUN}
    values |= {name: datetime.fromisoformat(told[name]) for name in _TIMES if told.get(name)}
    known = {field.name for field in fields(DatasetRecord)}
    return RunRecord(
        **values,
        datasets=tuple(
            DatasetRecord(**{name: value for name, value in dataset.items() if name in known})
            for dataset in told["datasets"]
        ),
    )
