"""A version's run as MLflow's batches: parameters, metrics with their history, tags, within the limits of its API.

They are the same each time, and each carries its number as a tag: after a failure, sending continues where it stopped.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from modelway.lineage.exporters.mlflow.names import Keys, digest, storable
from modelway.lineage.records.values import plain
from modelway.lineage.records.version import VersionDetail

#: MLflow's limits; a batch has 1,000 entities in all, and its own tag is one of them
_MOST = {"metrics": 900, "params": 100, "tags": 90}
_MOST_BYTES = 800_000
_LONGEST_PARAM = 6000
LONGEST_TAG = 8000
#: parts of a long parameter that are stored as tags; the rest is in the lineage alone
_MOST_PARTS = 10
SENT = "modelway.sent"

Batch = dict[str, list[dict[str, Any]]]
#: ``params``, ``metrics`` or ``tags``, and one of them as MLflow's API has it
Entity = tuple[str, dict[str, Any]]


def batches(version: VersionDetail, *, run: str) -> list[Batch]:
    """Return the batches of a version's run.

    :param run: the value of the tag ``modelway.run``
    """
    return divided(_entities(version, run))


def divided(entities: Iterable[Entity]) -> list[Batch]:
    """Return parameters, metrics and tags in batches, each with its number."""
    made: list[Batch] = [{}]
    size = 0
    for kind, entity in entities:
        bytes_more = len(json.dumps(entity, ensure_ascii=False).encode()) + 2
        if len(made[-1].get(kind, ())) >= _MOST[kind] or size + bytes_more > _MOST_BYTES or _is_full(made[-1]):
            made.append({})
            size = 0
        made[-1].setdefault(kind, []).append(entity)
        size += bytes_more
    for number, batch in enumerate(made, start=1):
        batch.setdefault("tags", []).append({"key": SENT, "value": str(number)})
    return made


def _is_full(batch: Batch) -> bool:
    return sum(map(len, batch.values())) >= _MOST["metrics"]


def milliseconds(time: datetime) -> int:
    """Return a time as MLflow counts it."""
    return int(time.timestamp() * 1000)


def started(version: VersionDetail) -> int:
    """Return when the run began: the time of all that it logged, of which only the steps are known."""
    return milliseconds(version.run.started_at or version.summary.created_at)


def _entities(version: VersionDetail, run: str) -> Iterator[Entity]:
    yield from tag_entities(_tags(version, run))
    yield from param_entities(version.params)
    time, keys = started(version), Keys()
    for key, step, value in _points(version, keys):
        yield metric_entity(key, value, step=step, time=time)


def tag_entities(tags: Mapping[str, Any]) -> Iterator[Entity]:
    """Yield tags; those that are None are left out."""
    for name, value in tags.items():
        if value is not None:
            yield "tags", {"key": name, "value": storable(str(value))[:LONGEST_TAG]}


def metric_entity(key: str, value: float, *, step: int, time: int) -> Entity:
    """Return one value of a metric."""
    return "metrics", {"key": key, "value": plain(float(value)), "timestamp": time, "step": step}


def _tags(version: VersionDetail, run: str) -> dict[str, Any]:
    """Return the tags of a run; MLflow's own tags begin with ``mlflow.``."""
    summary, record = version.summary, version.run
    return {
        "modelway.run": run,
        "modelway.model": summary.model,
        "modelway.version": summary.number,
        "modelway.dag_id": record.dag_id,
        "modelway.run_id": record.run_id,
        "modelway.run_type": record.run_type,
        "modelway.actor": record.actor,
        "modelway.reason": record.reason,
        "modelway.seed": record.seed,
        "modelway.code_digest": record.code_digest,
        "modelway.inputs_digest": record.inputs_digest,
        "modelway.diff_digest": record.diff_digest,
        "modelway.commit": record.commit,
        "modelway.branch": record.branch,
        "modelway.dirty": None if record.dirty is None else str(record.dirty).lower(),
        "modelway.repository": record.repository,
        "modelway.checkpoint": summary.checkpoint,
        "modelway.checkpoint_digest": summary.checkpoint_digest,
        "modelway.archive": summary.archive_uri,
        "modelway.archive_digest": summary.archive_digest,
        "modelway.model_digest": summary.model_digest,
        "modelway.interval_start": record.interval_start and record.interval_start.isoformat(),
        "modelway.interval_end": record.interval_end and record.interval_end.isoformat(),
        "modelway.partition": record.partition,
        "modelway.seconds": record.seconds,
        "modelway.gpu_seconds": record.gpu_seconds,
        "mlflow.user": record.actor,
        "mlflow.source.name": record.dag_id,
        "mlflow.source.type": "JOB",
        "mlflow.source.git.commit": record.commit,
        "mlflow.source.git.branch": record.branch,
        "mlflow.note.content": summary.description or None,
    }


def param_entities(params: Mapping[str, Mapping[str, Any]]) -> Iterator[Entity]:
    """Yield parameters by stage, whose name may be empty; of a long value the whole is in tags."""
    keys, tags = Keys(), Keys()
    for stage, values in params.items():
        for name, value in values.items():
            text = storable(value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False))
            key = keys.key(stage, name)
            if len(text) <= _LONGEST_PARAM:
                yield "params", {"key": key, "value": text}
                continue
            mark = f"… ({len(text)} characters {digest(text)}, whole in the tags modelway.param.{key}.*)"
            yield "params", {"key": key, "value": text[: _LONGEST_PARAM - len(mark)] + mark}
            for part, begin in enumerate(range(0, min(len(text), _MOST_PARTS * LONGEST_TAG), LONGEST_TAG), start=1):
                tag = tags.key("modelway.param", stage, name, str(part))
                yield "tags", {"key": tag, "value": text[begin : begin + LONGEST_TAG]}


def _points(version: VersionDetail, keys: Keys) -> Iterator[tuple[str, int, float]]:
    """Yield what training logged, then what the evaluations found, then the chosen checkpoint's metrics."""
    for series in version.series:
        key = keys.key(series.stage, series.name)
        yield from ((key, step, value) for step, value in zip(series.steps, series.values, strict=True))
    for place, evaluation in enumerate(version.evaluations):
        for name, value in evaluation.metrics.items():
            if value is not None:
                key = keys.key("evaluation", evaluation.stage or "", name)
                yield key, place if evaluation.step is None else evaluation.step, value
    for name, value in version.summary.metrics.items():
        if value is not None:
            yield keys.key("", name), 0, value
