"""Which datatypes KServe's REST client reads otherwise than it sent them to the server at PORT, as JSON by way.

It refuses to write FP16 as JSON.
"""

import asyncio
import json
import sys
from typing import Any

from kserve import InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput
from samples import differences, samples


async def main() -> dict[str, Any]:
    url = f"http://127.0.0.1:{sys.argv[1]}"
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    found = {}
    for way in ("JSON", "binary"):
        inputs = []
        for kind, array in samples().items():
            inputs.append(InferInput(name=kind, shape=list(array.shape), datatype=kind))
            inputs[-1].set_data_from_numpy(array, binary_data=way == "binary" or kind == "FP16")
        outputs = [RequestedOutput(f"OUT_{kind}", parameters={"binary_data": way == "binary"}) for kind in samples()]
        request = InferRequest(model_name="m", infer_inputs=inputs, request_outputs=outputs)
        answer = await client.infer(url, request, model_name="m")
        arrays = {output.name: output.as_numpy() for output in answer.outputs}
        found[way] = differences(arrays.get)
    states = [
        await client.is_server_live(url),
        await client.is_server_ready(url),
        await client.is_model_ready(url, "m"),
    ]
    return {"wrong": found, "states": states}


print(json.dumps(asyncio.run(main())))
