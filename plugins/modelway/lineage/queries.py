"""Reads of the lineage: rows to records. Each function works inside the caller's transaction."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, Row, Select, Table, func, select

from modelway.lineage.record import (
    AliasChange,
    ArchitectureRecord,
    DatasetRecord,
    EvaluationRecord,
    Event,
    FileRecord,
    ImageRecord,
    MetricSeries,
    ModelSummary,
    RolloutRecord,
    RunRecord,
    VersionDetail,
    VersionSummary,
    WeightChange,
)
from modelway.lineage.run_parts import read_figures, read_importances, read_stages
from modelway.lineage.tables import (
    alias_history,
    aliases,
    architectures,
    datasets,
    deployments,
    evaluation_metrics,
    evaluations,
    events,
    files,
    images,
    metrics,
    models,
    params,
    rollouts,
    runs,
    version_files,
    version_metrics,
    versions,
    weight_history,
)
from modelway.lineage.values import NON_FINITE, join_number

#: SQLite takes 32,766 bound values in a statement, PostgreSQL's protocol 65,535
_MANY = 10_000
_MADE = versions.join(runs, versions.c.run == runs.c.id)


def read_models(connection: Connection, *, dags: Collection[str] | None = None) -> list[ModelSummary]:
    """Return every model that has a version, by name; given ``dags``, as if only runs of those DAGs had made any."""
    query = select(versions.c.model, runs.c.dag_id, func.max(versions.c.number), func.count()).select_from(_MADE)
    made: dict[int, list[tuple[str, int, int]]] = defaultdict(list)
    partly = set()
    for model, dag, latest, count in connection.execute(query.group_by(versions.c.model, runs.c.dag_id)):
        if dags is None or dag in dags:
            made[model].append((dag, latest, count))
        else:
            partly.add(model)
    found = []
    for row in connection.execute(select(models).order_by(models.c.name)):
        if readable := sorted(made[row.id]):
            names = tuple(dag for dag, _, _ in readable)
            only = names if row.id in partly else None
            summary = ModelSummary(
                name=row.name,
                description=_description(connection, row.id, only) if only else row.description,
                created_at=row.created_at,
                latest=max(latest for _, latest, _ in readable),
                count=sum(count for _, _, count in readable),
                dags=names,
                aliases=read_aliases(connection, row.id, dags=only),
            )
            found.append(summary)
    return found


def _description(connection: Connection, model: int, dags: Collection[str]) -> str:
    query = select(versions.c.description).select_from(_MADE).where(versions.c.description != "")
    query = query.where(versions.c.model == model, runs.c.dag_id.in_(dags)).order_by(versions.c.number.desc())
    return connection.execute(query.limit(1)).scalar() or ""


def read_numbers(connection: Connection, model: int, *, dags: Collection[str] | None = None) -> list[int]:
    """Return the numbers of the model's versions, rising; given ``dags``, of those that their runs made."""
    query = select(versions.c.number).where(versions.c.model == model).order_by(versions.c.number)
    return list(connection.execute(_of_dags(query.join(runs, versions.c.run == runs.c.id), dags)).scalars())


def read_aliases(connection: Connection, model: int, *, dags: Collection[str] | None = None) -> dict[str, int]:
    """Return the versions that the model's aliases point at; given ``dags``, only those that their runs made."""
    query = select(aliases.c.name, versions.c.number).join(versions, aliases.c.version == versions.c.id)
    query = query.join(runs, versions.c.run == runs.c.id).where(aliases.c.model == model).order_by(aliases.c.name)
    return {alias: number for alias, number in connection.execute(_of_dags(query, dags))}


def _of_dags(query: Select[Any], dags: Collection[str] | None) -> Select[Any]:
    return query if dags is None else query.where(runs.c.dag_id.in_(dags))


def read_versions(
    connection: Connection,
    *,
    name: str,
    model: int,
    number: int | None = None,
    limit: int | None = None,
    dags: Collection[str] | None = None,
) -> list[VersionSummary]:
    """Return the versions of a model, newest first: all, that of one number, or those that runs of ``dags`` made."""
    query = _of_dags(select(versions, runs.c.dag_id, runs.c.run_id).select_from(_MADE), dags)
    query = query.where(versions.c.model == model).order_by(versions.c.number.desc()).limit(limit)
    if number is not None:
        query = query.where(versions.c.number == number)
    found = connection.execute(query).all()
    keys = [row.id for row in found]
    numbers, pointers, built, weights = (
        _version_metrics(connection, keys),
        _version_aliases(connection, keys),
        _newest_images(connection, keys),
        _version_weights(connection, keys),
    )
    return [
        VersionSummary(
            **_shared_columns(row, VersionSummary)
            | {
                "model": name,
                "metrics": numbers[row.id],
                "aliases": tuple(pointers[row.id]),
                "image": built.get(row.id),
                "weights": weights[row.id],
            }
        )
        for row in found
    ]


def _shared_columns(row: Row[Any], record: Any) -> dict[str, Any]:
    """Return the columns of a row that a record has under the same name."""
    columns = row._mapping
    return {name: columns[name] for name in record.__dataclass_fields__ if name in columns}


def _rows_of(connection: Connection, query: Select[Any], table: Table, keys: list[int]) -> Iterable[Row[Any]]:
    for start in range(0, len(keys), _MANY):
        yield from connection.execute(query.where(table.c.version.in_(keys[start : start + _MANY])))


def _version_metrics(connection: Connection, keys: list[int]) -> Mapping[int, dict[str, float | None]]:
    numbers: dict[int, dict[str, float | None]] = defaultdict(dict)
    for row in _rows_of(connection, select(version_metrics), version_metrics, keys):
        numbers[row.version][row.name] = join_number(row.value, row.flag)
    return numbers


def _version_aliases(connection: Connection, keys: list[int]) -> Mapping[int, list[str]]:
    pointers: dict[int, list[str]] = defaultdict(list)
    for row in _rows_of(connection, select(aliases).order_by(aliases.c.name), aliases, keys):
        pointers[row.version].append(row.name)
    return pointers


def _newest_images(connection: Connection, keys: list[int]) -> Mapping[int, ImageRecord]:
    rows = _rows_of(connection, select(images).order_by(images.c.id), images, keys)
    return {row.version: ImageRecord(**_shared_columns(row, ImageRecord)) for row in rows}


def _version_weights(connection: Connection, keys: list[int]) -> Mapping[int, dict[str, int]]:
    weights: dict[int, dict[str, int]] = defaultdict(dict)
    for row in _rows_of(connection, select(deployments).order_by(deployments.c.endpoint), deployments, keys):
        weights[row.version][row.endpoint] = row.weight
    return weights


def read_version(connection: Connection, *, name: str, model: int, number: int) -> VersionDetail | None:
    """Return the whole record of a version."""
    found = read_versions(connection, name=name, model=model, number=number)
    if not found:
        return None
    is_it = (versions.c.model == model) & (versions.c.number == number)
    version, run, base = connection.execute(select(versions.c.id, versions.c.run, versions.c.base).where(is_it)).one()
    of_version = select(images).where(images.c.version == version).order_by(images.c.id.desc())
    return VersionDetail(
        summary=found[0],
        run=_read_run(connection, run),
        params=_read_params(connection, run),
        evaluations=_read_evaluations(connection, run),
        series=_read_series(connection, run),
        files=_read_files(connection, version),
        images=tuple(ImageRecord(**_shared_columns(row, ImageRecord)) for row in connection.execute(of_version)),
        architecture=_read_architecture(connection, version),
        base=connection.execute(select(versions.c.number).where(versions.c.id == base)).scalar() if base else None,
        alias_history=tuple(read_alias_history(connection, alias_history.c.version == version)),
        weight_history=tuple(read_weight_history(connection, weight_history.c.version == version)),
        events=tuple(read_events(connection, events.c.version == version)),
    )


def _read_run(connection: Connection, run: int) -> RunRecord:
    row = connection.execute(select(runs).where(runs.c.id == run)).one()
    query = select(datasets).where(datasets.c.run == run).order_by(datasets.c.id)
    return RunRecord(
        **_shared_columns(row, RunRecord),
        commit=row.commit_id,
        datasets=tuple(DatasetRecord(**_shared_columns(each, DatasetRecord)) for each in connection.execute(query)),
        stages=read_stages(connection, run),
        figures=read_figures(connection, run),
        importances=read_importances(connection, run),
    )


def _read_architecture(connection: Connection, version: int) -> ArchitectureRecord | None:
    row = connection.execute(select(architectures).where(architectures.c.version == version)).first()
    return ArchitectureRecord(**_shared_columns(row, ArchitectureRecord)) if row else None


def _read_params(connection: Connection, run: int) -> dict[str, dict[str, Any]]:
    by_stage: dict[str, dict[str, Any]] = defaultdict(dict)
    query = select(params).where(params.c.run == run).order_by(params.c.stage, params.c.name)
    for row in connection.execute(query):
        by_stage[row.stage][row.name] = row.value
    return dict(by_stage)


def _read_evaluations(connection: Connection, run: int) -> tuple[EvaluationRecord, ...]:
    numbers: dict[int, dict[str, float | None]] = defaultdict(dict)
    query = select(evaluation_metrics).join(evaluations).where(evaluations.c.run == run)
    for row in connection.execute(query):
        numbers[row.evaluation][row.name] = join_number(row.value, row.flag)
    found = connection.execute(select(evaluations).where(evaluations.c.run == run).order_by(evaluations.c.id))
    return tuple(EvaluationRecord(metrics=numbers[row.id], **_shared_columns(row, EvaluationRecord)) for row in found)


def _read_series(connection: Connection, run: int) -> tuple[MetricSeries, ...]:
    query = select(metrics).where(metrics.c.run == run).order_by(metrics.c.stage, metrics.c.name)
    return tuple(
        MetricSeries(
            stage=row.stage,
            name=row.name,
            steps=tuple(row.steps),
            values=tuple(NON_FINITE[value] if isinstance(value, str) else float(value) for value in row.series),
        )
        for row in connection.execute(query)
    )


def _read_files(connection: Connection, version: int) -> tuple[FileRecord, ...]:
    query = select(version_files, files.c.size).join(files).where(version_files.c.version == version)
    rows = connection.execute(query.order_by(version_files.c.path))
    return tuple(FileRecord(**_shared_columns(row, FileRecord)) for row in rows)


def read_alias_history(connection: Connection, which: Any) -> list[AliasChange]:
    """Return the alias changes that fulfil a condition, newest first."""
    query = select(alias_history, versions.c.number).outerjoin(versions, alias_history.c.version == versions.c.id)
    rows = connection.execute(query.where(which).order_by(alias_history.c.id.desc()))
    return [
        AliasChange(alias=row.name, version=row.number, at=row.at, actor=row.actor, reason=row.reason) for row in rows
    ]


def read_weight_history(connection: Connection, which: Any) -> list[WeightChange]:
    """Return the weight changes that fulfil a condition, newest first."""
    query = select(weight_history, versions.c.number).join(versions, weight_history.c.version == versions.c.id)
    return [
        WeightChange(**_shared_columns(row, WeightChange) | {"version": row.number})
        for row in connection.execute(query.where(which).order_by(weight_history.c.id.desc()))
    ]


def read_events(connection: Connection, which: Any, *, limit: int = 100) -> list[Event]:
    """Return the newest events that fulfil a condition, newest first."""
    query = select(events, models.c.name, versions.c.number)
    query = query.outerjoin(models, events.c.model == models.c.id)
    query = query.outerjoin(versions, events.c.version == versions.c.id)
    rows = connection.execute(query.where(which).order_by(events.c.id.desc()).limit(limit))
    return [Event(**_shared_columns(row, Event) | {"model": row.name, "version": row.number}) for row in rows]


def read_rollout(connection: Connection, *, endpoint: str, run_id: str) -> RolloutRecord | None:
    """Return the rollout of a run at an endpoint, if it has begun."""
    query = select(rollouts, versions.c.number, models.c.name)
    query = query.join(versions, rollouts.c.version == versions.c.id).join(models, versions.c.model == models.c.id)
    row = connection.execute(query.where(rollouts.c.endpoint == endpoint, rollouts.c.run_id == run_id)).first()
    if row is None:
        return None
    return RolloutRecord(**_shared_columns(row, RolloutRecord) | {"model": row.name, "version": row.number})
