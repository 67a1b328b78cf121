"""Vertex AI's form: a request with ``instances``, a value for each row, and an answer with ``predictions``."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from modelway.server.core.refusal import Refusal
from modelway.server.core.signature import Signature, TensorSpec
from modelway.server.core.tensors import Array


def input_entries(instances: object, signature: Signature) -> list[dict[str, Any]]:
    """Return ``instances`` as the ``inputs`` of the Open Inference Protocol, whose values are still to be checked.

    :raises Refusal: 400 when it is not a list with the values of all inputs, or the model's inputs have no rows
    """
    if not all(spec.shape[:1] == (-1,) for spec in signature.inputs):
        raise Refusal(400, "the inputs of this model have no rows: send 'inputs' by the Open Inference Protocol")
    if not isinstance(instances, list) or not instances:
        raise Refusal(400, "instances must be a list with a value for each row")
    return [_entry(spec, [_value(each, spec, signature) for each in instances]) for spec in signature.inputs]


def predictions(arrays: Mapping[str, Array]) -> bytes:
    """Return the answer: a value for each row, an object with one for each output where there are several.

    :raises Refusal: 400 when an output has no rows
    """
    lengths = {array.shape[:1] for array in arrays.values()}
    if len(lengths) != 1 or () in lengths:
        raise Refusal(400, "the outputs of this model have no rows: send 'inputs' by the Open Inference Protocol")
    columns = {name: _rows(array) for name, array in arrays.items()}
    if len(columns) == 1:
        (found,) = columns.values()
    else:
        found = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return orjson.dumps({"predictions": found})


def _value(instance: object, spec: TensorSpec, signature: Signature) -> object:
    if isinstance(instance, dict):
        unknown = [name for name in instance if name not in signature.known_inputs]
        if spec.name not in instance or unknown:
            raise Refusal(400, f"an instance must have the values of {_names(signature)}, and no others")
        return instance[spec.name]
    if len(signature.inputs) > 1:
        raise Refusal(400, f"an instance must be an object with the values of {_names(signature)}")
    return instance


def _entry(spec: TensorSpec, values: list[object]) -> dict[str, Any]:
    shape: list[int] = []
    level: object = values
    for _ in spec.shape:
        if not isinstance(level, list):
            break
        shape.append(len(level))
        level = level[0] if level else None
    return {"name": spec.name, "datatype": spec.datatype, "shape": shape, "data": values}


def _rows(array: Array) -> list[Any]:
    values = array
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        values = array.astype(object)
        for value, word in ((np.inf, "Infinity"), (-np.inf, "-Infinity")):
            values[array == value] = word
    rows: list[Any] = values.tolist()
    return rows


def _names(signature: Signature) -> str:
    return ", ".join(f"'{spec.name}'" for spec in signature.inputs)
