"""Which datatypes Triton's HTTP client reads otherwise than it sent them to the server at PORT, as JSON by way."""

import json
import sys

import tritonclient.http as http
from samples import differences, samples

client = http.InferenceServerClient(f"127.0.0.1:{sys.argv[1]}")
found = {}
for way in ("JSON", "binary"):
    inputs = [
        http.InferInput(kind, list(array.shape), kind).set_data_from_numpy(array, binary_data=way == "binary")
        for kind, array in samples().items()
    ]
    outputs = [http.InferRequestedOutput(f"OUT_{kind}", binary_data=way == "binary") for kind in samples()]
    found[way] = differences(client.infer("m", inputs, outputs=outputs).as_numpy)
metadata = client.get_model_metadata("m")
print(json.dumps({"wrong": found, "datatypes": [tensor["datatype"] for tensor in metadata["inputs"]]}))
