"""Vertex AI's form of requests and answers, for models of several inputs and outputs."""

import json

import numpy as np
import pytest
from modelway.server.core.refusal import Refusal
from modelway.server.core.signature import Signature, TensorSpec
from modelway.server.rest.codec import decode, encode

MODEL = Signature(
    "m",
    "onnxruntime_onnx",
    (TensorSpec("a", "FP32", (-1, 2)), TensorSpec("b", "BYTES", (-1,))),
    (TensorSpec("y", "FP32", (-1, 2)), TensorSpec("z", "BYTES", (-1,))),
)


def test_an_instance_and_a_prediction_are_objects_where_there_are_several() -> None:
    body = json.dumps({"instances": [{"a": [1, 2], "b": "x"}, {"b": "y", "a": [3, 4]}]}).encode()
    inference = decode(body, None, MODEL, instances=True)
    assert inference.inputs["a"].tolist() == [[1, 2], [3, 4]]
    assert inference.inputs["b"].tolist() == ["x", "y"]
    outputs = {
        "y": np.array([[1, np.inf], [-np.inf, np.nan]], dtype=np.float32),
        "z": np.array(["p", "q"], dtype=object),
    }
    assert json.loads(encode(inference, outputs, name="m", version="1").body) == {
        "predictions": [{"y": [1.0, "Infinity"], "z": "p"}, {"y": ["-Infinity", None], "z": "q"}]
    }


def test_several_inputs_need_objects() -> None:
    with pytest.raises(Refusal, match="an object with the values of 'a', 'b'"):
        decode(b'{"instances": [[1, 2]]}', None, MODEL, instances=True)


def test_models_without_rows_have_no_instances() -> None:
    fixed = Signature("m", "onnxruntime_onnx", (TensorSpec("a", "FP32", (1, 2)),), (TensorSpec("y", "FP32", (2,)),))
    with pytest.raises(Refusal, match="send 'inputs' by the Open Inference Protocol"):
        decode(b'{"instances": [[1, 2]]}', None, fixed, instances=True)
    inference = decode(b'{"instances": [{"a": [1, 2], "b": ""}]}', None, MODEL, instances=True)
    with pytest.raises(Refusal, match="the outputs of this model have no rows"):
        encode(inference, {"y": np.zeros(2, dtype=np.float32), "z": np.array(0.0)}, name="m", version="1")
