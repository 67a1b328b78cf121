"""``python -m modelway.job.freezing.convert FOLDER``: convert the estimator in a folder to ONNX, see ``converters``."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

#: the newest operators that all converters write; some know no newer ones of ``ai.onnx.ml``
OPSETS = {"": 18, "ai.onnx.ml": 3}
#: of the converters of native boosters
BOOSTER_OPSET = 15
_DO = (
    "Compute that part outside of the model, register a converter of your own (skl2onnx.update_registered_converter) "
    "in the model's Python, or write freeze.format: files"
)
#: what to do about what the converters say often
_INSTEAD = {
    "at most 1 input(s)": "Give all columns as one array in place of a table",
    "flatten_transform": "Call set_params(flatten_transform=False), which changes no prediction",
    "with opset < 11": 'Write KBinsDiscretizer(encode="onehot-dense")',
}
#: scikit-learn's words in RE2's syntax; the converter itself knows those of English letters alone
_WORDS = r"[\p{L}\p{N}_]{2,}"
#: a locale that every Linux has; without it ONNX Runtime needs en_US, which small images have not
_LOCALE = "C.UTF-8"


def converted(estimator: Any, inputs: Mapping[str, Any]) -> bytes:
    """Return an estimator as an ONNX program.

    :param inputs: example arrays by name
    :raises ValueError: no converter knows a part of it; the message says which
    """
    try:
        with _without_feature_names(estimator):
            return _converted(estimator, inputs)
    except ValueError as error:
        if str(error).startswith("export: "):
            raise
        raise _failed(error) from error
    except Exception as error:
        raise _failed(error) from error


def _failed(error: Exception) -> ValueError:
    first = str(error).strip().partition("\n")[0][:300]
    instead = next((advice for said, advice in _INSTEAD.items() if said in first), _DO)
    return ValueError(
        f"export: the converter to ONNX failed: {type(error).__name__}: {first}; its full message is in the log. "
        f"{instead}"
    )


def _converted(estimator: Any, inputs: Mapping[str, Any]) -> bytes:
    from skl2onnx.common.exceptions import MissingConverter, MissingShapeCalculator

    library = type(estimator).__module__.partition(".")[0]
    if type(estimator).__name__ == "Booster":
        import onnxmltools
        from onnxmltools.convert.common.data_types import FloatTensorType

        types = [(name, FloatTensorType([None, *array.shape[1:]])) for name, array in inputs.items()]
        make = {"lightgbm": onnxmltools.convert_lightgbm, "xgboost": onnxmltools.convert_xgboost}[library]
        options = {"zipmap": False} if library == "lightgbm" else {}
        program = make(estimator, initial_types=types, name="model", target_opset=BOOSTER_OPSET, **options)
        return bytes(program.SerializeToString(deterministic=True))
    _register_boosters()
    try:
        program = _program(estimator, inputs)
    except (MissingConverter, MissingShapeCalculator) as error:
        raise ValueError(
            f"export: no converter to ONNX knows a part of it: {str(error).strip().partition(chr(10))[0][:200]}. {_DO}"
        ) from error
    for node in program.graph.node:
        if node.op_type == "StringNormalizer":
            _set_locale(node)
    return bytes(program.SerializeToString(deterministic=True))


def _set_locale(node: Any) -> None:
    for attribute in [each for each in node.attribute if each.name == "locale"]:
        node.attribute.remove(attribute)
    node.attribute.add(name="locale", type=3, s=_LOCALE.encode())


@contextmanager
def _without_feature_names(estimator: Any) -> Iterator[None]:
    """Let boosters of XGBoost forget the columns' names for a while: their converter knows f0, f1 and so on alone."""
    steps = [step for _, step in getattr(estimator, "steps", None) or [("", estimator)]]
    boosters = [
        step.get_booster() if hasattr(step, "get_booster") else step
        for step in steps
        if type(step).__module__.startswith("xgboost.")
    ]
    names = [booster.feature_names for booster in boosters]
    try:
        for booster in boosters:
            booster.feature_names = None
        yield
    finally:
        for booster, own in zip(boosters, names, strict=True):
            booster.feature_names = own


def _program(estimator: Any, inputs: Mapping[str, Any]) -> Any:
    """Convert with one input for each column; what takes one matrix gets them joined in front of it."""
    import skl2onnx
    from skl2onnx.common.utils import InvalidInputLengthException

    types = [(name, _tensor_type(name, array)) for name, array in inputs.items()]

    def program(model: Any) -> Any:
        return skl2onnx.convert_sklearn(model, "model", types, options=_options(model), target_opset=OPSETS)

    try:
        return program(estimator)
    except InvalidInputLengthException:
        return program(_behind_columns(estimator, inputs))


def _behind_columns(estimator: Any, inputs: Mapping[str, Any]) -> Any:
    """Return a pipeline that makes one matrix of all columns for an estimator."""
    import pandas
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline

    table = pandas.DataFrame({name: array[:, 0] for name, array in inputs.items()})
    columns = ColumnTransformer([("all", "passthrough", list(inputs))]).fit(table)
    return Pipeline([("columns", columns), *(getattr(estimator, "steps", None) or [("model", estimator)])])


def _options(estimator: Any) -> dict[Any, Any] | None:
    from sklearn.base import is_classifier

    options: dict[Any, Any] = {id(each): {"tokenexp": _WORDS} for each in _parts(estimator) if _splits_words(each)}
    # What has no probabilities has no such option.
    if is_classifier(estimator) and hasattr(estimator, "predict_proba"):
        options[id(estimator)] = {"zipmap": False}
    return options or None


def _parts(estimator: Any) -> Iterator[Any]:
    """Walk through the steps of pipelines, unions and tables of columns, the fitted ones."""
    yield estimator
    for name in ("steps", "transformer_list", "transformers_"):
        for each in getattr(estimator, name, None) or ():
            yield from _parts(each[1])


def _splits_words(estimator: Any) -> bool:
    """Return whether an estimator counts words as scikit-learn splits them unless another way is set."""
    pattern = getattr(estimator, "token_pattern", None)
    plain = getattr(estimator, "tokenizer", None) is None and getattr(estimator, "analyzer", None) == "word"
    return pattern == r"(?u)\b\w\w+\b" and plain and hasattr(estimator, "vocabulary_")


def _tensor_type(name: str, array: Any) -> Any:
    """Return the converter's type of an input with any number of rows.

    :raises ValueError: it has no type for it
    """
    from skl2onnx.common import data_types

    types = {
        "float32": data_types.FloatTensorType,
        "int64": data_types.Int64TensorType,
        "int32": data_types.Int32TensorType,
        "bool": data_types.BooleanTensorType,
    }
    kind = data_types.StringTensorType if array.dtype.kind == "U" else types.get(array.dtype.name)
    if kind is None:
        raise ValueError(f"export: example input '{name}' is {array.dtype}; give {', '.join(types)} or text")
    return kind([None, *array.shape[1:]])


def _register_boosters() -> None:
    """Let the converter of scikit-learn know the estimators of XGBoost and LightGBM, alone or in a pipeline."""
    from skl2onnx import update_registered_converter
    from skl2onnx.common import shape_calculator

    kinds: list[tuple[Any, str, Any, Any, dict[str, Any]]] = []
    classes = shape_calculator.calculate_linear_classifier_output_shapes
    numbers = shape_calculator.calculate_linear_regressor_output_shapes
    choice = {"options": {"nocl": [True, False], "zipmap": [True, False, "columns"]}}
    if lightgbm := sys.modules.get("lightgbm"):
        from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm

        kinds.append((lightgbm.LGBMClassifier, "LightGbmLGBMClassifier", classes, convert_lightgbm, choice))
        kinds.append((lightgbm.LGBMRegressor, "LightGbmLGBMRegressor", numbers, convert_lightgbm, {}))
    if xgboost := sys.modules.get("xgboost"):
        from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost

        kinds.append((xgboost.XGBClassifier, "XGBoostXGBClassifier", classes, convert_xgboost, choice))
        kinds.append((xgboost.XGBRegressor, "XGBoostXGBRegressor", numbers, convert_xgboost, {}))
    for model, alias, shapes, converter, more in kinds:
        update_registered_converter(model, alias, shapes, converter, **more)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    try:
        (folder / "model.onnx").write_bytes(converted(*pickle.loads((folder / "request.pickle").read_bytes())))
    except ValueError as error:
        (folder / "reason.txt").write_text(str(error))
        raise
