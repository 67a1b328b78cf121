"""What a command left in place of ``export(job, checkpoint)``: a program or files, and inputs with their answers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from modelway.job.freezing.exported import Exported
from modelway.job.freezing.joining import Arrays, row_count
from modelway.job.freezing.rows import as_arrays

#: the folder below the job's output, what is in it
FOLDER, EXAMPLES, ANSWERS = "export", "examples.npz", "answers.npz"


class UnknownInputs(LookupError):
    """Inputs whose answers were not left."""


def exported_by_command(folder: Path, *, format: str) -> Exported:
    """Read what a command left in ``folder``: ``model.onnx`` or, with ``format: files``, the folder ``files``.

    ``examples.npz`` has an array of rows for each input, ``answers.npz`` the checkpoint's answers to them.

    :raises ValueError: the command left no such file, or it cannot be read
    """
    model = folder / ("files" if format == "files" else "model.onnx")
    if not model.exists():
        raise ValueError(f"the freeze command left no output/{FOLDER}/{model.name}; write it below $MODELWAY_OUTPUT")
    examples, answers = (_arrays(folder / name) for name in (EXAMPLES, ANSWERS))
    if examples is None and (answers is not None or format != "files"):
        raise ValueError(f"the freeze command left no output/{FOLDER}/{EXAMPLES}, with an array of rows for each input")
    if answers is None or examples is None:
        return Exported(model=model, inputs=examples)
    return Exported(model=model, inputs=examples, answers=_by_row(examples, answers))


def _arrays(path: Path) -> dict[str, Any] | None:
    import numpy

    if not path.is_file():
        return None
    what = f"output/{FOLDER}/{path.name}"
    try:
        with numpy.load(path, allow_pickle=False) as found:
            return as_arrays({name: found[name] for name in found.files}, what=what)
    except (OSError, EOFError) as error:
        raise ValueError(f"{what} cannot be read: {error}") from error
    except ValueError as error:
        # numpy says no more than that it is an object array, which is a pickle.
        raise ValueError(f"{what} cannot be read, it holds more than numbers and text: {error}") from error


def _by_row(examples: Arrays, answers: Arrays) -> Any:
    """Return a function that gives the answers to rows of the examples, in any order.

    :raises ValueError: the numbers of rows differ
    """
    if row_count(examples) != row_count(answers):
        raise ValueError(
            f"output/{FOLDER}: {EXAMPLES} has {row_count(examples)} rows and {ANSWERS} {row_count(answers)}; each "
            "example needs its answer"
        )

    known = examples.items()

    @cache
    def places(types: tuple[tuple[str, str], ...]) -> dict[tuple[Any, ...], int]:
        """Return where each row is; the program's types may be narrower ones than the file's, and change the values."""
        typed = {name: array if array.dtype.kind == "U" else array.astype(dict(types)[name]) for name, array in known}
        return {_row(typed, place): place for place in range(row_count(typed))}

    def answer(inputs: Mapping[str, Any]) -> dict[str, Any]:
        try:
            found = places(tuple((name, inputs[name].dtype.str) for name in examples))
            order = [found[_row(inputs, place)] for place in range(row_count(inputs))]
        except KeyError:
            raise UnknownInputs(f"{ANSWERS} has no answer to these inputs") from None
        return {name: array[order] for name, array in answers.items()}

    return answer


def _row(arrays: Mapping[str, Any], place: int) -> tuple[Any, ...]:
    # None in place of NaN, which is unequal to itself.
    return tuple(
        tuple(None if value != value else value for value in arrays[name][place].reshape(-1).tolist())
        for name in sorted(arrays)
    )
