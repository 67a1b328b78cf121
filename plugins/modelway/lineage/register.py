"""The one transaction that writes a version."""

import re
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Table, insert, select, update

from modelway.errors import ModelwayError
from modelway.lineage import tables
from modelway.lineage.alias import check_alias, point_alias
from modelway.lineage.engine import insert_new
from modelway.lineage.log import add_event
from modelway.lineage.record import EvaluationRecord, MetricPoint, RunRecord, VersionRecord
from modelway.lineage.run_assets import write_run_assets
from modelway.lineage.run_parts import write_run_parts
from modelway.lineage.values import plain, split_number

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def register_version(connection: Connection, record: VersionRecord) -> int:
    """Write a version and everything that belongs to it, and return its number.

    A version of the same model and run that is there already stays as it is, and its number is returned: the alias too
    is left where it is. Numbers have no gaps: the model's row is locked until the transaction ends.

    :raises ModelwayError: a digest is not ``sha256:`` and 64 hexadecimal digits, the same file path comes twice, or
        the alias could be taken for a version
    """
    _check(record)
    now = datetime.now(UTC)
    insert_new(connection, tables.models, [{"name": record.model, "description": "", "latest": 0, "created_at": now}])
    of_model = select(tables.models).where(tables.models.c.name == record.model).with_for_update()
    model = connection.execute(of_model).one()
    if (number := _registered(connection, model.id, record.run)) is not None:
        return number
    number = int(model.latest) + 1
    news = {"latest": number, "description": record.description or model.description}
    connection.execute(update(tables.models).where(tables.models.c.id == model.id).values(news))
    run = _write_run(connection, model.id, record)
    version = _write_version(connection, record, model=model.id, run=run, number=number, now=now)
    _write_files(connection, version, record)
    keys, actor, run_id = {"model": model.id, "version": version}, record.run.actor, record.run.run_id
    detail = {"number": number, "archive": record.archive_digest, "checkpoint": record.checkpoint}
    add_event(connection, keys, kind="version-registered", actor=actor, run_id=run_id, detail=detail)
    if record.alias is not None:
        point_alias(connection, keys, alias=record.alias, actor=actor, reason="registered", run_id=run_id)
    write_run_assets(connection, record, keys=keys, number=number)
    return number


def _check(record: VersionRecord) -> None:
    if record.alias is not None:
        check_alias(record.alias)
    digests = [record.archive_digest, record.model_digest, record.checkpoint_digest]
    for digest in digests + [file.digest for file in record.files]:
        if not _DIGEST.fullmatch(digest):
            raise ModelwayError(f"{digest!r} is not a digest", do="Write sha256: and 64 hexadecimal digits")
    paths = [file.path for file in record.files]
    if twice := sorted({path for path in paths if paths.count(path) > 1}) if len(set(paths)) < len(paths) else []:
        raise ModelwayError(f"the version has the file '{twice[0]}' twice", do="Give every file its own path")


def _registered(connection: Connection, model: int, run: RunRecord) -> int | None:
    joined = tables.versions.join(tables.runs, tables.versions.c.run == tables.runs.c.id)
    of_run = select(tables.versions.c.number).select_from(joined)
    same = (tables.runs.c.model == model, tables.runs.c.dag_id == run.dag_id, tables.runs.c.run_id == run.run_id)
    return connection.execute(of_run.where(*same)).scalar()


def _write_run(connection: Connection, model: int, record: VersionRecord) -> int:
    run = _insert_one(connection, tables.runs, {"model": model} | _run_columns(record.run))
    params = [
        {"run": run, "stage": stage, "name": name, "value": plain(value)}
        for stage, values in record.params.items()
        for name, value in values.items()
    ]
    _insert(connection, tables.params, params)
    _insert(connection, tables.datasets, [{"run": run} | _plain_fields(dataset) for dataset in record.run.datasets])
    _insert(connection, tables.metrics, _series_rows(run, record.points))
    _write_evaluations(connection, run, record.evaluations)
    write_run_parts(connection, run, record.run)
    return run


def _write_evaluations(connection: Connection, run: int, evaluations: Sequence[EvaluationRecord]) -> None:
    rows = [
        {name: value for name, value in vars(each).items() if name != "metrics"} | {"run": run} for each in evaluations
    ]
    if not rows:
        return
    into = insert(tables.evaluations).returning(tables.evaluations.c.id, sort_by_parameter_order=True)
    keys = connection.execute(into, rows).scalars().all()
    numbers = [
        row
        for key, each in zip(keys, evaluations, strict=True)
        for row in _number_rows({"evaluation": key}, each.metrics)
    ]
    _insert(connection, tables.evaluation_metrics, numbers)


def _plain_fields(record: Any) -> dict[str, Any]:
    return {name: plain(value) for name, value in vars(record).items()}


def _run_columns(run: RunRecord) -> dict[str, Any]:
    return {
        "dag_id": run.dag_id,
        "run_id": run.run_id,
        "actor": run.actor,
        "run_type": run.run_type,
        "started_at": run.started_at,
        "code_digest": run.code_digest,
        "commit_id": run.commit,
        "branch": run.branch,
        "dirty": run.dirty,
        "diff_digest": run.diff_digest,
        "repository": run.repository,
        "spec": plain(run.spec),
        "seed": run.seed,
        "inputs_digest": run.inputs_digest,
        "interval_start": run.interval_start,
        "interval_end": run.interval_end,
        "partition": run.partition,
        "run_after": run.run_after,
        "reason": run.reason,
        "seconds": run.seconds,
        "gpu_seconds": run.gpu_seconds,
    }


def _series_rows(run: int, points: Sequence[MetricPoint]) -> list[dict[str, Any]]:
    """Gather the points of each metric by rising step; of two values at one step both are kept, in the order given."""
    series: dict[tuple[str, str], list[MetricPoint]] = defaultdict(list)
    for point in points:
        series[point.stage, point.name].append(point)
    rows = []
    for (stage, name), found in series.items():
        found.sort(key=lambda point: point.step)
        last_value, last_flag = split_number(found[-1].value)
        values = {"steps": [point.step for point in found], "series": [plain(float(point.value)) for point in found]}
        last = {"last_value": last_value, "last_flag": last_flag}
        rows.append({"run": run, "stage": stage, "name": name} | values | last)
    return rows


def _number_rows(owner: dict[str, int], numbers: Any) -> list[dict[str, Any]]:
    rows = []
    for name, number in numbers.items():
        value, flag = split_number(number)
        rows.append(owner | {"name": name, "value": value, "flag": flag})
    return rows


def _write_version(
    connection: Connection, record: VersionRecord, *, model: int, run: int, number: int, now: datetime
) -> int:
    columns = {
        "model": model,
        "number": number,
        "run": run,
        "description": record.description,
        "archive_uri": record.archive_uri,
        "archive_digest": record.archive_digest,
        "archive_size": record.archive_size,
        "model_digest": record.model_digest,
        "checkpoint": record.checkpoint,
        "checkpoint_digest": record.checkpoint_digest,
        "created_at": now,
        "created_by": record.run.actor,
        "checkpoint_uri": record.checkpoint_uri,
        "base": _base(connection, model, record.base),
    }
    version = _insert_one(connection, tables.versions, columns)
    _insert(connection, tables.version_metrics, _number_rows({"version": version}, record.metrics))
    if record.architecture:
        _insert(connection, tables.architectures, [{"version": version} | _plain_fields(record.architecture)])
    return version


def _base(connection: Connection, model: int, number: int | None) -> int | None:
    if number is None:
        return None
    base: int | None = connection.execute(select(tables.versions.c.id).filter_by(model=model, number=number)).scalar()
    return base


def _write_files(connection: Connection, version: int, record: VersionRecord) -> None:
    # Sorted: two writers that share files then take their locks in the same order.
    sizes = {file.digest: file.size for file in sorted(record.files, key=lambda file: file.digest)}
    insert_new(connection, tables.files, [{"digest": digest, "size": size} for digest, size in sizes.items()])
    rows = [{"version": version, "path": file.path, "digest": file.digest, "role": file.role} for file in record.files]
    _insert(connection, tables.version_files, rows)


def _insert(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(insert(table), rows)


def _insert_one(connection: Connection, table: Table, columns: dict[str, Any]) -> int:
    key: int = connection.execute(insert(table).returning(table.c.id), columns).scalar_one()
    return key
