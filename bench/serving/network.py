"""A frozen model for measurements: a small network over 8 x 8 digits, random weights, about 0.1 ms a row."""

import json
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper


def write_network(folder: Path) -> Path:
    """Write a model folder (model/, outputs/) and return it."""
    random = np.random.default_rng(0)
    shapes = {"w1": (16, 1, 3, 3), "w2": (32, 16, 3, 3), "w3": (2048, 10)}
    weights = [
        numpy_helper.from_array((random.standard_normal(shape) / 10).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["a"], pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"], pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Flatten", ["d"], ["e"]),
        helper.make_node("MatMul", ["e", "w3"], ["scores"]),
    ]
    image, scores = {"image": [-1, 1, 8, 8]}, {"scores": [-1, 10]}
    graph = helper.make_graph(nodes, "digits", _values(image), _values(scores), weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    for part in ("model", "outputs"):
        (folder / part).mkdir(parents=True)
    (folder / "model" / "model.onnx").write_bytes(model.SerializeToString())
    document = {"name": "digits", "batches": True, "inputs": _entries(image), "outputs": _entries(scores)}
    (folder / "outputs" / "model.yml").write_text(json.dumps(document))
    return folder


def _values(tensors: dict[str, list[int]]) -> list[object]:
    return [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape[1:]]) for name, shape in tensors.items()
    ]


def _entries(tensors: dict[str, list[int]]) -> list[dict[str, object]]:
    return [{"name": name, "datatype": "FP32", "shape": shape} for name, shape in tensors.items()]
