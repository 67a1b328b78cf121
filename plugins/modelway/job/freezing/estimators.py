"""A fitted estimator of scikit-learn, XGBoost or LightGBM as an ONNX program."""

from __future__ import annotations

import importlib.metadata
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelway.job.freezing.converters import convert
from modelway.job.freezing.exported import Exported
from modelway.job.freezing.given_program import conformed_answers, write_program
from modelway.job.freezing.joining import Arrays
from modelway.job.freezing.rows import as_array, as_arrays
from modelway.job.freezing.served_form import FunctionAnswers, ServedForm

if TYPE_CHECKING:
    import numpy

#: the name of an input that is given as one table without a name
INPUT = "x"
#: types that example inputs get: converters of trees write programs of 32 bits alone, and know no narrow ones
_WIDER = {
    **dict.fromkeys(("float16", "float64"), "float32"),
    **dict.fromkeys(("int8", "int16", "uint8", "uint16", "uint32"), "int64"),
}
#: outputs' names by what the converters call them
NAMES = {"variable": "prediction"}


def write_estimator(exported: Exported, *, folder: Path, venvs: Path) -> ServedForm:
    """Write an estimator as ``model.onnx``, see :func:`modelway.job.freezing.freeze.freeze`.

    :raises ValueError: it is not fitted, no converter knows a part of it, or the examples are no table
    """
    estimator = exported.model
    examples = _columns(exported.inputs)
    _check_fitted(estimator, examples)
    with tempfile.TemporaryDirectory(prefix="convert-") as scratch:
        path = convert(estimator, examples, scratch=Path(scratch), venvs=venvs)
        _name_inputs(path, list(examples))
        own = _output_names(path)
        unknown = [name for name in own if name not in _METHODS]
        if unknown:
            raise ValueError(f"export: the converter gives the output '{unknown[0]}', which {_kind(estimator)} has not")
        names = list(exported.output_names) or [NAMES.get(name, name) for name in own]

        def answers(running: Any, _: Arrays) -> FunctionAnswers:
            return FunctionAnswers(
                lambda inputs: conformed_answers(
                    {name: _METHODS[each](estimator, inputs) for name, each in zip(names, own, strict=True)},
                    running(inputs),
                )
            )

        given = replace(exported, model=path, inputs=examples, output_names=names)
        return write_program(
            path,
            given,
            outputs=names,
            answers=answers,
            folder=folder,
            made_by=_made_by(estimator),
            layers=[{"name": name, "type": type(part).__name__, "parameters": 0} for name, part in _steps(estimator)],
        )


def _columns(given: Any) -> dict[str, numpy.ndarray[Any, Any]]:
    """Return example inputs by name: one table ``[rows, columns]``, or several columns.

    :raises ValueError: they are no table
    """
    if given is not None and not isinstance(given, Mapping) and not hasattr(given, "columns"):
        given = {INPUT: given}
    if hasattr(given, "columns"):
        given = {str(name): given[name] for name in given.columns}
    if not isinstance(given, Mapping):
        raise ValueError("export: the example inputs of an estimator must be an array or columns by name, got none")
    arrays = as_arrays(
        {name: _column(str(name), value) for name, value in given.items()},
        what="export: the example inputs of an estimator",
    )
    columns = {
        name: array.astype(_WIDER.get(array.dtype.name, array.dtype)).reshape(len(array), *array.shape[1:] or [1])
        for name, array in arrays.items()
    }
    for name, array in columns.items():
        if array.ndim != 2:
            raise ValueError(f"export: example input '{name}' has the shape {list(array.shape)}; give rows and columns")
    return columns


def _column(name: str, given: Any) -> numpy.ndarray[Any, Any]:
    """Return one example input as an array.

    :raises ValueError: it is sparse, or text of which some values are missing
    """
    if hasattr(given, "toarray"):
        raise ValueError(f"export: example input '{name}' is a sparse matrix, requests carry dense ones: .toarray()")
    array = as_array(given)
    if array.dtype == object and any(isinstance(each, str) for each in array.flat):
        odd = next(each for each in array.flat if not isinstance(each, str))
        raise ValueError(
            f"export: example input '{name}' is text with a value that is none ({odd!r:.40}), and a request's text has "
            "no missing values; write a word for it before fitting, such as fillna('')"
        )
    return array


def _table(inputs: Arrays) -> Any:
    """Return inputs in the form in which an estimator was fitted: one array, or a table with the inputs' names.

    :raises ValueError: there are several and pandas, which makes such a table, is not installed
    """
    if len(inputs) == 1:
        (array,) = inputs.values()
        return array.astype(object) if array.dtype.kind == "U" else array
    try:
        import pandas
    except ImportError:
        raise ValueError(
            "export: an estimator of several inputs needs pandas, which makes a table of them; put it into "
            "requirements.txt, or give all columns as one array"
        ) from None
    return pandas.DataFrame({name: array[:, 0] for name, array in inputs.items()})


def _check_fitted(estimator: Any, examples: Arrays) -> None:
    """Refuse an estimator that does not answer the examples.

    :raises ValueError: it does not
    """
    try:
        _predicted(estimator, examples)
    except Exception as error:
        why = " ".join(str(error).split())[:300]
        raise ValueError(
            f"export: {_kind(estimator)} does not answer the example inputs: {type(error).__name__}: {why}"
        ) from error


def _takes_texts(estimator: Any) -> bool:
    """Return whether an estimator begins with one that counts words, which takes a list of texts and no columns."""
    parts = getattr(estimator, "steps", None) or getattr(estimator, "transformer_list", None)
    inner = parts[0][1] if parts else getattr(estimator, "best_estimator_", None)
    return hasattr(estimator, "build_analyzer") if inner is None else _takes_texts(inner)


def _given(estimator: Any, inputs: Arrays) -> Any:
    """Return inputs in the form that an estimator takes."""
    table = _table(inputs)
    return table[:, 0] if len(inputs) == 1 and _takes_texts(estimator) else table


def _predicted(estimator: Any, inputs: Arrays) -> Any:
    return (
        _predict(estimator, inputs) if hasattr(estimator, "predict") else estimator.transform(_given(estimator, inputs))
    )


def _predict(estimator: Any, inputs: Arrays) -> Any:
    table = _given(estimator, inputs)
    if type(estimator).__name__ == "Booster" and type(estimator).__module__.partition(".")[0] == "xgboost":
        import xgboost

        return estimator.predict(xgboost.DMatrix(table))
    return estimator.predict(table)


def _label(estimator: Any, inputs: Arrays) -> Any:
    if type(estimator).__name__ != "Booster":
        return _predict(estimator, inputs)
    return _probabilities(estimator, inputs).argmax(axis=1)


def _probabilities(estimator: Any, inputs: Arrays) -> Any:
    import numpy

    if type(estimator).__name__ == "Booster":
        found = numpy.asarray(_predict(estimator, inputs))
        return found if found.ndim == 2 else numpy.stack([1 - found, found], axis=1)
    table = _given(estimator, inputs)
    # What has no probabilities has distances to the boundary, which the converter calls by the same name.
    return estimator.predict_proba(table) if hasattr(estimator, "predict_proba") else estimator.decision_function(table)


def _variable(estimator: Any, inputs: Arrays) -> Any:
    found = _predicted(estimator, inputs)
    return found.toarray() if hasattr(found, "toarray") else found


def _scores(estimator: Any, inputs: Arrays) -> Any:
    table = _given(estimator, inputs)
    # Distances to the centres of clusters, or how far inside of the data a row is.
    return estimator.transform(table) if hasattr(estimator, "transform") else estimator.decision_function(table)


#: the estimator's own answer for each output, by what the converters call it
_METHODS: Mapping[str, Callable[[Any, Arrays], Any]] = {
    "label": _label,
    "output_label": _label,
    "probabilities": _probabilities,
    "output_probability": _probabilities,
    "variable": _variable,
    "scores": _scores,
}


def _name_inputs(path: Path, names: Sequence[str]) -> None:
    """Give a program's inputs the columns' own names, of which the converter changes those with spaces and the like."""
    import onnx_ir

    program = onnx_ir.load(path)
    changed = [(value, name) for value, name in zip(program.graph.inputs, names, strict=True) if value.name != name]
    for value, name in changed:
        value.name = name
    if changed:
        onnx_ir.save(program, path)


def _output_names(path: Path) -> list[str]:
    import onnx

    return [value.name for value in onnx.load(path).graph.output]


def _steps(estimator: Any) -> Sequence[tuple[str, Any]]:
    """Return the steps of a pipeline by their names, else the estimator itself."""
    steps: Sequence[tuple[str, Any]] = getattr(estimator, "steps", ())
    return [(str(name), step) for name, step in steps] or [("estimator", estimator)]


def _made_by(estimator: Any) -> str:
    """Return the converter's and the estimator's library with their versions, as far as they are known here."""
    own = {"sklearn": "scikit-learn"}.get(library := type(estimator).__module__.partition(".")[0], library)
    known = []
    for name in (own, f"{own}-cpu", "skl2onnx", "onnxmltools"):
        try:
            known.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return " ".join(known)


def _kind(estimator: Any) -> str:
    names: Sequence[str] = (type(estimator).__module__.partition(".")[0], type(estimator).__name__)
    return ".".join(names)
