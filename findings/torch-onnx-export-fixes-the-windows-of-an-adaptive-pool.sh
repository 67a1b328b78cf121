#!/bin/sh
# torch 2.13.0 (onnxscript 0.7.2, ONNX Runtime 1.31.1): torch.onnx.export of adaptive_avg_pool2d with a dynamic height and
# width succeeds and says nothing, and the input's dimensions are still called `height` and `width`, but the windows are
# those of the example wherever its size is not a multiple of the output's: of a larger image the corner alone is averaged,
# 15.5 in place of 87.5 in the first cell here. A smaller image is an error of ONNX Runtime about an index.
# Matters to whoever exports an image network that ends in an adaptive pool and is tried on images of one size.
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


class Net(torch.nn.Module):
    def forward(self, image):
        return torch.nn.functional.adaptive_avg_pool2d(image, 3)


def image(height, width):
    return torch.arange(float(height * width)).reshape(1, 1, height, width)


net = Net().eval()
height, width = (torch.export.Dim(name, min=4) for name in ("height", "width"))
program = torch.onnx.export(
    net, (image(11, 12),), dynamo=True, verbose=False, dynamic_shapes={"image": {2: height, 3: width}}
)
(given,) = program.model.graph.inputs
session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
print(f"input {given.shape}")
apart = {}
for size in ((11, 12), (22, 24)):
    answer = torch.from_numpy(session.run(None, {"image": image(*size).numpy()})[0])
    apart[size] = float((answer - net(image(*size))).abs().max())
    print(f"an image of {size}: the first cell is {answer[0, 0, 0, 0]:.5f}, torch's {net(image(*size))[0, 0, 0, 0]:.5f}")
same = str(given.shape) == "[1,1,height,width]" and apart[11, 12] < 1e-3 and apart[22, 24] > 50
print("as described" if same else "this has changed")
sys.exit(0 if same else 1)
PY
