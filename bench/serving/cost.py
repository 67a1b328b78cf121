"""CPU of the server for a small request: ``python bench/serving/cost.py [PLUGINS ...]``.

Each PLUGINS is a folder that modelway is imported from; this repository's is the default. Sixteen connections send
single rows as JSON, and as binary, in a closed loop, the servers in turns. It prints JSON: the median over the rounds
of CPU microseconds a request, and for several folders of the ratio to the first one.
"""

import argparse
import json
import statistics
import tempfile
import threading
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import psutil
from abuse import PATH, REPOSITORY, server
from network import write_network

CLIENTS = 16


def bodies() -> dict[str, tuple[bytes, dict[str, str]]]:
    """Return the requests by name, with their headers."""
    image = np.random.default_rng(2).random((1, 1, 8, 8), dtype=np.float32)
    entry = {"name": "image", "datatype": "FP32", "shape": [1, 1, 8, 8]}
    text = json.dumps({"inputs": [{**entry, "data": image.ravel().tolist()}]}).encode()
    head = json.dumps({"inputs": [{**entry, "parameters": {"binary_data_size": image.nbytes}}]}).encode()
    return {
        "json": (text, {}),
        "binary": (head + image.tobytes(), {"inference-header-content-length": str(len(head))}),
    }


def microseconds(port: int, pid: int, body: bytes, headers: dict[str, str], *, requests: int) -> float:
    """Return the CPU of the process for one request."""

    def client() -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        for _ in range(requests // CLIENTS):
            connection.request("POST", PATH, body, headers)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200
        connection.close()

    process = psutil.Process(pid)
    before = sum(process.cpu_times()[:2])
    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return (sum(process.cpu_times()[:2]) - before) / requests * 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("plugins", nargs="*", type=Path, default=[REPOSITORY / "plugins"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--requests", type=int, default=1600)
    args = parser.parse_args()
    found: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-serving-") as scratch, ExitStack() as stack:
        model = write_network(Path(scratch) / "model")
        servers = {str(each): stack.enter_context(server(model, plugins=each)) for each in args.plugins}
        for round_ in range(args.rounds + 1):
            for kind, (body, headers) in bodies().items():
                for plugins, (port, pid) in servers.items():
                    value = microseconds(port, pid, body, headers, requests=args.requests)
                    # the first round warms up
                    if round_:
                        found.setdefault(kind, {}).setdefault(plugins, []).append(value)
    result = {}
    for kind, of in found.items():
        first = of[str(args.plugins[0])]
        result[kind] = {
            plugins: {
                "cpu_us": round(statistics.median(values), 1),
                "ratio": round(statistics.median(a / b for a, b in zip(values, first, strict=True)), 3),
            }
            for plugins, values in of.items()
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
