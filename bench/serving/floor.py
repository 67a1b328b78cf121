"""The floor: the least that uvicorn and ONNX Runtime can do for a request, ``python floor.py MODEL_DIR PORT``.

No routes, checks, metrics, limits or drain: the body is read, parsed, run alone and answered.
"""

import sys
from typing import Any

import numpy as np
import onnxruntime
import orjson
import uvicorn


def main(model: str, port: int) -> None:
    """Serve until ended."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(f"{model}/model/model.onnx", options, providers=["CPUExecutionProvider"])

    dtype = np.int64 if session.get_inputs()[0].type == "tensor(int64)" else np.float32

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message["body"]
            more = message["more_body"]
        tensors = {
            entry["name"]: np.array(entry["data"], dtype=dtype).reshape(entry["shape"])
            for entry in orjson.loads(body)["inputs"]
        }
        (scores,) = session.run(None, tensors)
        entry = {"name": "scores", "datatype": "FP32", "shape": scores.shape, "data": scores.ravel()}
        document = {"model_name": "model", "model_version": "1", "outputs": [entry]}
        text = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(text))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": text})

    uvicorn.run(app, port=port, loop="uvloop", http="httptools", lifespan="off", access_log=False, log_level="warning")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
