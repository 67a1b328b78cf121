"""A model of a few bytes whose answer says which version gave it: y = x * scale, over a free batch dimension.

Its weight lies in ``model.safetensors`` as ONNX external data, as in a frozen model.
"""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save

WIDTH = 4


def write_model(
    folder: Path, *, scale: float, name: str = "tiny", work: int = 0, output: str = "y", sums: bool = False
) -> Path:
    """Write a model folder (model/, outputs/) and return it; with ``sums`` it answers a row with one number, its sum.

    ``work`` makes one call slow: that many products of 1200 x 1200 matrices, about 0.1 s each on one core.
    """
    (folder / "model").mkdir(parents=True)
    (folder / "outputs").mkdir()
    weights = save({"scale": np.array([scale], dtype=np.float32)})
    (folder / "model" / "model.safetensors").write_bytes(weights)
    nodes, initializers = _work(work)
    nodes.append(helper.make_node("Mul", ["x", "scale"], ["scaled"]))
    nodes.append(helper.make_node("Add", ["scaled", "nothing"], ["added" if sums else output]))
    width = 1 if sums else WIDTH
    if sums:
        initializers.append(numpy_helper.from_array(np.array([1], dtype=np.int64), "columns"))
        nodes.append(helper.make_node("ReduceSum", ["added", "columns"], [output], keepdims=1))
    shape = ["batch", WIDTH]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", width])],
        [_external_scale(weights), *initializers],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / "model" / "model.onnx").write_bytes(model.SerializeToString())
    tensor = {"datatype": "FP32", "shape": [-1, WIDTH]}
    document = {
        "name": name,
        "platform": "onnxruntime_onnx",
        "batches": True,
        "inputs": [{"name": "x", **tensor}],
        "outputs": [{"name": output, **tensor, "shape": [-1, width]}],
        "parameters": 1,
        "tensors": [],
    }
    (folder / "outputs" / "model.yml").write_text(json.dumps(document))
    return folder


def infer_body(rows: int = 1, value: float = 1.0) -> dict[str, object]:
    """Return the JSON body of an infer request."""
    data = [value] * (rows * WIDTH)
    return {"inputs": [{"name": "x", "datatype": "FP32", "shape": [rows, WIDTH], "data": data}]}


def _external_scale(weights: bytes) -> onnx.TensorProto:
    header = int.from_bytes(weights[:8], "little")
    tensor = onnx.TensorProto(name="scale", data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "model.safetensors"), ("offset", str(8 + header)), ("length", "4")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def _work(products: int) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Nodes that make a zero, ``nothing``, out of x in a slow way."""
    zero = numpy_helper.from_array(np.array(0, dtype=np.float32), "zero")
    size = numpy_helper.from_array(np.array([1200, 1200], dtype=np.int64), "size")
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "zero"], ["start"]),
    ]
    if not products:
        return [*nodes, helper.make_node("Identity", ["start"], ["nothing"])], [zero]
    nodes.append(helper.make_node("Expand", ["start", "size"], ["m0"]))
    nodes += [helper.make_node("MatMul", [f"m{i}", f"m{i}"], [f"m{i + 1}"]) for i in range(products)]
    nodes.append(helper.make_node("ReduceSum", [f"m{products}"], ["nothing"], keepdims=0))
    return nodes, [zero, size]
