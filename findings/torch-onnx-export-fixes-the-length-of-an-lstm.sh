#!/bin/sh
# torch 2.13.0 (onnxscript 0.7.2, ONNX Runtime 1.31.1): torch.onnx.export of an nn.LSTM that has the sequence first, with
# the length and the batch declared dynamic, succeeds and says nothing, but the length of the example is fixed in a Reshape
# of the program. The input's dimension is still called `length`. A sequence of another length is an error of ONNX Runtime,
# and one of twice the length is answered in another shape: [5, 4, 4] where torch answers [10, 2, 4].
# Matters to whoever exports recurrent networks and tries the program only on sequences of the example's length.
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
from torch import nn

logging.disable(logging.ERROR)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4)

    def forward(self, sequence):
        return self.lstm(sequence)[0]


net = Net().eval()
length, batch = (torch.export.Dim(name, min=1) for name in ("length", "batch"))
program = torch.onnx.export(
    net, (torch.randn(5, 2, 3),), dynamo=True, verbose=False, dynamic_shapes={"sequence": {0: length, 1: batch}}
)
(given,), (made,) = program.model.graph.inputs, program.model.graph.outputs
options = onnxruntime.SessionOptions()
options.log_severity_level = 4
session = onnxruntime.InferenceSession(
    program.model_proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
)
double = torch.randn(10, 2, 3)
answer = session.run(None, {"sequence": double.numpy()})[0]
print(f"input {given.shape}, output {made.shape}")
print(f"a sequence of length 10: torch answers {list(net(double).shape)}, the program {list(answer.shape)}")
same = str(given.shape) == "[length,batch,3]" and str(made.shape) == "[5,batch,4]" and answer.shape == (5, 4, 4)
print("as described" if same else "this has changed")
sys.exit(0 if same else 1)
PY
