"""Which datatypes Triton's gRPC client reads otherwise than it sent them to the server at PORT, and more, as JSON."""

import json
import sys
from typing import Any

import numpy as np
import tritonclient.grpc as grpc
from samples import differences, samples
from tritonclient.utils import InferenceServerException

client = grpc.InferenceServerClient(f"127.0.0.1:{sys.argv[1]}")
inputs = [
    grpc.InferInput(kind, list(array.shape), kind).set_data_from_numpy(array) for kind, array in samples().items()
]
found = {}
for way in (None, "gzip", "deflate"):
    answer = client.infer("m", inputs, request_id="7", compression_algorithm=way)
    found[str(way)] = differences(answer.as_numpy)
some = client.infer("m", inputs, outputs=[grpc.InferRequestedOutput(f"OUT_{kind}") for kind in ("FP64", "BYTES")])
metadata = client.get_model_metadata("m", "1")


def error(**more: object) -> list[str]:
    try:
        client.infer(**{"model_name": "m", "inputs": inputs, **more})
    except InferenceServerException as failure:
        return [failure.status(), failure.message()]
    return ["none"]


none = [
    grpc.InferInput(kind, [0, array.shape[1]], kind).set_data_from_numpy(array[:0]) for kind, array in samples().items()
]


def many(rows: int) -> dict[str, Any]:
    """Answers of several megabytes, that are more than one window of the client."""
    sent = {kind: np.resize(array, (rows, 3)) for kind, array in samples().items()}
    tensors = [
        grpc.InferInput(kind, list(array.shape), kind).set_data_from_numpy(array) for kind, array in sent.items()
    ]
    return differences(client.infer("m", tensors).as_numpy, sent)


print(
    json.dumps(
        {
            "wrong": found,
            "id": answer.get_response().id,
            "outputs": [output.name for output in some.get_response().outputs],
            "datatypes": [tensor.datatype for tensor in metadata.inputs],
            "shape": list(metadata.outputs[0].shape),
            "server": [client.get_server_metadata().name, client.is_server_live(), client.is_server_ready()],
            "model": [client.is_model_ready("m"), client.is_model_ready("m", "1")],
            "no rows": {
                name: list(client.infer("m", none).as_numpy(f"OUT_{name}").shape) for name in ("FP32", "BYTES")
            },
            "large": many(8000),
            "errors": {
                "model": error(model_name="other"),
                "version": error(model_version="8"),
                "classes": error(outputs=[grpc.InferRequestedOutput("OUT_FP32", class_count=2)]),
                "inputs": error(inputs=inputs[1:]),
            },
        }
    )
)
