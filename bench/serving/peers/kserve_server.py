"""KServe's own ModelServer: ``python kserve_server.py MODEL_DIR PORT``."""

import logging
import sys
import uuid
from typing import Any

import kserve
from session import load


class Scores(kserve.Model):  # type: ignore[misc]
    """The model, as KServe's docs write one."""

    def __init__(self, name: str, model: str) -> None:
        """Load it."""
        super().__init__(name)
        self.run = load(model)
        self.ready = True

    async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        """Answer one request of the protocol; an answer must have an id."""
        scores = self.run(payload.inputs[0].as_numpy())
        output = kserve.InferOutput(name="scores", shape=list(scores.shape), datatype="FP32", data=scores)
        return kserve.InferResponse(payload.id or str(uuid.uuid4()), self.name, [output])


if __name__ == "__main__":
    # no line for each request, as with the others
    logging.disable(logging.WARNING)
    server = kserve.ModelServer(http_port=int(sys.argv[2]), workers=1, enable_grpc=False, enable_latency_logging=False)
    server.start([Scores("model", sys.argv[1])])
