#!/bin/sh
# skl2onnx 1.20.0 (scikit-learn 1.9.1, onnx 1.23.2, ONNX Runtime 1.31.1): to_onnx of a tree, forest or gradient boosting
# that regresses, given an example row of float64, succeeds and says nothing, but ONNX Runtime does not load the program:
# "Type (tensor(double)) of output arg (variable) of node (TreeEnsembleRegressor) does not match expected type
# (tensor(float))". float64 is what numpy and scikit-learn make by default. A classifier of the same kind loads, and with
# an example of float32 so does the regressor.
# Matters to whoever converts a regressor with the data that it was fitted on.
# Exits 0 while this is so, 1 when it changes.
set -e
work=$(mktemp -d -t finding-XXXXXX)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet skl2onnx==1.20.0 scikit-learn==1.9.1 onnx==1.23.2 onnxruntime==1.31.1
"$work/venv/bin/python" -W ignore - <<'PY'
import sys

import numpy
import onnxruntime
import skl2onnx
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier, RandomForestRegressor
from sklearn.tree import DecisionTreeRegressor

rows = numpy.random.default_rng(0).normal(size=(40, 3))
target = rows[:, 0]


def loads(model, example):
    program = skl2onnx.to_onnx(model, example).SerializeToString()
    try:
        onnxruntime.InferenceSession(program, providers=["CPUExecutionProvider"])
    except Exception as error:
        print(f"  {' '.join(str(error).split())[:200]}")
        return False
    return True


found = {}
for model in (DecisionTreeRegressor(), RandomForestRegressor(3), GradientBoostingRegressor(n_estimators=3)):
    model.fit(rows, target)
    for dtype in ("float64", "float32"):
        found[type(model).__name__, dtype] = loads(model, rows[:1].astype(dtype))
        print(f"{type(model).__name__}, {dtype}: {'loads' if found[type(model).__name__, dtype] else 'does not load'}")
classifier = loads(RandomForestClassifier(3).fit(rows, target > 0), rows[:1])
print(f"RandomForestClassifier, float64: {'loads' if classifier else 'does not load'}")
same = classifier and all(loaded is (dtype == "float32") for (_, dtype), loaded in found.items())
print("as described" if same else "this has changed")
sys.exit(0 if same else 1)
PY
