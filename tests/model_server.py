"""The model server as a process, and frozen models that are made by hand for it."""

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx import NodeProto, TensorProto, helper


@dataclass
class Server:
    process: "subprocess.Popen[str]"
    port: int
    #: 0: gRPC is not served
    grpc_port: int = 0

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Mapping[str, str], Any]:
        connection = self.connect()
        connection.request(method, path, body if isinstance(body, bytes | None) else json.dumps(body))
        response = connection.getresponse()
        content = response.read()
        connection.close()
        found = json.loads(content) if response.getheader("content-type") == "application/json" else content
        return response.status, dict(response.getheaders()), found


def environ_of_server() -> dict[str, str]:
    return {"PYTHONPATH": str(Path(__file__).parents[1] / "plugins"), "PATH": os.environ["PATH"]}


def start(folder: Path, *options: str, environ: Mapping[str, str] | None = None) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "modelway.server", "--run-file", str(folder / "run.json"), *options],
        env={**environ_of_server(), **(environ or {})},
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def serving(folder: Path, *options: str, environ: Mapping[str, str] | None = None) -> Iterator[Server]:
    run_file = folder / "run.json"
    process = start(folder, *options, environ=environ)
    try:
        end = time.monotonic() + 60
        while not run_file.exists():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < end
            time.sleep(0.01)
        document = json.loads(run_file.read_text())
        assert document["pid"] == process.pid
        yield Server(process, document["port"], document.get("grpc_port", 0))
    finally:
        process.kill()
        process.communicate()


#: every datatype of the protocol, with ONNX's of each
KINDS = {
    "BOOL": TensorProto.BOOL,
    **{f"UINT{bits}": TensorProto.DataType.Value(f"UINT{bits}") for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": TensorProto.DataType.Value(f"INT{bits}") for bits in (8, 16, 32, 64)},
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}
#: and BF16, for which numpy has no type
_ALL_KINDS = {**KINDS, "BF16": TensorProto.BFLOAT16}
#: name to datatype and shape, in which a word is the program's name of a free length
Tensors = Mapping[str, tuple[str, Sequence[int | str]]]


def write_program(
    folder: Path,
    nodes: Sequence[NodeProto],
    inputs: Tensors,
    outputs: Tensors,
    *,
    weights: Sequence[TensorProto] = (),
    record: Mapping[str, object] = {"batches": True},
) -> Path:
    """Write a model folder named ``m`` of these nodes and return it; ``record`` is added to outputs/model.yml."""
    for part in ("model", "outputs"):
        (folder / part).mkdir(parents=True)
    sides = [
        [helper.make_tensor_value_info(name, _ALL_KINDS[kind], list(shape)) for name, (kind, shape) in side.items()]
        for side in (inputs, outputs)
    ]
    graph = helper.make_graph(list(nodes), "m", sides[0], sides[1], list(weights))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    (folder / "model" / "model.onnx").write_bytes(model.SerializeToString())
    document = {"name": "m", "inputs": _entries(inputs), "outputs": _entries(outputs), **record}
    (folder / "outputs" / "model.yml").write_text(json.dumps(document))
    return folder


def write_echo(folder: Path, *, kinds: Sequence[str] = tuple(KINDS)) -> Path:
    """Write a model with an input of each datatype, named after it, that answers each as OUT_ and its name."""
    nodes = [helper.make_node("Identity", [kind], [f"OUT_{kind}"]) for kind in kinds]
    inputs: Tensors = {kind: (kind, ["batch", 3]) for kind in kinds}
    outputs: Tensors = {f"OUT_{kind}": (kind, ["batch", 3]) for kind in kinds}
    return write_program(folder, nodes, inputs, outputs)


def _entries(side: Tensors) -> list[dict[str, object]]:
    return [
        {"name": name, "datatype": kind, "shape": [-1 if isinstance(length, str) else length for length in shape]}
        for name, (kind, shape) in side.items()
    ]
