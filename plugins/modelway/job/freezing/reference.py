"""How inputs and answers were distributed on the rows of the evaluation, for the monitor: ``outputs/sketches.json``.

The counts are those that the server makes of what it answers, so that both can be compared: ``modelway.sketches``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelway.job.freezing.frozen_rows import Answered
from modelway.job.freezing.joining import row_count

if TYPE_CHECKING:
    from modelway.job.freezing.served_form import ServedForm

NAME = "sketches.json"


@dataclass(frozen=True)
class Described:
    """One input or output as the frozen model's description has it."""

    name: str
    datatype: str
    shape: tuple[int, ...]


def write_reference(form: ServedForm, answered: Answered, *, folder: Path) -> None:
    """Write the counts of all rows, and how well the checkpoint answered them where their labels are known."""
    from modelway.sketches import Counts

    inputs, outputs = _described(form.inputs), _described(form.outputs)
    known = [spec for spec in outputs if spec.name in answered.answers]
    counts = Counts(inputs=inputs, outputs=known)
    rows = answered.rows
    counts.add(
        {name: [array] for name, array in rows.inputs.items()},
        {spec.name: [answered.answers[spec.name]] for spec in known},
    )
    found = {"rows": row_count(rows.inputs), **counts.documents(), "quality": _quality(known, answered)}
    (folder / NAME).write_text(json.dumps(found, indent=1, sort_keys=True, allow_nan=False))


def _described(specs: Sequence[Mapping[str, Any]]) -> list[Described]:
    return [Described(each["name"], each["datatype"], tuple(each["shape"])) for each in specs]


def _quality(outputs: Sequence[Described], answered: Answered) -> dict[str, Any] | None:
    """Return the labelled rows with those answered right, or of numbers the mean error; None where it is neither."""
    import numpy as np

    from modelway.sketches import best_classes, scores_classes

    labels = answered.rows.labels
    if labels is None or labels.dtype.kind not in "iuf" or labels.size != len(labels):
        return None
    labels = labels.reshape(-1)
    if (scored := next((spec for spec in outputs if scores_classes(spec)), None)) is not None:
        right = best_classes(answered.answers[scored.name]) == labels
        return {"labelled": len(labels), "right": int(right.sum())} if labels.dtype.kind in "iu" else None
    number = next((each for each in outputs if each.datatype != "BYTES" and each.shape in ((-1,), (-1, 1))), None)
    # A score of one class out of two is no estimate of its label.
    if number is None or len(np.unique(labels)) <= 2:
        return None
    errors = np.abs(answered.answers[number.name].reshape(-1).astype(np.float64) - labels.astype(np.float64))
    if not np.isfinite(errors).all():
        return None
    return {"labelled": len(labels), "error": float(errors.mean()), "deviation": float(errors.std(ddof=1))}
