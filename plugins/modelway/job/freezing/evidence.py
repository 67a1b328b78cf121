"""What a frozen model is verified with: golden inputs, real rows, and whether rows depend on one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelway.job.freezing.exported import Exported
from modelway.job.freezing.frozen_rows import answer_rows, write_rows
from modelway.job.freezing.golden import CheckpointModel, proven_batches, write_golden
from modelway.job.freezing.joining import Arrays
from modelway.job.freezing.rows import RealRows, as_array, cast_to_examples

if TYPE_CHECKING:
    import torch


def write_evidence(
    *,
    exported: Exported,
    examples: Mapping[str, torch.Tensor],
    output_names: Sequence[str],
    graph: tuple[bool, str],
    rows: RealRows | None,
    smaller: Mapping[str, Mapping[str, torch.Tensor]] | None = None,
    folder: Path,
) -> tuple[bool, str]:
    """Write ``golden/`` and, where there are real rows, ``rows/``; return whether requests may be joined, and why.

    :param examples: the example inputs with all their rows
    :param output_names: of the frozen model, in order
    :param graph: whether the batch comes first everywhere, see :func:`modelway.job.freezing.batches.graph_batches`
    :param smaller: by dimension, the examples without its last position
    :param folder: the archive's folder, with the frozen program
    :raises ValueError: the rows or golden inputs do not have the form of the examples, or the recorded scores differ
    """
    model = CheckpointModel(exported.module, output_names)
    arrays = {name: as_array(tensor) for name, tensor in examples.items()}
    batched = _is_batched(arrays, exported)
    if rows is not None:
        if not batched:
            raise ValueError(
                "real rows are compared only where every input has the batch first; give golden inputs in place of "
                "rows, and record no inputs in evaluate"
            )
        rows = rows.cast_to_examples(arrays, dynamic=exported.dynamic)
    elif not batched and graph[0]:
        sizes = ", ".join(f"{name} {len(array) if array.ndim else 'none'}" for name, array in arrays.items())
        graph = (False, f"not every input has the batch first; rows: {sizes}")
    joins = proven_batches(model, graph, arrays, rows.inputs if rows else None)
    if rows is not None:
        answered = answer_rows(model, rows, apart=joins[0])
        frozen = _frozen_model(folder) if exported.score is not None else None
        write_rows(answered, frozen=frozen, score=exported.score, folder=folder / "rows")
    given = [_golden(each, arrays, number) for number, each in enumerate(exported.golden, start=1)]
    cut = {name: {key: as_array(tensor) for key, tensor in each.items()} for name, each in (smaller or {}).items()}
    write_golden(
        model,
        arrays,
        batched=batched,
        joined=joins[0],
        sizes=exported.sizes,
        given=given,
        smaller=cut,
        folder=folder / "golden",
    )
    return joins


def _is_batched(examples: Arrays, exported: Exported) -> bool:
    """Whether whole rows can be selected: every input has as many, and none is declared to have no batch."""
    counts = {len(array) if array.ndim else None for array in examples.values()}
    return not exported.unbatched and len(counts) == 1 and counts != {None}


def _golden(given: Mapping[str, Any], examples: Arrays, number: int) -> Arrays:
    """Return golden inputs from ``export``; what they leave out is as in the examples."""
    what = f"export: the golden inputs {number}"
    if unknown := sorted(set(given) - set(examples)):
        raise ValueError(f"{what} name the input '{unknown[0]}', forward takes {', '.join(examples)}")
    arrays = {name: as_array(given.get(name, array)) for name, array in examples.items()}
    return cast_to_examples(arrays, examples, what=what)


def _frozen_model(folder: Path) -> Any:
    """Return the frozen program as a function of arrays."""
    from modelway.job.freezing.session import ProgramModel

    return ProgramModel(folder / "model" / "model.onnx")
