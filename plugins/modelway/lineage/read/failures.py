"""How a run went: its failed attempts, what resolved them, the version that it made or reused."""

from collections.abc import Collection, Iterable
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, select

from modelway.errors import UnknownRun
from modelway.lineage.read.models import read_models
from modelway.lineage.records.version import EvaluationRecord, FailureRecord, RunAccount
from modelway.lineage.schema.engine import reading
from modelway.lineage.schema.part import LineagePart
from modelway.lineage.schema.tables import evaluations, events, failures, models, runs, versions

Dags = Collection[str] | None
_COLUMNS = tuple(field.name for field in fields(FailureRecord))


class RunAccounts(LineagePart):
    """Reads how runs went."""

    def account(self, wanted: str, *, model: str | None = None, dags: Dags = None) -> RunAccount:
        """Return how a run went: the run with this id or, for a model's name, the model's last run.

        :param model: whose run is meant, where several models have one of this id
        :param dags: as if there were only runs of these
        :raises UnknownRun: there is no such run, or several
        """
        with reading(self._engine) as connection:
            found = _runs_named(connection, wanted, dags)
            own = [(name, dag_id) for name, dag_id in found if model in (None, name)]
            if len(own) > 1:
                raise UnknownRun(
                    f"several models have a run '{wanted}'",
                    known=[name for name, _ in own],
                    do="Name one of them with --model",
                )
            if own:
                return read_account(connection, model=own[0][0], dag_id=own[0][1], run_id=wanted)
            if model in (None, wanted) and (last := _last_run(connection, wanted, dags)):
                return read_account(connection, model=wanted, dag_id=last[0], run_id=last[1])
            what = f"model '{model}' has no run '{wanted}'" if model else f"no run and no model is called '{wanted}'"
            do = "A run is known here when one of its tasks has failed or it has made a version"
            raise UnknownRun(what, known=_known_models(connection, dags), given=model or wanted, do=do)

    def accounts_of_run(self, *, dag_id: str, run_id: str) -> list[RunAccount]:
        """Return how a DAG's run went, by the model that it was for; empty where nothing of it is recorded."""
        with reading(self._engine) as connection:
            found = _runs_named(connection, run_id, [dag_id])
            return [read_account(connection, model=model, dag_id=dag_id, run_id=run_id) for model, _ in found]


def _runs_named(connection: Connection, run_id: str, dags: Dags) -> list[tuple[str, str]]:
    """Return the model and the DAG of each run of this id that made a version or had a failure, sorted."""
    made = select(models.c.name, runs.c.dag_id).join(models, runs.c.model == models.c.id)
    failed = select(failures.c.model, failures.c.dag_id).where(failures.c.run_id == run_id)
    found = connection.execute(made.where(runs.c.run_id == run_id).union(failed)).all()
    return sorted((model, dag_id) for model, dag_id in found if dags is None or dag_id in dags)


def _last_run(connection: Connection, model: str, dags: Dags) -> tuple[str, str] | None:
    """Return the DAG and the id of the model's run with the newest record; None without any."""
    failed = select(failures.c.at, failures.c.dag_id, failures.c.run_id).where(failures.c.model == model)
    made = select(versions.c.created_at.label("at"), runs.c.dag_id, runs.c.run_id)
    made = made.join(runs, versions.c.run == runs.c.id).join(models, versions.c.model == models.c.id)
    if dags is not None:
        failed, made = failed.where(failures.c.dag_id.in_(dags)), made.where(runs.c.dag_id.in_(dags))
    newest = (
        connection.execute(failed.order_by(failures.c.at.desc(), failures.c.id.desc()).limit(1)).first(),
        connection.execute(made.where(models.c.name == model).order_by(versions.c.number.desc()).limit(1)).first(),
    )
    last = max((row for row in newest if row is not None), key=lambda row: row.at, default=None)
    return (last.dag_id, last.run_id) if last else None


def _known_models(connection: Connection, dags: Dags) -> list[str]:
    """Return the names of all models with a version or a failure, sorted."""
    if dags is not None:
        return [model.name for model in read_models(connection, dags=dags)]
    return sorted(connection.execute(select(models.c.name).union(select(failures.c.model))).scalars())


def read_account(connection: Connection, *, model: str, dag_id: str, run_id: str) -> RunAccount:
    """Return how a run went, as far as that was recorded."""
    run = {"model": model, "dag_id": dag_id, "run_id": run_id}
    rows = connection.execute(select(failures).filter_by(**run).order_by(failures.c.at, failures.c.id))
    return RunAccount(
        **run,
        version=_version(connection, **run),
        failures=_by_task([_record(row) for row in rows]),
        evaluations=_evaluations_with_notes(connection, **run),
    )


def _by_task(found: Iterable[FailureRecord]) -> tuple[FailureRecord, ...]:
    """Put the attempts of a task together, tasks in the order of their first."""
    tasks: dict[str, list[FailureRecord]] = {}
    for one in found:
        tasks.setdefault(one.key, []).append(one)
    return tuple(one for attempts in tasks.values() for one in sorted(attempts, key=lambda one: one.attempt))


def _record(row: Any) -> FailureRecord:
    values = {name: getattr(row, name) for name in _COLUMNS}
    return FailureRecord(**values | {"last_lines": tuple(row.last_lines)})


def _of_run(model: str, dag_id: str, run_id: str) -> tuple[Any, ...]:
    return (models.c.name == model, runs.c.dag_id == dag_id, runs.c.run_id == run_id)


def _version(connection: Connection, *, model: str, dag_id: str, run_id: str) -> int | None:
    """Return the version that a run made or, where it made none, the one that it reused."""
    made = select(versions.c.number).join(runs, versions.c.run == runs.c.id)
    made = made.join(models, versions.c.model == models.c.id).where(*_of_run(model, dag_id, run_id))
    if (number := connection.execute(made).scalar()) is not None:
        return int(number)
    reused = select(versions.c.number, events.c.detail).join(versions, events.c.version == versions.c.id)
    reused = reused.join(models, versions.c.model == models.c.id).order_by(events.c.id)
    reused = reused.where(events.c.kind == "version-reused", events.c.run_id == run_id, models.c.name == model)
    found = [int(row.number) for row in connection.execute(reused) if row.detail.get("dag_id") == dag_id]
    return found[-1] if found else None


def _evaluations_with_notes(
    connection: Connection, *, model: str, dag_id: str, run_id: str
) -> tuple[EvaluationRecord, ...]:
    query = select(evaluations).join(runs, evaluations.c.run == runs.c.id).join(models, runs.c.model == models.c.id)
    query = query.where(*_of_run(model, dag_id, run_id), evaluations.c.note != "").order_by(evaluations.c.id)
    return tuple(
        EvaluationRecord(checkpoint=row.checkpoint, metrics={}, stage=row.stage, step=row.step, note=row.note)
        for row in connection.execute(query)
    )
