"""CPU, latency and start of servers of one model on one core: ``python bench/serving/compare.py [NAME=COMMAND ...]``.

In one run: this repository's server, and the floor (floor.py: bare uvicorn and ONNX Runtime). A further server is
``NAME=COMMAND``, a shell command in which ``{model}`` and ``{port}`` are replaced; it must answer the same requests.
The servers run on the first core with one thread, the clients on the second, in turns; every answer is compared with
ONNX Runtime's. It prints JSON: per server and number of clients the median over the rounds of CPU microseconds of a
request (all of its processes), of p50 in milliseconds and of requests a second, and their ratios to the floor.
"""

import argparse
import http.client
import json
import os
import shlex
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import orjson
import psutil
from load import run
from network import write_network

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
SAMPLES = 256
PATH = "/v2/models/digits/infer"
OURS = "{python} -m modelway.server --model-dir {model} --port {port}"
FLOOR = "{python} {here}/floor.py {model} {port}"


class Contestant:
    """A server that was started on the first core."""

    def __init__(self, command: str, model: Path, requests: list[bytes], expected: np.ndarray[Any, Any]) -> None:
        """Start it and wait for its first right answer."""
        self._requests, self._expected = requests, expected
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        text = command.format(python=sys.executable, here=HERE, model=model, port=self.port)
        began = time.perf_counter()
        self.process = subprocess.Popen(
            shlex.split(text),
            env={**os.environ, "PYTHONPATH": str(REPOSITORY / "plugins"), "OMP_NUM_THREADS": "1"},
            preexec_fn=lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}),
            start_new_session=True,
        )
        while not self._answers():
            if self.process.poll() is not None or time.perf_counter() - began > 120:
                raise SystemExit(f"does not answer: {text}")
            time.sleep(0.005)
        self.ready = time.perf_counter() - began

    def measure(self, clients: int, number: int) -> dict[str, float]:
        """Send ``number`` requests; return the figures of this round."""
        before = self._cpu()
        seen = run(self.port, self._requests, clients=clients, number=number)
        cpu = self._cpu() - before
        self._check(seen.answers)
        return {
            "cpu_us": cpu / number * 1e6,
            "p50_ms": statistics.median(seen.times) * 1e3,
            "per_second": number / seen.seconds,
        }

    def stop(self) -> None:
        """End all of its processes."""
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()

    def _processes(self) -> list[psutil.Process]:
        main = psutil.Process(self.process.pid)
        return [main, *main.children(recursive=True)]

    def _cpu(self) -> float:
        """Return the CPU seconds of all threads, to the nanosecond."""
        total = 0
        for process in self._processes():
            for task in Path(f"/proc/{process.pid}/task").iterdir():
                total += int((task / "schedstat").read_text().split()[0])
        return total / 1e9

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("POST", PATH, self._requests[0].partition(b"\r\n\r\n")[2])
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _check(self, answers: list[tuple[int, bytes]]) -> None:
        scores = np.array([orjson.loads(body)["outputs"][0]["data"] for _, body in answers], dtype=np.float32)
        if not np.allclose(scores, self._expected[[sample for sample, _ in answers]], rtol=1e-3, atol=1e-4):
            raise SystemExit("an answer is wrong")


def make_requests(model: Path) -> tuple[list[bytes], np.ndarray[Any, Any]]:
    """Return the requests of all samples, and what the model answers to them."""
    images = np.random.default_rng(3).random((SAMPLES, 1, 8, 8), dtype=np.float32)
    session = onnxruntime.InferenceSession(f"{model}/model/model.onnx", providers=["CPUExecutionProvider"])
    requests = []
    for image in images:
        entry = {"name": "image", "datatype": "FP32", "shape": [1, 1, 8, 8], "data": image.ravel().tolist()}
        body = json.dumps({"inputs": [entry]}).encode()
        head = f"POST {PATH} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        requests.append(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    return requests, np.concatenate([session.run(None, {"image": image[None]})[0] for image in images])


def compare(commands: dict[str, str], *, clients: list[int], rounds: int, number: int) -> dict[str, Any]:
    """Measure all servers in turns; the first one is the floor."""
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-serving-") as scratch, ExitStack() as stack:
        model = write_network(Path(scratch) / "model")
        requests, expected = make_requests(model)
        servers = {}
        for name, command in commands.items():
            servers[name] = Contestant(command, model, requests, expected)
            stack.callback(servers[name].stop)
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        for round_ in range(rounds + 1):
            for together in clients:
                for name, server in servers.items():
                    values = server.measure(together, number // 4 if together == 1 else number)
                    # the first round warms up
                    if round_:
                        found.setdefault((name, together), []).append(values)
        ready = {name: round(server.ready, 2) for name, server in servers.items()}
    floor = next(iter(commands))
    table: dict[str, Any] = {name: {"ready_s": ready[name], "clients": {}} for name in commands}
    for (name, together), values in found.items():
        row = {key: round(statistics.median(each[key] for each in values), 3) for key in values[0]}
        pairs = list(zip(values, found[floor, together], strict=True))
        for key in ("cpu_us", "p50_ms"):
            row[f"{key}_by_floor"] = round(statistics.median(a[key] / b[key] for a, b in pairs), 3)
        table[name]["clients"][str(together)] = row
    return {"load": os.getloadavg(), "rounds": rounds, "servers": table}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("others", nargs="*", help="NAME=COMMAND")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 16, 64])
    args = parser.parse_args()
    commands = {"floor": FLOOR, "modelway": OURS, **dict(each.split("=", 1) for each in args.others)}
    print(json.dumps(compare(commands, clients=args.clients, rounds=args.rounds, number=args.requests)))


if __name__ == "__main__":
    main()
