"""What Triton's own Python client reads from the server at PORT, as JSON: situation to values or to the error."""

import json
import sys
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import tritonclient.http as http
from tritonclient.utils import InferenceServerException

client = http.InferenceServerClient(f"127.0.0.1:{sys.argv[1]}")
found: dict[str, Any] = {}
NOT_FINITE = np.array([[np.nan, np.inf], [-np.inf, 0.5]], dtype=np.float32)


def note(situation: str, call: Callable[[], Any]) -> None:
    try:
        found[situation] = call()
    except InferenceServerException as error:
        found[situation] = str(error)


def infer(array: np.ndarray = NOT_FINITE, *, binary: bool, kind: str = "FP32", **more: Any) -> list[str]:
    tensor = http.InferInput("x", list(array.shape), kind).set_data_from_numpy(array, binary_data=binary)
    wanted = more.pop("outputs", [http.InferRequestedOutput("y", binary_data=binary)])
    answer = client.infer("m", [tensor], outputs=wanted, **more)
    return [str(value) for value in answer.as_numpy("y").ravel()]


note("JSON", lambda: infer(binary=False))
note("binary", lambda: infer(binary=True))
note("no rows", lambda: infer(np.zeros((0, 2), dtype=np.float32), binary=False))
for name in ("gzip", "deflate"):
    note(f"{name}, JSON", lambda name=name: infer(binary=False, request_compression_algorithm=name))
    note(f"{name}, binary", lambda name=name: infer(binary=True, request_compression_algorithm=name))
note("version", lambda: infer(binary=True, model_version="7"))
note("classes", lambda: infer(binary=True, outputs=[http.InferRequestedOutput("y", class_count=2)]))
note("BF16", lambda: infer(NOT_FINITE.astype(ml_dtypes.bfloat16), binary=True, kind="BF16"))
headers = {"x-user": "u1"}
note("headers, binary", lambda: infer(binary=True, headers=headers))
for rows in (1, 50):
    ones = np.ones((rows, 2), dtype=np.float32)
    note(f"headers again, {rows}", lambda ones=ones: infer(ones, binary=False, headers=headers))
print(json.dumps(found))
