"""The one transaction that writes a version."""

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, Table, insert, select, update

from modelway.errors import ModelwayError
from modelway.lineage import outbox, tables
from modelway.lineage.alias import check_alias, point_alias
from modelway.lineage.engine import in_one_trip, insert_new
from modelway.lineage.fitting import fit_record
from modelway.lineage.log import add_event
from modelway.lineage.record import EvaluationRecord, MetricPoint, RunRecord, VersionRecord
from modelway.lineage.run_assets import write_run_assets
from modelway.lineage.run_parts import environment_keys, write_run_parts
from modelway.lineage.values import plain, split_number

_STEP = attrgetter("step")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def register_version(connection: Connection, record: VersionRecord) -> int:
    """Write a version and everything that belongs to it, and return its number.

    A version of the same model and run that is there already stays as it is, and its number is returned: the alias too
    is left where it is. Numbers have no gaps: the model's row is locked until the transaction ends.

    :raises ModelwayError: a digest is not ``sha256:`` and 64 hexadecimal digits, the same file path comes twice, or
        the alias could be taken for a version
    """
    _check(record)
    record, shortened = fit_record(record)
    now = datetime.now(UTC)
    model = _lock_model(connection, record.model, now=now)
    if (number := _registered(connection, model.id, record.run)) is not None:
        return number
    number = int(model.latest) + 1
    # First what gives keys that others refer to, then all the rest in one trip to the database.
    run = _insert_one(connection, tables.runs, {"model": model.id} | _run_columns(record.run))
    version = _write_version(connection, record, model=model.id, run=run, number=number, now=now)
    evaluations = _write_evaluations(connection, run, record.evaluations)
    environments = environment_keys(connection, record.run.stages)
    keys = {"model": model.id, "version": version}
    with in_one_trip(connection):
        news = {"latest": number, "description": record.description or model.description}
        connection.execute(update(tables.models).where(tables.models.c.id == model.id).values(news))
        _write_run_rows(connection, run, record)
        write_run_parts(connection, run, record.run, environments=environments)
        _write_evaluation_metrics(connection, evaluations, record.evaluations)
        _write_version_rows(connection, version, record)
        if not (told := outbox.is_heard(connection)):
            _tell(connection, keys, record, number=number, shortened=shortened)
    if told:
        # What is kept for an exporter is read back first.
        _tell(connection, keys, record, number=number, shortened=shortened)
    write_run_assets(connection, record, keys=keys, number=number)
    return number


def _lock_model(connection: Connection, name: str, *, now: datetime) -> Any:
    """Return the model's row, made if need be and locked until the transaction ends."""
    of_model = select(tables.models).where(tables.models.c.name == name).with_for_update()
    if (row := connection.execute(of_model).first()) is not None:
        return row
    insert_new(connection, tables.models, [{"name": name, "description": "", "latest": 0, "created_at": now}])
    return connection.execute(of_model).one()


def _tell(
    connection: Connection, keys: dict[str, int], record: VersionRecord, *, number: int, shortened: dict[str, str]
) -> None:
    """Write what happened into the events, with the names that had to be shortened, and point the alias."""
    actor, run_id = record.run.actor, record.run.run_id
    detail: dict[str, Any] = {"number": number, "archive": record.archive_digest, "checkpoint": record.checkpoint}
    if shortened:
        detail["shortened"] = shortened
    add_event(connection, keys, kind="version-registered", actor=actor, run_id=run_id, detail=detail)
    if record.alias is not None:
        point_alias(connection, keys, alias=record.alias, actor=actor, reason="registered", run_id=run_id)


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


def _write_run_rows(connection: Connection, run: int, record: VersionRecord) -> None:
    params = [
        {"run": run, "stage": stage, "name": name, "value": plain(value)}
        for stage, values in record.params.items()
        for name, value in values.items()
    ]
    _insert(connection, tables.params, params)
    _insert(connection, tables.datasets, [{"run": run} | _plain_fields(dataset) for dataset in record.run.datasets])
    _insert(connection, tables.metrics, _series_rows(run, record.points))


def _write_evaluations(connection: Connection, run: int, evaluations: Sequence[EvaluationRecord]) -> Sequence[int]:
    """Write the evaluations and return their keys."""
    rows = [
        {name: value for name, value in vars(each).items() if name != "metrics"} | {"run": run} for each in evaluations
    ]
    if not rows:
        return ()
    into = insert(tables.evaluations).returning(tables.evaluations.c.id, sort_by_parameter_order=True)
    return connection.execute(into, rows).scalars().all()


def _write_evaluation_metrics(
    connection: Connection, keys: Sequence[int], evaluations: Sequence[EvaluationRecord]
) -> None:
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
        found.sort(key=_STEP)
        numbers = [float(point.value) for point in found]
        last_value, last_flag = split_number(numbers[-1])
        values: dict[str, Any] = {"steps": [point.step for point in found]}
        values["series"] = numbers if all(map(math.isfinite, numbers)) else plain(numbers)
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
    return _insert_one(connection, tables.versions, columns)


def _write_version_rows(connection: Connection, version: int, record: VersionRecord) -> None:
    _insert(connection, tables.version_metrics, _number_rows({"version": version}, record.metrics))
    if record.architecture:
        _insert(connection, tables.architectures, [{"version": version} | _plain_fields(record.architecture)])
    _write_files(connection, version, record)


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
        connection.execute(insert(table).inline(), rows)


def _insert_one(connection: Connection, table: Table, columns: dict[str, Any]) -> int:
    key: int = connection.execute(insert(table).returning(table.c.id), columns).scalar_one()
    return key
