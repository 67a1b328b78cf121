"""Failed tries of tasks: written as they happen, and read for the account of a run.

Each function works inside the caller's transaction.
"""

from collections.abc import Iterable
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import Connection, select, update
from sqlalchemy.dialects import postgresql, sqlite

from modelway.lineage.records.values import storable
from modelway.lineage.records.version import EvaluationRecord, FailureRecord, RunAccount
from modelway.lineage.schema.tables import evaluations, events, failures, models, runs, versions

#: a longer line of a log is cut: a progress bar can be one line of megabytes
LONGEST_LINE = 2000
_UNIQUE = ("dag_id", "run_id", "key", "attempt")
_COLUMNS = tuple(field.name for field in fields(FailureRecord))


def write_failure(connection: Connection, record: FailureRecord) -> None:
    """Write a failed try; told again, the later words hold."""
    row = {name: storable(value) if isinstance(value, str) else value for name, value in asdict(record).items()}
    row["last_lines"] = [storable(line)[:LONGEST_LINE] for line in record.last_lines]
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    news = {name: value for name, value in row.items() if name not in _UNIQUE}
    connection.execute(dialect.insert(failures).values(row).on_conflict_do_update(index_elements=_UNIQUE, set_=news))


def mend_failures(connection: Connection, *, dag_id: str, run_id: str, key: str, attempt: int) -> int:
    """Note at the tries that failed that a later one succeeded, and return at how many."""
    query = update(failures).filter_by(dag_id=dag_id, run_id=run_id, key=key)
    query = query.where(failures.c.attempt < attempt, failures.c.mended_by.is_(None))
    return connection.execute(query.values(mended_by=attempt)).rowcount


def runs_named(connection: Connection, run_id: str) -> list[tuple[str, str]]:
    """Return the model and the DAG of each run of this id that made a version or had a failure, sorted."""
    made = select(models.c.name, runs.c.dag_id).join(models, runs.c.model == models.c.id)
    failed = select(failures.c.model, failures.c.dag_id).where(failures.c.run_id == run_id)
    found = connection.execute(made.where(runs.c.run_id == run_id).union(failed)).all()
    return sorted((model, dag_id) for model, dag_id in found)


def last_run(connection: Connection, model: str) -> tuple[str, str] | None:
    """Return the DAG and the id of the model's run that was heard of last; None without any."""
    failed = select(failures.c.at, failures.c.dag_id, failures.c.run_id).where(failures.c.model == model)
    made = select(versions.c.created_at.label("at"), runs.c.dag_id, runs.c.run_id)
    made = made.join(runs, versions.c.run == runs.c.id).join(models, versions.c.model == models.c.id)
    newest = (
        connection.execute(failed.order_by(failures.c.at.desc(), failures.c.id.desc()).limit(1)).first(),
        connection.execute(made.where(models.c.name == model).order_by(versions.c.number.desc()).limit(1)).first(),
    )
    last = max((row for row in newest if row is not None), key=lambda row: row.at, default=None)
    return (last.dag_id, last.run_id) if last else None


def models_heard_of(connection: Connection) -> list[str]:
    """Return the names of all models with a version or a failure, sorted."""
    return sorted(connection.execute(select(models.c.name).union(select(failures.c.model))).scalars())


def account_of(connection: Connection, *, model: str, dag_id: str, run_id: str) -> RunAccount:
    """Return what is known of how a run went."""
    run = {"model": model, "dag_id": dag_id, "run_id": run_id}
    rows = connection.execute(select(failures).filter_by(**run).order_by(failures.c.at, failures.c.id))
    return RunAccount(
        **run,
        version=_version(connection, **run),
        failures=_by_task([_record(row) for row in rows]),
        evaluations=_noted(connection, **run),
    )


def _by_task(found: Iterable[FailureRecord]) -> tuple[FailureRecord, ...]:
    """Put the tries of a task together, tasks in the order of their first."""
    tasks: dict[str, list[FailureRecord]] = {}
    for one in found:
        tasks.setdefault(one.key, []).append(one)
    return tuple(one for tries in tasks.values() for one in sorted(tries, key=lambda one: one.attempt))


def _record(row: Any) -> FailureRecord:
    values = {name: getattr(row, name) for name in _COLUMNS}
    return FailureRecord(**values | {"last_lines": tuple(row.last_lines)})


def _of_run(model: str, dag_id: str, run_id: str) -> tuple[Any, ...]:
    return (models.c.name == model, runs.c.dag_id == dag_id, runs.c.run_id == run_id)


def _version(connection: Connection, *, model: str, dag_id: str, run_id: str) -> int | None:
    """Return the version that a run made or, where it made none, the one that it took."""
    made = select(versions.c.number).join(runs, versions.c.run == runs.c.id)
    made = made.join(models, versions.c.model == models.c.id).where(*_of_run(model, dag_id, run_id))
    if (number := connection.execute(made).scalar()) is not None:
        return int(number)
    taken = select(versions.c.number, events.c.detail).join(versions, events.c.version == versions.c.id)
    taken = taken.join(models, versions.c.model == models.c.id).order_by(events.c.id)
    taken = taken.where(events.c.kind == "version-reused", events.c.run_id == run_id, models.c.name == model)
    found = [int(row.number) for row in connection.execute(taken) if row.detail.get("dag_id") == dag_id]
    return found[-1] if found else None


def _noted(connection: Connection, *, model: str, dag_id: str, run_id: str) -> tuple[EvaluationRecord, ...]:
    query = select(evaluations).join(runs, evaluations.c.run == runs.c.id).join(models, runs.c.model == models.c.id)
    query = query.where(*_of_run(model, dag_id, run_id), evaluations.c.note != "").order_by(evaluations.c.id)
    return tuple(
        EvaluationRecord(checkpoint=row.checkpoint, metrics={}, stage=row.stage, step=row.step, note=row.note)
        for row in connection.execute(query)
    )
