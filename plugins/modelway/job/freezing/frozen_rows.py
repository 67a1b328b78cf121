"""What the checkpoint answers to real rows, for the archive: ``rows/`` beside ``golden/``.

- ``rows/inputs.safetensors``: ``inputs/<name>`` and, where they are known, ``labels``
- ``rows/answers.safetensors``: ``outputs/<name>``, the checkpoint's answers, and ``scores``, what ``evaluate`` recorded
- ``rows/rows.json``: where the rows come from, in which batch size they were answered, and what the scores are
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelway.job.freezing.joining import Arrays, Model, pick_rows, row_count
from modelway.job.freezing.rows import MOST_BYTES, RealRows
from modelway.job.freezing.scores import Origin, find_near, find_origin
from modelway.job.freezing.tensor_file import read_tensors, write_tensors

if TYPE_CHECKING:
    import numpy

    from modelway.job.freezing.served_form import CheckpointAnswers

    Array = numpy.ndarray[Any, Any]

#: rows that the checkpoint answers at a time
BATCH = 32
#: an evaluation may have run on another device
OF_DEVICES = {"absolute": 1e-3, "relative": 1e-2}
#: returns metrics, from the outputs by name and the labels
Score = Callable[[Mapping[str, Any], Any], Mapping[str, float]]


@dataclass(frozen=True)
class Answered:
    """Real rows and the checkpoint's answers to them."""

    rows: RealRows
    answers: Arrays
    batch: int
    origin: Origin | None = None
    reason: str | None = None
    """why no output is what ``evaluate`` recorded"""


def answer_rows(model: CheckpointAnswers, rows: RealRows, *, apart: bool) -> Answered:
    """Return the checkpoint's answers to real rows, passed to it as in ``evaluate``.

    Where ``evaluate`` recorded scores, they say how it ran the model: with gradients or without, in batches or at once.

    :param apart: no row depends on another, so that the recorded scores must be reproduced
    :raises ValueError: they are not
    """
    rows = _affordable(model, rows)
    count = row_count(rows.inputs)
    if rows.scores is None:
        return Answered(rows=rows, answers=joined_answers(model, rows.inputs, size=BATCH), batch=BATCH)
    nearest, tried = None, []
    for gradients in (False, True):
        for size in (BATCH,) if apart else (BATCH, count):
            model.gradients = gradients
            answers = joined_answers(model, rows.inputs, size=size)
            found = find_origin(answers, rows.scores, **OF_DEVICES)
            if found and not found[1].reason:
                return Answered(rows=rows, answers=answers, batch=size, origin=found[0])
            nearest = nearest or found
            tried.append((size, answers))
    model.gradients = False
    for size, answers in tried:
        if origin := find_near(answers, rows.scores):
            print("NOTE: what evaluate recorded is rounded otherwise than the checkpoint's answers here", flush=True)
            return Answered(rows=rows, answers=answers, batch=size, origin=origin)
    if nearest and apart:
        raise ValueError(
            f"what evaluate recorded is not what the model of export answers: its scores and output "
            f"'{nearest[0].output}' ({nearest[0].form}): {nearest[1].reason}. Let export load the checkpoint "
            "as evaluate does and do within forward what evaluate does to the answers, or record no inputs"
        )
    reason = "rows depend on one another" if nearest else "no output has the shape of the scores"
    answers = joined_answers(model, rows.inputs, size=BATCH)
    return Answered(rows=rows, answers=answers, batch=BATCH, reason=f"{reason} that evaluate recorded")


def _affordable(model: Model, rows: RealRows) -> RealRows:
    """Return as many of the rows as have at most ``MOST_BYTES`` of answers."""
    rows = rows.thinned()
    first = model(pick_rows(rows.inputs, range(min(BATCH, row_count(rows.inputs)))))
    size = sum(array.nbytes for array in first.values()) / min(BATCH, row_count(rows.inputs))
    return rows.thinned(most=max(1, int(MOST_BYTES / size))) if size else rows


def joined_answers(model: Model, inputs: Arrays, *, size: int) -> dict[str, Array]:
    """Return the answers to all rows, in their order, in batches of ``size``; without outputs that are not by row.

    :raises ValueError: no output has the batch first
    """
    import numpy

    parts: dict[str, list[Array]] = {}
    shapes: dict[str, list[int]] = {}
    for order in batches_of(row_count(inputs), size):
        for name, array in model(pick_rows(inputs, order)).items():
            parts.setdefault(name, []).append(array)
            if not array.ndim or len(array) != len(order):
                shapes[name] = list(array.shape)
    if shapes.keys() == parts.keys():
        listed = ", ".join(f"'{name}' {shape}" for name, shape in shapes.items())
        raise ValueError(
            f"real rows cannot be compared, for no output has the batch first: {listed}; give golden inputs in place "
            "of rows, and record no inputs in evaluate"
        )
    return {name: numpy.concatenate(arrays) for name, arrays in parts.items() if name not in shapes}


def batches_of(count: int, size: int) -> Iterator[Sequence[int]]:
    """Yield the places of ``count`` rows, ``size`` at a time."""
    for begin in range(0, count, size):
        yield range(begin, min(count, begin + size))


def write_rows(answered: Answered, *, frozen: Model | None = None, score: Score | None = None, folder: Path) -> None:
    """Write the rows and their answers.

    :param frozen: the frozen program, which ``score`` is run on beside the checkpoint
    :param score: the function for metrics that ``export`` returned
    :raises ValueError: it returns no metrics
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows, answers = answered.rows, answered.answers
    about: dict[str, Any] = {
        "source": rows.source,
        "rows": row_count(rows.inputs),
        "of": rows.of,
        "batch": answered.batch,
        "metrics": dict(rows.metrics),
        "origin": vars(answered.origin) if answered.origin else None,
        "reason": answered.reason,
    }
    if score is not None and frozen is not None:
        served = joined_answers(frozen, rows.inputs, size=answered.batch)
        sides = {"checkpoint": answers, "frozen": served}
        about["scored"] = {side: _metrics(score, outputs, rows.labels) for side, outputs in sides.items()}
    inputs = {f"inputs/{name}": array for name, array in rows.inputs.items()}
    outputs = {f"outputs/{name}": array for name, array in answers.items()}
    labels = {} if rows.labels is None else {"labels": rows.labels}
    scores = {} if rows.scores is None else {"scores": rows.scores}
    write_tensors(folder / "inputs.safetensors", {**inputs, **labels})
    write_tensors(folder / "answers.safetensors", {**outputs, **scores})
    (folder / "rows.json").write_text(json.dumps(about, indent=1, sort_keys=True, allow_nan=False))


def _metrics(score: Score, outputs: Arrays, labels: Any) -> dict[str, float]:
    found = score(dict(outputs), labels)
    if not isinstance(found, Mapping) or not found:
        raise ValueError(f"export: score must give metrics by name, such as {{'loss': 0.1}}, got {found!r:.80}")
    metrics = {}
    for name, value in found.items():
        try:
            metrics[str(name)] = float(value)
        except (TypeError, ValueError):
            metrics[str(name)] = math.nan
        if not math.isfinite(metrics[str(name)]):
            raise ValueError(
                f"export: score must give finite numbers, got {value!r:.80} as '{name}'; leave out of the rows or of "
                "the metrics what has none"
            )
    return metrics


@dataclass(frozen=True)
class FrozenRows:
    """The real rows of an unpacked archive."""

    inputs: Arrays
    answers: Arrays
    labels: Any
    scores: Any
    about: Mapping[str, Any]


def read_rows(folder: Path) -> FrozenRows | None:
    """Return the real rows of an unpacked archive, None where it has none."""
    if not (folder / "rows" / "rows.json").is_file():
        return None
    inputs = read_tensors(folder / "rows" / "inputs.safetensors")
    answers = read_tensors(folder / "rows" / "answers.safetensors")
    return FrozenRows(
        inputs={name[7:]: array for name, array in inputs.items() if name.startswith("inputs/")},
        answers={name[8:]: array for name, array in answers.items() if name.startswith("outputs/")},
        labels=inputs.get("labels"),
        scores=answers.get("scores"),
        about=json.loads((folder / "rows" / "rows.json").read_text()),
    )
