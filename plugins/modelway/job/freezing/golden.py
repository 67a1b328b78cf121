"""Golden inputs and the checkpoint's answers to them, with which the frozen model is verified.

They are whole rows of the example inputs, repeated and in another order, or come from ``export``; nothing is invented.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelway.job.freezing.joining import Arrays, can_compare, different_rows, pick_rows, prove_rows_apart, row_count
from modelway.job.freezing.outputs import flat_outputs
from modelway.job.freezing.served_form import CheckpointAnswers
from modelway.job.freezing.tensor_file import read_tensors, write_tensors

if TYPE_CHECKING:
    import numpy
    import torch

    Array = numpy.ndarray[Any, Any]

#: what the names of golden inputs begin with that are the examples without the last position of a dimension
SMALLER = "smaller-"
#: batch sizes at which the frozen model must agree with the checkpoint
GOLDEN_BATCHES = (1, 2, 7, 32)
#: how far the answers to a row may be apart for numerical reasons alone
ROUNDING = {"absolute": 1e-4, "relative": 1e-3}


class CheckpointModel:
    """The module that ``export`` returned, as a function of arrays: in eval mode, without gradients, as in evaluation.

    :param names: the outputs' names in the frozen model, in order
    """

    def __init__(self, module: torch.nn.Module, names: Sequence[str]) -> None:
        self.module, self.names = module, names
        #: answer with gradients enabled, where torch may use another path
        self.gradients = False

    def __call__(self, inputs: Arrays, /) -> dict[str, Array]:
        """Return the answers by name."""
        import torch

        mode = torch.enable_grad() if self.gradients else torch.inference_mode()
        with mode:
            # A copy: forward may write into its inputs.
            answer = self.module(**{name: torch.from_numpy(array.copy()) for name, array in inputs.items()})
        tensors = flat_outputs(answer).values()
        # A view is copied, whatever it is made from.
        plain = [tensor.detach().resolve_conj().resolve_neg().cpu().contiguous().numpy() for tensor in tensors]
        return dict(zip(self.names, plain, strict=True))


def write_golden(
    model: CheckpointAnswers,
    examples: Arrays,
    *,
    batched: bool,
    joined: bool = False,
    sizes: Sequence[int] = (),
    given: Sequence[Arrays] = (),
    smaller: Mapping[str, Arrays] | None = None,
    folder: Path,
) -> None:
    """Write the golden inputs and the checkpoint's answers to them.

    :param batched: every input has the batch first; else the examples are used as they are
    :param joined: requests may be joined: then some golden inputs have different rows, to test it
    :param sizes: batch sizes to try, ``GOLDEN_BATCHES`` by default
    :param given: golden inputs from ``export``, used as they are; without ``sizes``, they are the only ones
    :param smaller: the examples without the last position of a dimension that may have any size, by its name
    """
    folder.mkdir(parents=True, exist_ok=True)
    calls = {f"given-{number}": inputs for number, inputs in enumerate(given, start=1)}
    answers = {call: model(inputs) for call, inputs in calls.items()}
    tried: dict[str, Arrays] = {}
    if batched and (sizes or not given):
        tried |= _batches(examples, sizes or GOLDEN_BATCHES)
    tried |= {f"{SMALLER}{name}": inputs for name, inputs in (smaller or {}).items()}
    for call, inputs in tried.items():
        try:
            answers[call] = model(inputs)
        except Exception as error:
            why = " ".join(str(error).split())
            print(f"NOTE: the checkpoint refuses a batch of {call}: {type(error).__name__}: {why}", flush=True)
            continue
        calls[call] = inputs
    if not batched and not given or not calls:
        calls["example"], answers["example"] = dict(examples), model(examples)
    if joined and can_compare(examples) and not any(map(can_compare, calls.values())):
        calls["different-rows"] = different_rows(examples)
        answers["different-rows"] = model(calls["different-rows"])
    for call, outputs in answers.items():
        _note_nan(call, outputs)
    write_tensors(folder / "inputs.safetensors", _keyed(calls))
    write_tensors(folder / "outputs.safetensors", _keyed(answers))


def proven_batches(model: CheckpointAnswers, graph: tuple[bool, str], *pools: Arrays | None) -> tuple[bool, str]:
    """Return whether requests may be joined, and why: what the program's dimensions say, then the checkpoint's answers.

    :param graph: what :func:`modelway.job.freezing.batches.graph_batches` says
    :param pools: rows to test it on; each pool by itself, since rows of two pools may differ in length
    """
    if not graph[0]:
        return graph
    known = [pool for pool in pools if pool is not None]
    for pool in [each for each in known if can_compare(each)] or known[:1]:
        found = prove_rows_apart(model, pool, **ROUNDING)
        if not found[0]:
            break
    return found


def _batches(examples: Arrays, sizes: Sequence[int]) -> dict[str, dict[str, Array]]:
    """Return batches of whole rows, by size: each continues with the rows after those of the one before."""
    count, begin = row_count(examples), 0
    batches = {}
    for size in sorted(set(sizes)):
        batches[str(size)] = pick_rows(examples, [(begin + place) % count for place in range(size)])
        begin += size
    return batches


def _keyed(calls: Mapping[str, Arrays]) -> dict[str, Array]:
    return {f"{call}/{name}": array for call, arrays in calls.items() for name, array in arrays.items()}


def _note_nan(call: str, outputs: Arrays) -> None:
    """Print where the checkpoint itself answers NaN, since that may seem a fault of the frozen model later."""
    import numpy

    for name, array in outputs.items():
        if array.dtype.kind == "f" and (places := numpy.isnan(array)).any():
            row = int(places.reshape(len(array), -1).any(axis=1).argmax()) if array.ndim else 0
            print(f"NOTE: the checkpoint's own answer is NaN: output '{name}' of golden batch {call}, row {row}")


def read_calls(folder: Path) -> dict[str, tuple[dict[str, Array], dict[str, Array]]]:
    """Return the golden inputs and the checkpoint's answers of an unpacked archive, by the name of the call."""
    sides = tuple(read_tensors(folder / "golden" / f"{side}.safetensors") for side in ("inputs", "outputs"))
    calls = sorted({key.partition("/")[0] for key in sides[0]}, key=lambda call: (not call.isdigit(), len(call), call))

    def of(call: str, side: Mapping[str, Array]) -> dict[str, Array]:
        return {key.partition("/")[2]: array for key, array in side.items() if key.partition("/")[0] == call}

    return {call: (of(call, sides[0]), of(call, sides[1])) for call in calls}
