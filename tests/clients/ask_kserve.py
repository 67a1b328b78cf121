"""What KServe's own Python client reads from the server at PORT, as JSON: situation to values or to the error."""

import asyncio
import json
import sys
from typing import Any

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput

NOT_FINITE = np.array([[np.nan, np.inf], [-np.inf, 0.5]], dtype=np.float32)


async def infer(client: InferenceRESTClient, array: np.ndarray, *, binary: bool, out: bool | None) -> Any:
    tensor = InferInput(name="x", shape=list(array.shape), datatype="FP32")
    tensor.set_data_from_numpy(array, binary_data=binary)
    wanted = [] if out is None else [RequestedOutput("y", parameters={"binary_data": out})]
    request = InferRequest(model_name="m", infer_inputs=[tensor], request_outputs=wanted or None)
    try:
        answer = await client.infer(f"http://127.0.0.1:{sys.argv[1]}", request, model_name="m")
    except httpx.HTTPStatusError as error:
        return str(error)
    return [str(value) for value in answer.outputs[0].as_numpy().ravel()]


async def main() -> dict[str, Any]:
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    nothing = np.zeros((0, 2), dtype=np.float32)
    found = {}
    for binary in (False, True):
        way = "binary" if binary else "JSON"
        for out in (None, False, True):
            found[f"{way}, {out}"] = await infer(client, NOT_FINITE, binary=binary, out=out)
        found[f"{way}, no rows"] = await infer(client, nothing, binary=binary, out=None)
    return found


print(json.dumps(asyncio.run(main())))
