"""The one transaction that writes a version."""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from modelway.errors import ModelwayError
from modelway.lineage.export import outbox
from modelway.lineage.export.run_facts import candidate_facts
from modelway.lineage.records.alias import check_alias
from modelway.lineage.records.assets import AssetFile
from modelway.lineage.records.values import plain, split_number
from modelway.lineage.records.version import EvaluationRecord, MetricPoint, RunRecord, VersionRecord
from modelway.lineage.schema import tables
from modelway.lineage.schema.engine import in_one_trip
from modelway.lineage.write.alias import point_alias
from modelway.lineage.write.bulk_insert import insert_new, insert_rows
from modelway.lineage.write.events import add_event
from modelway.lineage.write.run_assets import assets_of, write_run_assets
from modelway.lineage.write.run_parts import environment_keys, write_run_parts
from modelway.lineage.write.truncation import truncate_record

_STEP = attrgetter("step")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LOCKED = select(tables.models).where(tables.models.c.name == bindparam("of_name")).with_for_update()
_NEW_VERSION = insert(tables.versions).returning(tables.versions.c.id)
_SET_LATEST = (
    update(tables.models)
    .where(tables.models.c.id == bindparam("of_model"))
    .values(latest=bindparam("number"), description=bindparam("new_description"))
)


def register_version(connection: Connection, record: VersionRecord) -> int:
    """Write a version and everything that belongs to it, and return its number.

    A version of the same model and run that exists already stays as it is, and its number is returned: the alias is not
    moved either. Numbers have no gaps: the model's row is locked until the transaction ends.

    :raises ModelwayError: a digest is not ``sha256:`` and 64 hexadecimal digits, a file path occurs twice, or
        the alias reads like a version
    """
    _check(record)
    series = _by_metric(record.points)
    record, shortened = truncate_record(record, logged=series)
    if shortened:
        series = _by_metric(record.points)
    now = datetime.now(UTC)
    model = _lock_model(connection, record.model, now=now)
    # First the rows whose keys others refer to, then all the rest in one round trip to the database.
    run = _insert_run(connection, model.id, record.run)
    if run is None:
        return _registered(connection, model.id, record.run)
    number = int(model.latest) + 1
    version = _write_version(connection, record, model=model.id, run=run, number=number, now=now)
    evaluations = _write_evaluations(connection, run, record.evaluations)
    environments = environment_keys(connection, record.run.stages)
    keys = {"model": model.id, "version": version}
    files = assets_of(record)
    with in_one_trip(connection):
        # The largest part first: the database works on it while the others are prepared.
        insert_rows(connection, tables.metrics, _series_rows(run, series))
        description = record.description or model.description
        connection.execute(_SET_LATEST, {"of_model": model.id, "number": number, "new_description": description})
        _write_run_rows(connection, run, record)
        write_run_parts(connection, run, record.run, environments=environments)
        _write_evaluation_metrics(connection, evaluations, record.evaluations)
        _write_version_rows(connection, version, record, files.values())
        if not (exported := outbox.exporters_of(connection)):
            _write_event(connection, keys, record, number=number, shortened=shortened)
    if exported:
        # What is stored for an exporter is read back first.
        _write_event(connection, keys, record, number=number, shortened=shortened)
    write_run_assets(connection, record, files, keys=keys, number=number)
    return number


def _lock_model(connection: Connection, name: str, *, now: datetime) -> Any:
    """Return the model's row, created if needed and locked until the transaction ends."""
    if (row := connection.execute(_LOCKED, {"of_name": name}).first()) is not None:
        return row
    insert_new(connection, tables.models, [{"name": name, "description": "", "latest": 0, "created_at": now}])
    return connection.execute(_LOCKED, {"of_name": name}).one()


def _write_event(
    connection: Connection, keys: dict[str, int], record: VersionRecord, *, number: int, shortened: dict[str, str]
) -> None:
    """Write the events, with the names that had to be shortened, and move the alias."""
    actor, run_id = record.run.actor, record.run.run_id
    detail: dict[str, Any] = {"number": number, "archive": record.archive_digest, "checkpoint": record.checkpoint}
    if shortened:
        detail["shortened"] = shortened
    if record.verification is not None:
        detail["verification"] = dict(record.verification)
    at = add_event(connection, keys, kind="version-registered", actor=actor, run_id=run_id, detail=detail)
    if record.run.candidates:
        facts = candidate_facts(record.model, record.run, record.run.candidates, version=number)
        outbox.put_all(connection, kind="candidate-ended", facts=facts, at=at)
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


def _insert_run(connection: Connection, model: int, run: RunRecord) -> int | None:
    """Return the key of the run's new row; None: the run has made a version before."""
    into = _new_run(connection.dialect.name)
    key: int | None = connection.execute(into, {"model": model} | _run_columns(run)).scalar()
    return key


@cache
def _new_run(dialect: str) -> Any:
    into = (postgresql if dialect == "postgresql" else sqlite).insert(tables.runs)
    return into.on_conflict_do_nothing().returning(tables.runs.c.id)


def _registered(connection: Connection, model: int, run: RunRecord) -> int:
    joined = tables.versions.join(tables.runs, tables.versions.c.run == tables.runs.c.id)
    of_run = select(tables.versions.c.number).select_from(joined)
    same = (tables.runs.c.model == model, tables.runs.c.dag_id == run.dag_id, tables.runs.c.run_id == run.run_id)
    number: int = connection.execute(of_run.where(*same)).scalar_one()
    return number


def _write_run_rows(connection: Connection, run: int, record: VersionRecord) -> None:
    params = [
        {"run": run, "stage": stage, "name": name, "value": plain(value)}
        for stage, values in record.params.items()
        for name, value in values.items()
    ]
    insert_rows(connection, tables.params, params)
    datasets = [{"run": run} | _plain_fields(dataset) for dataset in record.run.datasets]
    insert_rows(connection, tables.datasets, datasets)


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
    insert_rows(connection, tables.evaluation_metrics, numbers)


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


def _by_metric(points: Sequence[MetricPoint]) -> dict[tuple[str, str], list[MetricPoint]]:
    """Gather the points of each metric by its stage and name."""
    series: dict[tuple[str, str], list[MetricPoint]] = defaultdict(list)
    for point in points:
        series[point.stage, point.name].append(point)
    return series


def _series_rows(run: int, series: dict[tuple[str, str], list[MetricPoint]]) -> list[dict[str, Any]]:
    """Return each metric by rising step; of two values at one step both are recorded, in their original order."""
    rows = []
    same: dict[tuple[int, ...], list[int]] = {}
    for (stage, name), found in series.items():
        found.sort(key=_STEP)
        numbers = [float(point.value) for point in found]
        last_value, last_flag = split_number(numbers[-1])
        steps = [point.step for point in found]
        values: dict[str, Any] = {"steps": same.setdefault(tuple(steps), steps)}
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
    key: int = connection.execute(_NEW_VERSION, columns).scalar_one()
    return key


def _write_version_rows(
    connection: Connection, version: int, record: VersionRecord, files: Iterable[AssetFile]
) -> None:
    """Write the rows of a version; ``files`` are the files of its assets."""
    insert_rows(connection, tables.version_metrics, _number_rows({"version": version}, record.metrics))
    if record.architecture:
        insert_rows(connection, tables.architectures, [{"version": version} | _plain_fields(record.architecture)])
    sizes = {file.digest: file.size for file in record.files} | {file.digest: file.size for file in files}
    # Sorted: two writers that share files then take their locks in the same order.
    insert_new(connection, tables.files, [{"digest": digest, "size": sizes[digest]} for digest in sorted(sizes)])
    rows = [{"version": version, "path": file.path, "digest": file.digest, "role": file.role} for file in record.files]
    insert_rows(connection, tables.version_files, rows)


def _base(connection: Connection, model: int, number: int | None) -> int | None:
    if number is None:
        return None
    base: int | None = connection.execute(select(tables.versions.c.id).filter_by(model=model, number=number)).scalar()
    return base
