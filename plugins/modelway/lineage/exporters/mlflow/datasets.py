"""Data sets as the inputs of an MLflow run.

MLflow identifies a data set by experiment, name and digest, and keeps the first record of these three: the digest here
therefore covers everything that is exported about a data set, its address too. Of two inputs with the same three MLflow
keeps the first.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

from modelway.lineage.exporters.mlflow.names import storable
from modelway.lineage.records.addresses import public_address
from modelway.lineage.records.version import DatasetRecord

#: MLflow's own limits
_LONGEST_NAME = _LONGEST_TAG = 500
#: MLflow allows 36 characters: so many of the content's digest, and of one of the rest
_CONTENT, _REST = 24, 11


def dataset_inputs(datasets: Iterable[DatasetRecord]) -> list[dict[str, Any]]:
    """Return a run's inputs: a data set that several stages read is one, with all of them as its context."""
    return [_input(same) for same in _same(datasets)]


def _same(datasets: Iterable[DatasetRecord]) -> list[list[DatasetRecord]]:
    """Return the records of each data set; a stage that does not know the rows read those of the other stages."""
    groups: dict[tuple[Any, ...], list[DatasetRecord]] = {}
    for each in datasets:
        groups.setdefault((each.name, each.uri, each.digest, each.version), []).append(each)
    found = []
    for group in groups.values():
        known = dict.fromkeys(each.rows for each in group if each.rows is not None)
        rows: list[int | None] = [*known] or [None]
        found += [
            [each for each in group if each.rows == number or (each.rows is None and number == rows[0])]
            for number in rows
        ]
    return found


def _input(same: Sequence[DatasetRecord]) -> dict[str, Any]:
    first = same[0]
    rows = next((each.rows for each in same if each.rows is not None), None)
    schema = next((each.schema for each in same if each.schema), None)
    source = {"uri": public_address(first.uri), "digest": first.digest, "version": first.version}
    dataset: dict[str, Any] = {
        "name": storable(first.name)[:_LONGEST_NAME],
        "digest": _digest(first.digest, [source, rows, dict(schema or {})]),
        "source_type": "modelway",
        "source": json.dumps(source),
    }
    if schema:
        dataset["schema"] = json.dumps(dict(schema), ensure_ascii=False)
    if rows is not None:
        dataset["profile"] = json.dumps({"num_rows": rows})
    context = ", ".join(dict.fromkeys(storable(each.stage) for each in same))
    return {"dataset": dataset, "tags": [{"key": "mlflow.data.context", "value": context[:_LONGEST_TAG]}]}


def _digest(content: str | None, known: Any) -> str:
    """Return what distinguishes a data set from others of its name; it starts with its content's digest if known."""
    whole = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()
    if content is None:
        return whole[: _CONTENT + 1 + _REST]
    return f"{storable(content).removeprefix('sha256:')[:_CONTENT]}-{whole[:_REST]}"
