"""Reads of the lineage: rows to records. Each function works inside the caller's transaction."""

import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Row, Select, Table, Text, and_, bindparam, cast, exists, select, tuple_

from modelway.lineage.read.run_parts import read_candidates, read_figures, read_importances, read_stages
from modelway.lineage.read.summary_parts import read_metrics, read_parts
from modelway.lineage.records.note import EDITED, note_among
from modelway.lineage.records.values import NON_FINITE, join_number
from modelway.lineage.records.version import (
    AliasChange,
    ArchitectureRecord,
    DatasetRecord,
    EvaluationRecord,
    Event,
    FileRecord,
    ImageRecord,
    MetricSeries,
    RolloutRecord,
    RunRecord,
    VersionDetail,
    VersionNote,
    VersionSummary,
    WeightChange,
)
from modelway.lineage.schema.sweep_tables import candidates
from modelway.lineage.schema.tables import (
    alias_history,
    aliases,
    architectures,
    datasets,
    deployments,
    evaluation_metrics,
    evaluations,
    events,
    figures,
    files,
    images,
    importances,
    metrics,
    models,
    params,
    rollouts,
    runs,
    stages,
    version_files,
    version_metrics,
    versions,
    weight_history,
)

#: how many versions are read for a message that lists them
_NEWEST = 1_000
_NUMBER = re.compile(r"v?\d{1,9}")
_MADE = versions.join(runs, versions.c.run == runs.c.id)
#: the parts that a version may have or lack
_OF_VERSION = (
    *(version_metrics, aliases, images, deployments, version_files, architectures),
    *(alias_history, weight_history, rollouts),
)
_OF_RUN = (datasets, stages, figures, importances, candidates, evaluations, metrics)


def read_numbers(connection: Connection, model: int, *, dags: Collection[str] | None = None) -> list[int]:
    """Return the numbers of the model's newest versions, rising; with ``dags``, of those that their runs made."""
    query = of_dags(select(versions.c.number).select_from(_MADE).where(versions.c.model == model), dags)
    return list(connection.execute(query.order_by(versions.c.number.desc()).limit(_NEWEST)).scalars())[::-1]


def find_number(connection: Connection, name: str, wanted: str, *, dags: Collection[str] | None = None) -> int | None:
    """Return the number of a model's version that a number, an alias or ``latest`` means: one index lookup."""
    # By the key, not by a join: the newest is then the first that its index gives.
    model = select(models.c.id).where(models.c.name == name).scalar_subquery()
    query = of_dags(select(versions.c.number).select_from(_MADE).where(versions.c.model == model), dags)
    if _NUMBER.fullmatch(wanted):
        query = query.where(versions.c.number == int(wanted.lstrip("v")))
    elif wanted == "latest":
        query = query.order_by(versions.c.number.desc()).limit(1)
    else:
        query = query.join(aliases, aliases.c.version == versions.c.id)
        query = query.where(aliases.c.model == model, aliases.c.name == wanted)
    found: int | None = connection.execute(query).scalar()
    return found


def read_aliases(connection: Connection, model: int, *, dags: Collection[str] | None = None) -> dict[str, int]:
    """Return the versions that the model's aliases point at; with ``dags``, only those that their runs made."""
    query = select(aliases.c.name, versions.c.number).join(versions, aliases.c.version == versions.c.id)
    query = query.join(runs, versions.c.run == runs.c.id).where(aliases.c.model == model).order_by(aliases.c.name)
    return {alias: number for alias, number in connection.execute(of_dags(query, dags))}


def of_dags(query: Select[Any], dags: Collection[str] | None) -> Select[Any]:
    """Narrow a query of runs to those of some DAGs; None: of all."""
    return query if dags is None else query.where(runs.c.dag_id.in_(dags))


def read_versions(
    connection: Connection,
    *,
    name: str,
    model: int,
    limit: int | None = None,
    before: int | None = None,
    dags: Collection[str] | None = None,
) -> list[VersionSummary]:
    """Return the versions of a model, newest first: all, or those that runs of ``dags`` made, before a number."""
    query = of_dags(select(versions, runs.c.dag_id, runs.c.run_id).select_from(_MADE), dags)
    query = query.where(versions.c.model == model).order_by(versions.c.number.desc()).limit(limit)
    if before is not None:
        query = query.where(versions.c.number < before)
    return summaries_of(connection, name, connection.execute(query).all())


def summaries_of(
    connection: Connection, name: str | None, rows: Sequence[Row[Any]], *, have_metrics: bool = True
) -> list[VersionSummary]:
    """Return the summaries of versions.

    :param name: of their model; None: each row has it as ``model_name``
    :param have_metrics: False where it is known that they have none, which are then not queried
    """

    keys = [row.id for row in rows]
    numbers = read_metrics(connection, keys if have_metrics else [])
    found = read_parts(connection, keys)
    shared = [field for field in VersionSummary.__dataclass_fields__ if rows and field in rows[0]._mapping]
    return [
        VersionSummary(
            **{field: getattr(row, field) for field in shared}
            | {
                "model": name if name is not None else row.model_name,
                "metrics": numbers[row.id],
                "aliases": tuple(found.aliases[row.id]),
                "image": found.images.get(row.id),
                "weights": found.weights[row.id],
                "verification": found.verifications.get(row.id),
            }
        )
        for row in rows
    ]


def _shared_columns(row: Row[Any], record: Any) -> dict[str, Any]:
    """Return the columns of a row that a record has under the same name."""
    columns = row._mapping
    return {name: columns[name] for name in record.__dataclass_fields__ if name in columns}


def verifications_of(
    connection: Connection, names: Collection[tuple[str, int]]
) -> dict[tuple[str, int], Mapping[str, Any] | None]:
    """Return the recorded verification of versions, by model and number."""
    query = select(models.c.name, versions.c.number, versions.c.id).join_from(versions, models)
    rows = connection.execute(query.where(tuple_(models.c.name, versions.c.number).in_(list(names)))).all()
    found = read_parts(connection, [row.id for row in rows]).verifications
    return {(row.name, row.number): found.get(row.id) for row in rows}


@cache
def _outline() -> Select[Any]:
    """Return the query of a version and of which parts it has; cached: compiling it costs more than running it."""
    made = _MADE.join(models, versions.c.model == models.c.id)
    there = [exists().where(table.c.version == versions.c.id).label(table.name) for table in _OF_VERSION]
    there += [exists().where(table.c.run == runs.c.id).label(table.name) for table in _OF_RUN]
    of_run = (column for column in runs.c if column.name not in versions.c)
    query = select(versions, *of_run, *there).select_from(made)
    return query.where(models.c.name == bindparam("of_model"), versions.c.number == bindparam("of_number"))


def read_version(connection: Connection, *, name: str, number: int) -> VersionDetail | None:
    """Return the whole record of a version: first which parts it has, then only those."""
    row = connection.execute(_outline(), {"of_model": name, "of_number": number}).first()
    if row is None:
        return None
    version, run, base = row.id, row.run, row.base
    parts = {table.name for table in (*_OF_VERSION, *_OF_RUN) if row._mapping[table.name]}

    def read(table: Table, reader: Any, key: Any) -> tuple[Any, ...]:
        return tuple(reader(connection, key)) if table.name in parts else ()

    happened = tuple(_events_of(connection.execute(_version_events(), {"of_version": version})))
    return VersionDetail(
        summary=summaries_of(connection, name, [row], have_metrics=version_metrics.name in parts)[0],
        run=_run_of(row, read),
        params=_read_params(connection, run),
        evaluations=read(evaluations, _read_evaluations, run),
        series=read(metrics, _read_series, run),
        files=read(version_files, _read_files, version),
        images=read(images, _read_images, version),
        architecture=next(iter(read(architectures, _read_architectures, version)), None),
        base=connection.execute(select(versions.c.number).where(versions.c.id == base)).scalar() if base else None,
        alias_history=read(alias_history, _read_moves, version),
        weight_history=read(weight_history, read_weight_history, weight_history.c.version == version),
        events=happened,
        note=note_among(happened) if len(happened) < _EVENTS_OF_VERSION else read_note(connection, version),
        rollouts=read(rollouts, lambda _, key: read_rollouts(connection, version=key), version),
    )


def _run_of(row: Row[Any], read: Any) -> RunRecord:
    parts = {
        "commit": row.commit_id,
        "datasets": read(datasets, _read_datasets, row.run),
        "stages": read(stages, read_stages, row.run),
        "figures": read(figures, read_figures, row.run),
        "importances": read(importances, read_importances, row.run),
        "candidates": read(candidates, read_candidates, row.run),
    }
    return RunRecord(**_shared_columns(row, RunRecord) | parts)


def _read_datasets(connection: Connection, run: int) -> Iterable[DatasetRecord]:
    rows = connection.execute(select(datasets).where(datasets.c.run == run).order_by(datasets.c.id))
    return (DatasetRecord(**_shared_columns(row, DatasetRecord)) for row in rows)


def _read_images(connection: Connection, version: int) -> Iterable[ImageRecord]:
    rows = connection.execute(select(images).where(images.c.version == version).order_by(images.c.id.desc()))
    return (ImageRecord(**_shared_columns(row, ImageRecord)) for row in rows)


def _read_architectures(connection: Connection, version: int) -> Iterable[ArchitectureRecord]:
    rows = connection.execute(select(architectures).where(architectures.c.version == version))
    return (ArchitectureRecord(**_shared_columns(row, ArchitectureRecord)) for row in rows)


@cache
def _params() -> Select[Any]:
    query = select(params.c.stage, params.c.name, params.c.value).where(params.c.run == bindparam("of_run"))
    return query.order_by(params.c.stage, params.c.name)


def _read_params(connection: Connection, run: int) -> dict[str, dict[str, Any]]:
    by_stage: dict[str, dict[str, Any]] = defaultdict(dict)
    for stage, name, value in connection.execute(_params(), {"of_run": run}).all():
        by_stage[stage][name] = value
    return dict(by_stage)


def _read_evaluations(connection: Connection, run: int) -> tuple[EvaluationRecord, ...]:
    numbers: dict[int, dict[str, float | None]] = defaultdict(dict)
    query = select(evaluation_metrics).join(evaluations).where(evaluations.c.run == run)
    for row in connection.execute(query):
        numbers[row.evaluation][row.name] = join_number(row.value, row.flag)
    found = connection.execute(select(evaluations).where(evaluations.c.run == run).order_by(evaluations.c.id))
    return tuple(EvaluationRecord(metrics=numbers[row.id], **_shared_columns(row, EvaluationRecord)) for row in found)


@cache
def _series() -> Select[Any]:
    # As text: metrics that were logged together have the same steps, which are then read once.
    query = select(metrics.c.stage, metrics.c.name, cast(metrics.c.steps, Text), cast(metrics.c.series, Text))
    return query.where(metrics.c.run == bindparam("of_run")).order_by(metrics.c.stage, metrics.c.name)


def _read_series(connection: Connection, run: int) -> tuple[MetricSeries, ...]:
    rows = connection.execute(_series(), {"of_run": run}).all()
    steps = {text: tuple(json.loads(text)) for text in {text for _, _, text, _ in rows}}
    return tuple(
        MetricSeries(stage=stage, name=name, steps=steps[text], values=_numbers(json.loads(values)))
        for stage, name, text, values in rows
    )


def _numbers(series: list[Any]) -> tuple[float, ...]:
    if set(map(type, series)) <= {float}:
        return tuple(series)
    return tuple(NON_FINITE[value] if isinstance(value, str) else float(value) for value in series)


@cache
def _files() -> Select[Any]:
    query = select(version_files.c.path, version_files.c.digest, version_files.c.role, files.c.size).join(files)
    return query.where(version_files.c.version == bindparam("of_version")).order_by(version_files.c.path)


def _read_files(connection: Connection, version: int) -> tuple[FileRecord, ...]:
    rows = connection.execute(_files(), {"of_version": version})
    return tuple(FileRecord(**row._mapping) for row in rows)


def read_alias_history(
    connection: Connection, which: Any, *, dags: Collection[str] | None = None, limit: int | None = None
) -> list[AliasChange]:
    """Return the alias changes that fulfil a condition, newest first; with ``dags``, to versions that they made."""
    query = of_dags(_MOVES.outerjoin(runs, versions.c.run == runs.c.id), dags)
    return _moves_of(connection.execute(query.where(which).limit(limit)))


_MOVES = (
    select(alias_history, versions.c.number)
    .outerjoin(versions, alias_history.c.version == versions.c.id)
    .order_by(alias_history.c.id.desc())
)


@cache
def _version_moves() -> Select[Any]:
    return _MOVES.where(alias_history.c.version == bindparam("of_version"))


def _read_moves(connection: Connection, version: int) -> list[AliasChange]:
    return _moves_of(connection.execute(_version_moves(), {"of_version": version}))


def _moves_of(rows: Iterable[Row[Any]]) -> list[AliasChange]:
    return [
        AliasChange(alias=row.name, version=row.number, at=row.at, actor=row.actor, reason=row.reason) for row in rows
    ]


def read_weight_history(
    connection: Connection, which: Any, *, dags: Collection[str] | None = None, limit: int | None = None
) -> list[WeightChange]:
    """Return the weight changes that fulfil a condition, newest first; with ``dags``, of versions that they made."""
    query = select(weight_history, versions.c.number, models.c.name)
    query = query.join(versions, weight_history.c.version == versions.c.id).join(
        models, versions.c.model == models.c.id
    )
    query = of_dags(query.join(runs, versions.c.run == runs.c.id), dags)
    return [
        WeightChange(**_shared_columns(row, WeightChange) | {"version": row.number, "model": row.name})
        for row in connection.execute(query.where(which).order_by(weight_history.c.id.desc()).limit(limit))
    ]


def read_events(connection: Connection, which: Any, *, limit: int = 100) -> list[Event]:
    """Return the newest events that fulfil a condition, newest first."""
    return _events_of(connection.execute(_EVENTS.where(which).limit(limit)))


_EVENTS = (
    select(events, models.c.name, versions.c.number)
    .outerjoin(models, events.c.model == models.c.id)
    .outerjoin(versions, events.c.version == versions.c.id)
    .order_by(events.c.id.desc())
)


_EVENTS_OF_VERSION = 100


@cache
def _version_events() -> Select[Any]:
    return _EVENTS.where(events.c.version == bindparam("of_version")).limit(_EVENTS_OF_VERSION)


def read_note(connection: Connection, version: int) -> VersionNote | None:
    """Return what somebody wrote about a version last, by its key."""
    return note_among(read_events(connection, and_(events.c.version == version, events.c.kind == EDITED), limit=1))


def _events_of(rows: Iterable[Row[Any]]) -> list[Event]:
    return [Event(**_shared_columns(row, Event) | {"model": row.name, "version": row.number}) for row in rows]


def read_rollout(connection: Connection, *, endpoint: str, run_id: str) -> RolloutRecord | None:
    """Return the rollout of a run at an endpoint, if it has started."""
    return next(iter(read_rollouts(connection, endpoint=endpoint, run_id=run_id)), None)


def read_rollouts(
    connection: Connection,
    *,
    endpoint: str | None = None,
    run_id: str | None = None,
    version: int | None = None,
    dags: Collection[str] | None = None,
    limit: int | None = None,
) -> list[RolloutRecord]:
    """Return the rollouts of an endpoint, a run, a version (by its key), the one that was begun last first.

    :param dags: only of versions that their runs made
    """
    query = select(rollouts, versions.c.number, models.c.name)
    query = query.join(versions, rollouts.c.version == versions.c.id).join(models, versions.c.model == models.c.id)
    query = of_dags(query.join(runs, versions.c.run == runs.c.id), dags).limit(limit)
    if endpoint is not None:
        query = query.where(rollouts.c.endpoint == endpoint)
    if run_id is not None:
        query = query.where(rollouts.c.run_id == run_id)
    if version is not None:
        query = query.where(rollouts.c.version == version)
    return [
        RolloutRecord(**_shared_columns(row, RolloutRecord) | {"model": row.name, "version": row.number})
        for row in connection.execute(query.order_by(rollouts.c.started_at.desc()))
    ]


def read_targets(connection: Connection) -> dict[str, str]:
    """Return the target of each endpoint whose rollouts name one."""
    target = rollouts.c.detail["target"].as_string()
    query = select(rollouts.c.endpoint, target.label("target")).order_by(rollouts.c.started_at)
    return {row.endpoint: row.target for row in connection.execute(query) if row.target}
