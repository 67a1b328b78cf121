"""What is sent to a server, and where the scores are in its answer: each speaks a form of its own."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
import orjson

SAMPLES = 256
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Form:
    """A form of requests and answers."""

    path: str
    #: the JSON document of one row, with the name and the datatype of the model's input
    document: Callable[[str, str, Array], dict[str, Any]]
    #: the scores of the row in an answer
    scores: Callable[[bytes], Any]


def _protocol(name: str, datatype: str, row: Array) -> dict[str, Any]:
    return {"inputs": [{"name": name, "datatype": datatype, "shape": row.shape, "data": row.ravel().tolist()}]}


#: the Open Inference Protocol
PROTOCOL = Form("/v2/models/model/infer", _protocol, lambda body: orjson.loads(body)["outputs"][0]["data"])
FORMS = {
    "bentoml": Form("/infer", lambda name, datatype, row: {"rows": row.tolist()}, lambda body: orjson.loads(body)[0]),
    "mlflow": Form(
        "/invocations",
        lambda name, datatype, row: {"inputs": {name: row.tolist()}},
        lambda body: orjson.loads(body)["predictions"][0],
    ),
}


@dataclass(frozen=True)
class Samples:
    """Rows of a model's only input, and its scores for them."""

    name: str
    datatype: str
    rows: Array
    scores: Array

    def requests(self, form: Form) -> list[bytes]:
        """Return an HTTP request for each row."""
        found = []
        for at in range(len(self.rows)):
            body = json.dumps(form.document(self.name, self.datatype, self.rows[at : at + 1])).encode()
            head = f"POST {form.path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            found.append(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        return found

    def check(self, form: Form, answers: Sequence[tuple[int, bytes]]) -> None:
        """Compare answers, each with the number of its row.

        :raises SystemExit: one is wrong
        """
        found = np.array([form.scores(body) for _, body in answers], dtype=np.float32)
        if not np.allclose(found, self.scores[[at for at, _ in answers]], rtol=1e-3, atol=1e-4):
            raise SystemExit("an answer is wrong")


def make_samples(model: str) -> Samples:
    """Return rows at random for the model in a folder, and what ONNX Runtime answers to them."""
    session = onnxruntime.InferenceSession(f"{model}/model/model.onnx", providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    random, shape = np.random.default_rng(3), (SAMPLES, *given.shape[1:])
    if given.type == "tensor(int64)":
        rows, datatype = random.integers(0, 1000, shape), "INT64"
    else:
        rows, datatype = random.random(shape, dtype=np.float32), "FP32"
    scores = [session.run(None, {given.name: rows[at : at + 1]})[0] for at in range(SAMPLES)]
    return Samples(given.name, datatype, rows, np.concatenate(scores))
