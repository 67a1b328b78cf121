"""LitServe with its batching: ``python litserve_server.py MODEL_DIR PORT``."""

import sys
from typing import Any

import litserve
import numpy as np
from session import load

PATH = "/v2/models/model/infer"


class Scores(litserve.LitAPI):  # type: ignore[misc]
    """The model, as LitServe's docs write one; its requests are those of the Open Inference Protocol."""

    def setup(self, device: str) -> None:
        """Load it in the worker."""
        self.run = load(sys.argv[1])

    def decode_request(self, request: dict[str, Any]) -> Any:
        """Return one row."""
        entry = request["inputs"][0]
        return np.asarray(entry["data"]).reshape(entry["shape"][1:])

    def predict(self, rows: Any) -> Any:
        """Return the scores of several rows."""
        return self.run(rows)

    def encode_response(self, scores: Any) -> dict[str, Any]:
        """Return the answer for one row."""
        entry = {"name": "scores", "datatype": "FP32", "shape": [1, *scores.shape], "data": scores.tolist()}
        return {"model_name": "model", "outputs": [entry]}


if __name__ == "__main__":
    api = Scores(max_batch_size=16, batch_timeout=0.002, api_path=PATH)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="warning")
