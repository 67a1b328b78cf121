#!/bin/sh
# torch 2.13.0 (onnxscript 0.7.2, ONNX Runtime 1.31.1): torch.onnx.export of scatter_reduce(..., reduce="mean") succeeds and
# says nothing, but the program is a ScatterElements without a reduction: of the values that meet in one place it keeps
# one, 2 and 5 in place of the means 1.5 and 4 here, with and without include_self. sum, prod, amax and amin are right.
# Where no two values meet the numbers agree (with include_self=False), so that a small example shows nothing.
# Matters to whoever exports a graph network that averages messages.
# Exits 0 while this is so, 1 when it changes.
set -e
work=$(mktemp -d -t finding-XXXXXX)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 onnxscript==0.7.2 onnx==1.23.2 onnxruntime==1.31.1
"$work/venv/bin/python" -W ignore - <<'PY'
import logging
import sys

import onnxruntime
import torch

logging.disable(logging.ERROR)
places = torch.tensor([[0, 0, 1, 1]])
values = torch.tensor([[1.0, 2.0, 3.0, 5.0]])


class Net(torch.nn.Module):
    def __init__(self, reduction):
        super().__init__()
        self.reduction = reduction

    def forward(self, x):
        return torch.zeros(1, 3).scatter_reduce(1, places, x, self.reduction, include_self=False)


found = {}
for reduction in ("sum", "mean"):
    net = Net(reduction).eval()
    program = torch.onnx.export(net, (values,), dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(
        program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (given,) = session.get_inputs()
    answer = session.run(None, {given.name: values.numpy()})[0].ravel().tolist()
    found[reduction] = (net(values).ravel().tolist(), answer)
    print(f"{reduction}: torch {found[reduction][0]}, the program {answer}")
same = found == {"sum": ([3, 8, 0], [3, 8, 0]), "mean": ([1.5, 4, 0], [2, 5, 0])}
print("as described" if same else "this has changed")
sys.exit(0 if same else 1)
PY
