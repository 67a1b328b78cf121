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
    """Write the counts of all rows, and how many of them the checkpoint answered right where their labels are known."""
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
    """Return the number of labelled rows and of those answered right; None where the answers are not classes."""
    from modelway.sketches import best_classes, scores_classes

    labels = answered.rows.labels
    scored = next((spec for spec in outputs if scores_classes(spec)), None)
    if labels is None or scored is None or labels.dtype.kind not in "iu" or labels.ndim != 1:
        return None
    right = best_classes(answered.answers[scored.name]) == labels
    return {"labelled": len(labels), "right": int(right.sum())}
