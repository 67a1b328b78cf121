"""What each row of an evaluation contributes to its metrics, so that two versions can be compared row by row.

One file for each evaluated checkpoint, ``output/row-metrics/<input>.safetensors``, with one set for each call of
``job.predictions`` and ``job.row_metrics``. At most ``MOST_ROWS`` rows of a set stay, evenly spaced: of the same number
of rows always the same ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelway.job.freezing.joining import evenly
from modelway.job.freezing.rows import as_array
from modelway.job.freezing.tensor_file import read_tensors, write_tensors

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, Any]

MOST_ROWS = 100_000
#: where an evaluation job writes them, below its output folder
FOLDER = "row-metrics"


@dataclass(frozen=True)
class RowMetrics:
    """The values of some metrics for each row of one set of rows."""

    rows: str
    """digest of what the rows are: only those of an equal one are compared"""
    of: int
    """how many rows there were"""
    means: Mapping[str, float]
    """each metric's mean over all of them"""
    values: Mapping[str, Array]
    """each metric's values of the rows that stayed"""
    by_definition: bool
    """whether these are computed of predictions, and evaluate may return them under other names"""

    @classmethod
    def of_rows(cls, values: Mapping[str, Any], *, rows: Any, by_definition: bool) -> RowMetrics:
        """Return the values of rows.

        :param rows: what each row is: an id, or its true value
        :raises ValueError: these are not finite numbers, as many as there are rows
        """
        import numpy

        keys = as_array(rows)
        arrays = {str(name): as_array(each).astype("float64") for name, each in values.items()}
        for name, array in arrays.items():
            if array.shape != keys.shape[:1] or not array.size:
                raise ValueError(f"the metric '{name}' has the shape {list(array.shape)}, there are {len(keys)} rows")
            if not numpy.isfinite(array).all():
                raise ValueError(f"the metric '{name}' has values that are not finite")
        order = evenly(len(keys), MOST_ROWS)
        return cls(
            rows=_digest(keys),
            of=len(keys),
            means={name: float(array.mean()) for name, array in arrays.items()},
            values={name: array[order].astype("float32") for name, array in arrays.items()},
            by_definition=by_definition,
        )


def _digest(keys: Array) -> str:
    """Return a digest of ids or true values: equal numbers of different types have the same."""
    if keys.dtype.kind in "OUS":
        text = json.dumps([str(each) for each in keys.ravel()]).encode()
    else:
        text = keys.astype("float32" if keys.dtype.kind == "f" else "int64").tobytes()
    return hashlib.sha256(f"{list(keys.shape)}".encode() + text).hexdigest()


def metrics_file(output: Path, of: str) -> Path:
    """Return where the sets of an evaluation are.

    :param of: the input of the evaluation job whose checkpoint is evaluated
    """
    return output / FOLDER / f"{of}.safetensors"


def write_row_metrics(output: Path, *, of: str, sets: Sequence[RowMetrics]) -> None:
    """Write all sets of an evaluation."""
    import numpy

    about = [
        {"rows": each.rows, "of": each.of, "means": dict(each.means), "by_definition": each.by_definition}
        for each in sets
    ]
    arrays = {f"{number}/{name}": array for number, each in enumerate(sets) for name, array in each.values.items()}
    (output / FOLDER).mkdir(parents=True, exist_ok=True)
    write_tensors(metrics_file(output, of), {**arrays, "about": numpy.array([json.dumps(about)])})


def read_row_metrics(path: Path) -> tuple[RowMetrics, ...]:
    """Return the sets of an evaluation.

    :raises ValueError: the file is damaged
    """
    from safetensors import SafetensorError

    try:
        found = read_tensors(path)
        about = json.loads(str(found["about"][0]))
        return tuple(
            RowMetrics(**each, values={name: found[f"{number}/{name}"] for name in each["means"]})
            for number, each in enumerate(about)
        )
    except (SafetensorError, KeyError, TypeError, IndexError) as error:
        raise ValueError(f"the metrics of rows cannot be read: {error}") from error
