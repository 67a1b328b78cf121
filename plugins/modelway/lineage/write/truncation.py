"""Names that a database would reject are shortened: a long name of a metric must not cost a training run.

PostgreSQL allows about 2,700 bytes in a row of an index, and neither database a number beyond 64 bits.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

from modelway.job.events import LONGEST_NAME
from modelway.lineage.records.values import storable
from modelway.lineage.records.version import RunRecord, VersionRecord

#: a longer name is cut, as one of more characters than a job lets pass; two names and a number make a row of an index
MOST_BYTES = 1_200
_LEFT_CHARACTERS, _LEFT_BYTES = 400, 1_000
_BIGGEST = 2**63 - 1

Name = Callable[[Any], Any]


def truncate_name(name: str) -> str:
    """Return the name, or its beginning and a digest where a database would reject it: another name, another digest."""
    if len(name) <= LONGEST_NAME and "\0" not in name:
        try:
            if len(name.encode()) <= MOST_BYTES:
                return name
        except UnicodeEncodeError:
            pass
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    begin = storable(name[:_LEFT_CHARACTERS]).encode()[:_LEFT_BYTES].decode("utf-8", "ignore")
    return f"{begin}…{digest}"


def truncate_record(
    record: VersionRecord, *, logged: Iterable[tuple[str, str]]
) -> tuple[VersionRecord, dict[str, str]]:
    """Return the record as databases accept it, and the beginning of each name that was changed by its new name.

    :param logged: the stage and name of each metric of which the record has points
    """
    changed = {name: fit for name in {*_names(record), *chain(*logged)} if (fit := truncate_name(name)) != name}
    run = record.run
    numbers = [run.seed, *(stage.seed for stage in run.stages), *(each.step for each in record.evaluations)]
    if not changed and all(map(_fits, [*numbers, *(data.rows for data in run.datasets)])):
        return record, {}
    begins = {fit: storable(name[:100]) for name, fit in changed.items()}
    return _renamed(record, lambda name: changed.get(name, name)), begins


def _fits(number: int | None) -> bool:
    return number is None or -_BIGGEST <= number <= _BIGGEST


def _within(number: int | None) -> int | None:
    return number if _fits(number) else None


def _names(record: VersionRecord) -> Iterator[str]:
    yield from (record.checkpoint, *record.metrics, *record.params, *(file.path for file in record.files))
    for values in record.params.values():
        yield from values
    for each in record.evaluations:
        yield from (each.checkpoint, *each.metrics)
    for data in record.run.datasets:
        yield from (data.stage, data.name)
    yield from (stage.name for stage in record.run.stages)
    for figure in record.run.figures:
        yield from (name for name in (figure.name, figure.stage, figure.checkpoint) if name is not None)
    for importance in record.run.importances:
        yield from (importance.checkpoint, importance.feature)


def _renamed(record: VersionRecord, name: Name) -> VersionRecord:
    return replace(
        record,
        run=_renamed_run(record.run, name),
        checkpoint=name(record.checkpoint),
        metrics={name(key): value for key, value in record.metrics.items()},
        params={
            name(stage): {name(key): value for key, value in values.items()} for stage, values in record.params.items()
        },
        points=[replace(point, stage=name(point.stage), name=name(point.name)) for point in record.points],
        evaluations=[
            replace(
                each,
                checkpoint=name(each.checkpoint),
                step=_within(each.step),
                metrics={name(key): value for key, value in each.metrics.items()},
            )
            for each in record.evaluations
        ],
        files=[replace(file, path=name(file.path)) for file in record.files],
    )


def _renamed_run(run: RunRecord, name: Name) -> RunRecord:
    return replace(
        run,
        seed=_within(run.seed),
        datasets=tuple(
            replace(each, stage=name(each.stage), name=name(each.name), rows=_within(each.rows))
            for each in run.datasets
        ),
        stages=tuple(replace(each, name=name(each.name), seed=_within(each.seed)) for each in run.stages),
        figures=tuple(
            replace(each, name=name(each.name), stage=name(each.stage), checkpoint=name(each.checkpoint))
            for each in run.figures
        ),
        importances=tuple(
            replace(each, checkpoint=name(each.checkpoint), feature=name(each.feature)) for each in run.importances
        ),
    )
