"""Which real rows a freeze verifies on: those from ``export``, from a data set of the spec, or from an evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelway.job.contract import Job
from modelway.job.freezing.exported import Exported
from modelway.job.freezing.joining import row_count
from modelway.job.freezing.rows import RealRows, as_arrays, read_recorded

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, Any]


def real_rows(job: Job, exported: Exported) -> RealRows | None:
    """Return the rows from ``export``, else those that ``evaluate`` recorded; None where there are none.

    :raises ValueError: these are not rows, or there is no such data set
    """
    if exported.rows is None:
        return read_recorded(job.input("rows"), job.input("scores"))
    if isinstance(exported.rows, str):
        if exported.rows not in job.datasets:
            known = ", ".join(sorted(job.datasets)) or "none"
            raise ValueError(f"export: rows names no data set of the spec: '{exported.rows}'; known are {known}")
        source = f"data set '{exported.rows}'"
        inputs = read_dataset(job.datasets[exported.rows].path, name=exported.rows)
    else:
        source, inputs = "export", as_arrays(exported.rows, what="export: the rows")
    labels = None if exported.labels is None else as_arrays({"labels": exported.labels}, what="export")["labels"]
    if labels is None and "labels" in inputs and exported.score is not None:
        labels = inputs.pop("labels")
    if labels is not None and len(labels) != row_count(inputs):
        raise ValueError(f"export: there are {len(labels)} labels for {row_count(inputs)} rows")
    return RealRows(inputs=inputs, source=source, of=row_count(inputs), labels=labels)


def read_dataset(path: Path, *, name: str) -> dict[str, Array]:
    """Return the arrays of a data set: one file of numpy (``.npz``) or safetensors.

    :raises ValueError: it is neither, or contains objects
    """
    import numpy
    from safetensors.numpy import load_file

    if path.suffix == ".safetensors":
        return as_arrays(load_file(path), what=f"the rows of data set '{name}'")
    if path.suffix == ".npz":
        with numpy.load(path, allow_pickle=False) as found:
            return as_arrays({each: found[each] for each in found.files}, what=f"the rows of data set '{name}'")
    raise ValueError(
        f"export: the rows of data set '{name}' cannot be read from {path.name}; give a .npz or .safetensors file with "
        "one array for each input, or the rows themselves"
    )
