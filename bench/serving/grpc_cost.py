"""CPU of a small request over gRPC and over REST, to one server: ``python bench/serving/grpc_cost.py``; needs grpcio.

The server runs on the first core with one thread, the clients on the second: 1, 16 and 64 in a closed loop, each on
a connection of its own, and the gRPC ones also on one connection together. REST is asked with JSON and with binary
tensors. Every answer is compared with ONNX Runtime's. It prints JSON: the median over the rounds of CPU microseconds of
a request by way and number of clients, and the ratio to REST with JSON in the same round; target: at most 2.5. The
exit status is 1 when it is missed.
"""

import argparse
import asyncio
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import orjson
from compare import REPOSITORY
from contestant import in_turn, run
from forms import PROTOCOL, SAMPLES, make_samples
from modelway.server.grpc import protobuf
from network import write_network

CLIENTS = (1, 16, 64)
TARGET = 2.5
METHOD = "/inference.GRPCInferenceService/ModelInfer"


def message(image: np.ndarray[Any, Any]) -> bytes:
    """Return a ModelInferRequest with raw contents."""
    tensor = protobuf.text_field(1, "image") + protobuf.text_field(2, "FP32") + protobuf.numbers_field(3, image.shape)
    parts = (
        protobuf.text_field(1, "model"),
        protobuf.bytes_field(5, tensor),
        protobuf.bytes_field(7, image.tobytes()),
    )
    return b"".join(parts)


def binary(image: np.ndarray[Any, Any]) -> bytes:
    """Return a request of REST with binary tensors both ways."""
    parameters = {"binary_data_size": image.nbytes}
    entry = {"name": "image", "datatype": "FP32", "shape": list(image.shape), "parameters": parameters}
    head = json.dumps({"inputs": [entry], "parameters": {"binary_data_output": True}}).encode()
    length = f"inference-header-content-length: {len(head)}\r\ncontent-length: {len(head) + image.nbytes}\r\n\r\n"
    return f"POST {PROTOCOL.path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{length}".encode() + head + image.tobytes()


def ask_grpc(
    port: int, messages: list[bytes], *, clients: int, number: int, together: bool, begin: Callable[[], None]
) -> list[tuple[int, bytes]]:
    """Send ``number`` requests, and return the answers with the number of the sample of each.

    :param begin: called when all connections are open, which are few in gRPC and last
    """
    order, answers = itertools.count(), []

    async def client(channel: grpc.aio.Channel) -> None:
        call = channel.unary_unary(METHOD)
        while (at := next(order)) < number:
            answers.append((at % SAMPLES, await call(messages[at % SAMPLES])))

    async def main() -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        channels = [
            grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) for _ in range(1 if together else clients)
        ]
        await asyncio.gather(*(channel.unary_unary(METHOD)(messages[0]) for channel in channels))
        begin()
        await asyncio.gather(*(client(channels[at % len(channels)]) for at in range(clients)))
        for channel in channels:
            await channel.close()

    asyncio.run(main())
    return answers


def scores_of(answers: list[tuple[int, bytes]], way: str) -> np.ndarray[Any, Any]:
    """Return the outputs: the last 40 bytes, but in JSON."""
    if way == "json":
        return np.array([orjson.loads(body)["outputs"][0]["data"] for _, body in answers], dtype=np.float32)
    return np.frombuffer(b"".join(body[-40:] for _, body in answers), dtype="<f4").reshape(-1, 10)


def measure(*, rounds: int, number: int) -> dict[str, Any]:
    """Start a server and measure all ways in turns."""
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-serving-") as scratch:
        model = write_network(Path(scratch) / "model")
        samples = make_samples(str(model))
        texts, expected, images = samples.requests(PROTOCOL), samples.scores, samples.rows[:, None]
        messages, binaries = [message(image) for image in images], [binary(image) for image in images]
        run_file = Path(scratch) / "run.json"
        ports = ("--port", "0", "--grpc-port", "0", "--run-file", str(run_file))
        process = subprocess.Popen(
            [sys.executable, "-m", "modelway.server", "--name", "model", "--model-dir", str(model), *ports],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY / "plugins"), "OMP_NUM_THREADS": "1"},
            preexec_fn=lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}),
        )
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        try:
            while not run_file.exists():
                time.sleep(0.02)
            known = json.loads(run_file.read_text())
            before = 0.0

            def begin() -> None:
                nonlocal before
                before = cpu(process.pid)

            def rest(requests: list[bytes], clients: int, many: int) -> list[tuple[int, bytes]]:
                begin()
                return run(known["port"], clients=clients, more=in_turn(requests, number=many)).bodies

            def grpc_(together: bool, clients: int, many: int) -> list[tuple[int, bytes]]:
                asked = {"clients": clients, "number": many, "together": together, "begin": begin}
                return ask_grpc(known["grpc_port"], messages, **asked)

            ways: dict[str, Callable[[int, int], list[tuple[int, bytes]]]] = {
                "json": partial(rest, texts),
                "binary": partial(rest, binaries),
                "grpc": partial(grpc_, False),
                "grpc, one connection": partial(grpc_, True),
            }
            for round_, clients, way in itertools.product(range(rounds + 1), CLIENTS, ways):
                many = number // 4 if clients == 1 else number
                answers = ways[way](clients, many)
                used = (cpu(process.pid) - before) / many * 1e6
                if not np.allclose(scores_of(answers, way), expected[[at for at, _ in answers]], rtol=1e-3, atol=1e-4):
                    raise SystemExit(f"an answer is wrong: {way}")
                # the first round warms up
                if round_:
                    found.setdefault(f"{clients} clients, {way}", []).append(used)
        finally:
            process.kill()
            process.wait()
    table = {}
    for name, values in found.items():
        rest = found[name.split(",")[0] + ", json"]
        ratio = statistics.median(a / b for a, b in zip(values, rest, strict=True))
        table[name] = {"cpu_us": round(statistics.median(values), 1), "by_json": round(ratio, 2)}
    return {"load": os.getloadavg(), "ways": table}


def cpu(pid: int) -> float:
    """Return the CPU seconds of all threads of a process, to the nanosecond."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def main() -> int:
    """Measure, print, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=2000)
    args = parser.parse_args()
    found = measure(rounds=args.rounds, number=args.requests)
    print(json.dumps(found, indent=1))
    return int(any(row["by_json"] > TARGET for name, row in found["ways"].items() if "grpc" in name))


if __name__ == "__main__":
    sys.exit(main())
