"""Real rows of an evaluation, on which the frozen model must answer as the checkpoint did.

They come from ``export`` (its option ``rows``), from a data set of the spec, or from ``job.predictions(inputs=…)``. At
most ``MOST_ROWS`` of them and ``MOST_BYTES`` of inputs are retained, evenly spaced, in their own order.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelway.job.freezing.joining import evenly, pick_rows, row_count
from modelway.job.freezing.tensor_file import read_tensors, write_tensors

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, Any]

MOST_ROWS = 1000
MOST_BYTES = 64 << 20
#: where an evaluation job writes them, below its output folder
FOLDER = "rows"


@dataclass(frozen=True)
class RealRows:
    """Whole rows of all inputs, with what is known about them."""

    inputs: Mapping[str, Array]
    source: str
    """where they come from, for people"""
    of: int
    """of how many rows these were selected"""
    labels: Array | None = None
    """each row's class, from 0, or the labels from ``export``"""
    scores: Array | None = None
    """what ``evaluate`` recorded, ``[n, k]``"""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """metrics of all the rows by their definitions, see ``modelway.job.freezing.scores``"""

    def thinned(self, *, most: int = MOST_ROWS) -> RealRows:
        """Return at most ``most`` rows and ``MOST_BYTES`` of inputs."""
        count = row_count(self.inputs)
        size = sum(array.nbytes for array in self.inputs.values()) / max(1, count)
        order = evenly(count, max(1, min(most, MOST_ROWS, int(MOST_BYTES / size) if size else count)))
        if len(order) == count:
            return self
        labels, scores = (None if each is None else each[order] for each in (self.labels, self.scores))
        return replace(self, inputs=pick_rows(self.inputs, order), labels=labels, scores=scores)

    def cast_to_examples(self, examples: Mapping[str, Array], *, dynamic: Mapping[str, Collection[int]]) -> RealRows:
        """Return the rows in the types of the example inputs.

        :raises ValueError: they do not have their form
        """
        return replace(
            self, inputs=cast_to_examples(self.inputs, examples, what=f"the rows of {self.source}", dynamic=dynamic)
        )


def as_arrays(values: Any, *, what: str) -> dict[str, Array]:
    """Return arrays, tensors or lists by name as arrays of the same number of rows.

    :raises ValueError: they are not, have no rows, or have different numbers of them
    """
    if not isinstance(values, Mapping) or not values:
        raise ValueError(f"{what} must be a mapping from the inputs' names to tensors, got {type(values).__name__}")
    arrays = {str(name): as_array(value) for name, value in values.items()}
    counts = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if len(set(counts.values())) != 1 or not all(counts.values()):
        listed = ", ".join(f"{name} has {count}" for name, count in counts.items())
        raise ValueError(f"{what} must have the same number of rows in each input, the batch first: {listed}")
    if odd := [name for name, array in arrays.items() if array.dtype.kind not in "fiubU"]:
        raise ValueError(f"{what}: '{odd[0]}' holds neither numbers nor text but {arrays[odd[0]].dtype}")
    return arrays


def as_array(value: Any) -> Array:
    """Return an array, a tensor or a list as an array whose numbers are contiguous in memory."""
    import numpy

    array = value.detach().cpu().resolve_neg().contiguous().numpy() if hasattr(value, "detach") else value
    array = numpy.array(array, order="C")
    return array.astype(str) if array.dtype == object and all(isinstance(each, str) for each in array.flat) else array


def cast_to_examples(
    inputs: Mapping[str, Array],
    examples: Mapping[str, Array],
    *,
    what: str,
    dynamic: Mapping[str, Collection[int]] | None = None,
) -> dict[str, Array]:
    """Return inputs in the types of the example inputs, in their order.

    :param dynamic: by input, the dimensions beside the first that may have another size; None: all may
    :raises ValueError: the names, the shapes, or the kinds of numbers are not those of the examples
    """
    if set(inputs) != set(examples):
        raise ValueError(f"{what} have the inputs {', '.join(sorted(inputs))}, forward takes {', '.join(examples)}")
    # A column of a table may come as it is, or as a table of one column.
    inputs = {
        name: array[:, None] if array.ndim == 1 and examples[name].shape[1:] == (1,) else array
        for name, array in inputs.items()
    }
    for name, example in examples.items():
        found = inputs[name]
        free = range(found.ndim) if dynamic is None else {0, *dynamic.get(name, ())}
        sizes = [[size for place, size in enumerate(each.shape) if place not in free] for each in (found, example)]
        # Pixels of 8 bits are rows for an example that was widened.
        wider = found.dtype.kind == "u" and example.dtype.kind == "i" and found.itemsize < example.itemsize
        alike = found.dtype.kind == example.dtype.kind or wider
        if found.ndim != example.ndim or sizes[0] != sizes[1] or not alike:
            raise ValueError(
                f"{what}: '{name}' is {found.dtype} of shape {list(found.shape)}, the example is {example.dtype} of "
                f"shape {list(example.shape)}"
            )
    return {
        # A type of text would cut what is longer than the example.
        name: inputs[name] if example.dtype.kind == "U" else inputs[name].astype(example.dtype)
        for name, example in examples.items()
    }


def record_rows(
    output: Path, *, of: str, inputs: Any, labels: Sequence[int], scores: Any, metrics: Mapping[str, float]
) -> None:
    """Write the rows that an evaluation scored: inputs and labels in one file, the scores in another.

    Checkpoints that are evaluated on the same rows have the same first file, which is stored once.

    :param of: the input of the evaluation job whose checkpoint is evaluated
    :raises ValueError: the numbers of inputs, labels and scores differ
    """
    import numpy

    what = "job.predictions: the inputs"
    arrays, wanted = as_arrays(inputs, what=what), numpy.asarray(scores, dtype="float64")
    if row_count(arrays) != len(labels):
        raise ValueError(f"{what} have {row_count(arrays)} rows, there are {len(labels)} labels and scores")
    rows = RealRows(
        inputs=arrays,
        source="evaluate",
        of=len(labels),
        labels=numpy.asarray(labels, dtype="int64"),
        scores=wanted.reshape(len(labels), -1),
    ).thinned()
    assert rows.labels is not None
    assert rows.scores is not None
    about = {"of": numpy.array([rows.of]), **{f"metrics/{name}": numpy.array([each]) for name, each in metrics.items()}}
    (output / FOLDER).mkdir(parents=True, exist_ok=True)
    named = {f"inputs/{name}": array for name, array in rows.inputs.items()}
    files = recorded_files(output, of)
    write_tensors(files["rows"], {**named, "labels": rows.labels})
    write_tensors(files["scores"], {"scores": rows.scores, **about})


def recorded_files(output: Path, of: str) -> dict[str, Path]:
    """Return where the rows of an evaluation are, by the names of the inputs of the job that freezes."""
    return {name: output / FOLDER / f"{of}.{name}.safetensors" for name in ("rows", "scores")}


def read_recorded(rows: Path | None, scores: Path | None) -> RealRows | None:
    """Return the rows that ``evaluate`` recorded, None where it recorded none."""
    if rows is None or scores is None:
        return None
    found, scored = read_tensors(rows), read_tensors(scores)
    return RealRows(
        inputs={name.removeprefix("inputs/"): array for name, array in found.items() if name.startswith("inputs/")},
        source="evaluate",
        of=int(scored["of"][0]),
        labels=found["labels"],
        scores=scored["scores"],
        metrics={
            name.removeprefix("metrics/"): float(scored[name][0]) for name in scored if name.startswith("metrics/")
        },
    )
