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
        given = {str(name): as_array(given[name]) for name in given.columns}
    arrays = as_arrays(given, what="export: the example inputs of an estimator")
    columns = {
        # Converters of trees and boosters write programs of 32 bits alone.
        name: (array.astype("float32") if array.dtype == "float64" else array).reshape(
            len(array), *array.shape[1:] or [1]
        )
        for name, array in arrays.items()
    }
    for name, array in columns.items():
        if array.ndim != 2:
            raise ValueError(f"export: example input '{name}' has the shape {list(array.shape)}; give rows and columns")
    return columns


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


def _predicted(estimator: Any, inputs: Arrays) -> Any:
    return _predict(estimator, inputs) if hasattr(estimator, "predict") else estimator.transform(_table(inputs))


def _predict(estimator: Any, inputs: Arrays) -> Any:
    table = _table(inputs)
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
    table = _table(inputs)
    # What has no probabilities has distances to the boundary, which the converter calls by the same name.
    return estimator.predict_proba(table) if hasattr(estimator, "predict_proba") else estimator.decision_function(table)


def _variable(estimator: Any, inputs: Arrays) -> Any:
    found = _predicted(estimator, inputs)
    return found.toarray() if hasattr(found, "toarray") else found


def _scores(estimator: Any, inputs: Arrays) -> Any:
    table = _table(inputs)
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
