#!/bin/sh
# ONNX Runtime 1.31.1, as 1.23.2 (CPU): a reduction over the last axis of an input without rows has a result of the right
# shape where the axis is written as 1, and of the input's own shape where it is written as -1, though both mean the
# same: ArgMax, ArgMin, ReduceMax, ReduceSum and ReduceMean of [0, 3] give [0, 3] in place of [0], with keepdims=1
# [0, 3] in place of [0, 1]. With one row or more they are right. numpy gives [0] for both.
# torch.onnx.export writes -1 for x.argmax(-1), so a classifier answers an empty batch with a shape that its own
# declaration excludes. Matters to whoever serves batches that may be empty.
# Exits 0 while this is so, 1 when it changes.
set -e
work=$(mktemp -d -t finding-XXXXXX)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet onnxruntime==1.31.1 onnx==1.23.2 numpy==2.4.6
"$work/venv/bin/python" - 2>/dev/null <<'PY'
import sys

import numpy
import onnxruntime
from onnx import TensorProto, checker, helper


def shape_of(operator, axis, keep, rows):
    """Return the shape of a reduction of ``rows`` rows of three numbers."""
    inputs, weights, words = ["x"], [], {"keepdims": keep}
    if operator.startswith("Reduce"):
        inputs.append("axes")
        weights.append(helper.make_tensor("axes", TensorProto.INT64, [1], [axis]))
    else:
        words["axis"] = axis
    kind = TensorProto.INT64 if operator.startswith("Arg") else TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node(operator, inputs, ["y"], **words)],
        "reduction",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("y", kind, ["batch", 1] if keep else ["batch"])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": numpy.zeros((rows, 3), dtype="float32")})[0].shape


print("onnxruntime", onnxruntime.__version__)
same = True
for operator in ("ArgMax", "ArgMin", "ReduceMax", "ReduceSum", "ReduceMean"):
    for keep in (0, 1):
        right = {rows: (rows, 1) if keep else (rows,) for rows in (0, 2)}
        seen = {(axis, rows): shape_of(operator, axis, keep, rows) for axis in (1, -1) for rows in (0, 2)}
        print(f"{operator} keepdims={keep}: no rows, axis 1: {seen[1, 0]}, axis -1: {seen[-1, 0]}; right is {right[0]}")
        same &= seen[-1, 0] == (0, 3) and seen[1, 0] == right[0] and seen[1, 2] == seen[-1, 2] == right[2]
sys.exit(0 if same else 1)
PY
