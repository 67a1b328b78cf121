"""``python -m modelway.job.freezing.convert FOLDER``: convert the estimator in a folder to ONNX, see ``converters``."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Mapping
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


def converted(estimator: Any, inputs: Mapping[str, Any]) -> bytes:
    """Return an estimator as an ONNX program.

    :param inputs: example arrays by name
    :raises ValueError: no converter knows a part of it; the message says which
    """
    try:
        return _converted(estimator, inputs)
    except ValueError as error:
        if str(error).startswith("export: "):
            raise
        raise _failed(error) from error
    except Exception as error:
        raise _failed(error) from error


def _failed(error: Exception) -> ValueError:
    first = str(error).strip().partition("\n")[0][:300]
    return ValueError(
        f"export: the converter to ONNX failed: {type(error).__name__}: {first}; its full message is in the log. {_DO}"
    )


def _converted(estimator: Any, inputs: Mapping[str, Any]) -> bytes:
    import skl2onnx
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
    types = [(name, _tensor_type(name, array)) for name, array in inputs.items()]
    try:
        program = skl2onnx.convert_sklearn(estimator, "model", types, options=_options(estimator), target_opset=OPSETS)
    except (MissingConverter, MissingShapeCalculator) as error:
        raise ValueError(
            f"export: no converter to ONNX knows a part of it: {str(error).strip().partition(chr(10))[0][:200]}. {_DO}"
        ) from error
    return bytes(program.SerializeToString(deterministic=True))


def _options(estimator: Any) -> dict[Any, Any] | None:
    from sklearn.base import is_classifier

    # What has no probabilities has no such option.
    named = is_classifier(estimator) and hasattr(estimator, "predict_proba")
    return {id(estimator): {"zipmap": False}} if named else None


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
