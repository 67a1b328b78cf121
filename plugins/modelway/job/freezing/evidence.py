"""What a frozen model is verified with: golden inputs, real rows, and whether rows depend on one another."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelway.job.freezing.exported import Exported
from modelway.job.freezing.frozen_rows import answer_rows, write_rows
from modelway.job.freezing.golden import proven_batches, write_golden
from modelway.job.freezing.joining import Arrays
from modelway.job.freezing.reference import write_reference
from modelway.job.freezing.rows import RealRows, as_array, cast_to_examples
from modelway.job.freezing.served_form import ServedForm


def write_evidence(form: ServedForm, *, exported: Exported, rows: RealRows | None, folder: Path) -> tuple[bool, str]:
    """Write ``golden/`` and, where there are real rows, ``rows/``; return whether requests may be joined, and why.

    :param form: the frozen model
    :param folder: the archive's folder, with the frozen model's files
    :raises ValueError: the rows or golden inputs do not have the form of the examples, or the recorded scores differ
    """
    graph, arrays = form.graph, form.examples
    if rows is not None:
        if not form.batched:
            raise ValueError(
                "real rows are compared only where every input has the batch first; give golden inputs in place of "
                "rows, and record no inputs in evaluate"
            )
        rows = rows.cast_to_examples(arrays, dynamic=exported.dynamic)
    elif not form.batched and graph[0]:
        sizes = ", ".join(f"{name} {len(array) if array.ndim else 'none'}" for name, array in arrays.items())
        graph = (False, f"not every input has the batch first; rows: {sizes}")
    joins = proven_batches(form.answers, graph, arrays, rows.inputs if rows else None)
    if rows is not None:
        answered = answer_rows(form.answers, rows, apart=joins[0])
        frozen = _frozen_model(folder) if exported.score is not None else None
        write_rows(answered, frozen=frozen, score=exported.score, folder=folder / "rows")
        write_reference(form, answered, folder=folder / "outputs")
    given = [_golden(each, arrays, number) for number, each in enumerate(exported.golden, start=1)]
    write_golden(
        form.answers,
        arrays,
        batched=form.batched,
        joined=joins[0],
        sizes=exported.sizes,
        given=given,
        smaller=form.smaller,
        folder=folder / "golden",
    )
    return joins


def _golden(given: Mapping[str, Any], examples: Arrays, number: int) -> Arrays:
    """Return golden inputs from ``export``; what they leave out is as in the examples."""
    what = f"export: the golden inputs {number}"
    if unknown := sorted(set(given) - set(examples)):
        raise ValueError(f"{what} name the input '{unknown[0]}', forward takes {', '.join(examples)}")
    arrays = {name: as_array(given.get(name, array)) for name, array in examples.items()}
    return cast_to_examples(arrays, examples, what=what)


def _frozen_model(folder: Path) -> Any:
    """Return the frozen program as a function of arrays.

    :raises ValueError: the files are no program that runs here
    """
    from modelway.job.freezing.session import open_program

    if (program := open_program(folder)) is None:
        raise ValueError("export: score needs a program to run, and format: files has none; leave score out")
    return program
