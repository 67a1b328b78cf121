"""Which datatypes KServe's gRPC client reads otherwise than it sent them to the server at PORT, as JSON.

``PORT raw``, or ``PORT typed`` for a server without FP16, which has no typed contents.
"""

import asyncio
import json
import sys
from typing import Any

from kserve import InferenceGRPCClient, InferInput, InferRequest
from kserve.protocol.infer_type import RequestedOutput
from samples import differences, samples

RAW = sys.argv[2] == "raw"
SENT = {kind: array for kind, array in samples().items() if RAW or kind != "FP16"}


async def main() -> dict[str, Any]:
    client = InferenceGRPCClient(f"127.0.0.1:{sys.argv[1]}", timeout=30)
    inputs = []
    for kind, array in SENT.items():
        inputs.append(InferInput(name=kind, shape=list(array.shape), datatype=kind))
        inputs[-1].set_data_from_numpy(array, binary_data=RAW)
    outputs = [RequestedOutput(f"OUT_{kind}") for kind in SENT]
    request = InferRequest(model_name="m", infer_inputs=inputs, request_outputs=outputs)
    answer = await client.infer(request)
    arrays = {output.name: output.as_numpy() for output in answer.outputs}
    states = [await client.is_server_live(), await client.is_server_ready(), await client.is_model_ready("m")]
    return {"wrong": differences(arrays.get, SENT), "datatypes": list(SENT), "states": states}


print(json.dumps(asyncio.run(main())))
