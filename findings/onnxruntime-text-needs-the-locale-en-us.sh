#!/bin/sh
# ONNX Runtime 1.31.1 (skl2onnx 1.20.0, scikit-learn 1.9.1): a program with a StringNormalizer that names no locale does not
# load where en_US.UTF-8 is not installed, as in most small images of containers: "Failed to construct locale with
# name:en_US.UTF-8". skl2onnx writes one, with this locale, for each CountVectorizer and TfidfVectorizer. With the locale
# C.UTF-8, which glibc brings, the same program loads and makes small letters of Ü, too.
# Matters to whoever serves a classifier of texts in a small image.
# Exits 0 while this is so, 1 when it changes (also where the machine has en_US.UTF-8).
set -e
work=$(mktemp -d -t finding-XXXXXX)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet onnxruntime==1.31.1 onnx==1.23.2 skl2onnx==1.20.0 scikit-learn==1.9.1
"$work/venv/bin/python" -W ignore - <<'PY'
import sys

import numpy
import onnxruntime
import skl2onnx
from onnx import TensorProto, helper
from sklearn.feature_extraction.text import CountVectorizer


def session(program):
    try:
        return onnxruntime.InferenceSession(program.SerializeToString(), providers=["CPUExecutionProvider"])
    except Exception as error:
        print(f"  {' '.join(str(error).split())[:250]}")


def lower(**locale):
    node = helper.make_node("StringNormalizer", ["x"], ["y"], case_change_action="LOWER", **locale)
    values = [helper.make_tensor_value_info(name, TensorProto.STRING, [None]) for name in "xy"]
    graph = helper.make_graph([node], "lower", values[:1], values[1:])
    return session(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10))


vectorizer = CountVectorizer().fit(["a big bird"])
program = skl2onnx.to_onnx(vectorizer, initial_types=[("x", skl2onnx.common.data_types.StringTensorType([None, 1]))])
found = {"of skl2onnx": session(program), "no locale": lower(), "C.UTF-8": lower(locale="C.UTF-8")}
print({name: "loads" if each else "does not load" for name, each in found.items()})
small = found["C.UTF-8"] and found["C.UTF-8"].run(None, {"x": numpy.array(["ÜBEL"], dtype=object)})[0].tolist()
print("ÜBEL in C.UTF-8:", small)
same = not found["of skl2onnx"] and not found["no locale"] and small == ["übel"]
print("as described" if same else "this has changed")
sys.exit(0 if same else 1)
PY
