"""What others notice of twenty clients that do their worst to a model server, and what it takes of memory.

``python bench/serving/abuse.py [--seconds 60] [--clients 4]`` needs onnx. It starts a server, has clients ask it, each
with a pause between its requests, first alone and then beside the twenty (attacks.py), and checks every answer. The
twenty are a process of their own, at a lower priority: they stand for other machines. It prints JSON. ``p99_ratio``
is the others' 99th percentile beside them by that before; target: at most 3. ``memory_mib`` is the largest sum over
the server's processes; target: at most 512. The exit status is 1 when a target is missed or an answer was wrong.
"""

import argparse
import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
PATH = "/v2/models/digits/infer"
TARGET_RATIO = 3.0
TARGET_MIB = 512
#: seconds between the requests of one client
PAUSE = 0.02


class Others:
    """Clients that ask in a decent way, and what they saw."""

    def __init__(self, port: int, *, clients: int) -> None:
        """Keep the server's port and the number of clients."""
        self._port, self._clients = port, clients
        self._samples = np.random.default_rng(1).random((32, 1, 8, 8), dtype=np.float32)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._expected = [self._ask(connection, at)[1] for at in range(32)]
        connection.close()

    def measure(self, seconds: float) -> dict[str, Any]:
        """Ask for some seconds; return requests, wrong ones, and percentiles in milliseconds."""
        took: list[float] = []
        wrong: list[str] = []
        until = time.monotonic() + seconds

        def client(number: int) -> None:
            connection, at = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60), number
            while time.monotonic() < until:
                at = (at + 1) % 32
                began = time.perf_counter()
                try:
                    status, scores = self._ask(connection, at)
                except (OSError, http.client.HTTPException) as error:
                    status, scores = 0, []
                    wrong.append(repr(error))
                    connection.close()
                took.append(time.perf_counter() - began)
                if status != 200 or not np.allclose(scores, self._expected[at], rtol=1e-3, atol=1e-4):
                    wrong.append(str(status))
                time.sleep(PAUSE)
            connection.close()

        threads = [threading.Thread(target=client, args=(number,)) for number in range(self._clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        p50, p99 = np.percentile(took, [50, 99]) * 1000
        worst = max(took) * 1000
        return {
            "requests": len(took),
            "wrong": len(wrong),
            "first_wrong": wrong[:3],
            "p50_ms": round(float(p50), 2),
            "p99_ms": round(float(p99), 2),
            "worst_ms": round(worst, 2),
        }

    def _ask(self, connection: http.client.HTTPConnection, at: int) -> tuple[int, list[float]]:
        entry = {"name": "image", "datatype": "FP32", "shape": [1, 1, 8, 8], "data": self._samples[at].ravel().tolist()}
        connection.request("POST", PATH, json.dumps({"inputs": [entry]}))
        answer = connection.getresponse()
        content = json.loads(answer.read())
        return answer.status, content["outputs"][0]["data"] if answer.status == 200 else []


class Memory(threading.Thread):
    """Looks at the memory of a process and its children."""

    def __init__(self, pid: int) -> None:
        """Keep the process."""
        super().__init__(daemon=True)
        self._process = psutil.Process(pid)
        self._end = threading.Event()
        self.most = 0

    def run(self) -> None:
        """Look twenty times a second."""
        while not self._end.wait(0.05):
            total = 0
            for process in (self._process, *self._process.children()):
                try:
                    # memory that is of this process alone, but for the libraries that both have
                    total += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            self.most = max(self.most, total)

    def stop(self) -> int:
        """Return the largest sum, in MiB."""
        self._end.set()
        self.join()
        return self.most >> 20


@contextmanager
def server(model: Path, *, plugins: Path) -> Iterator[tuple[int, int]]:
    """Run a server; give its port and process id."""
    with tempfile.TemporaryDirectory(prefix="bench-serving-") as scratch:
        run_file = Path(scratch) / "run.json"
        argv = [sys.executable, "-m", "modelway.server", "--model-dir", str(model), "--port", "0"]
        process = subprocess.Popen(
            [*argv, "--run-file", str(run_file)], env={"PYTHONPATH": str(plugins), "PATH": os.environ["PATH"]}
        )
        try:
            while not run_file.exists():
                if process.poll() is not None:
                    raise SystemExit("the server did not start")
                time.sleep(0.02)
            yield json.loads(run_file.read_text())["port"], process.pid
        finally:
            process.kill()
            process.wait()


def measure(*, seconds: float, clients: int, plugins: Path, niceness: int = 10) -> dict[str, Any]:
    """Start a server, measure the others alone and beside the twenty, and return all as a document."""
    from network import write_network

    with tempfile.TemporaryDirectory(prefix="bench-serving-") as scratch:
        model = write_network(Path(scratch) / "model")
        with server(model, plugins=plugins) as (port, pid):
            others = Others(port, clients=clients)
            others.measure(1.0)
            alone = others.measure(seconds)
            memory = Memory(pid)
            memory.start()
            attackers = subprocess.Popen(
                [sys.executable, str(HERE / "attacks.py"), str(port), str(seconds + 1)],
                stdout=subprocess.PIPE,
                text=True,
                preexec_fn=lambda: os.nice(niceness),
            )
            try:
                # they say when their bodies are made
                assert attackers.stdout is not None
                attackers.stdout.readline()
                beside = others.measure(seconds)
                answers = json.loads(attackers.communicate(timeout=60)[0])
            finally:
                attackers.kill()
            return {
                "alone": alone,
                "beside": beside,
                "p99_ratio": round(beside["p99_ms"] / alone["p99_ms"], 2),
                "memory_mib": memory.stop(),
                "attacks": answers,
            }


def main() -> int:
    """Measure, print, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="of each of the two parts")
    parser.add_argument("--clients", type=int, default=4, help="others")
    parser.add_argument("--plugins", type=Path, default=REPOSITORY / "plugins", help="where modelway is imported from")
    args = parser.parse_args()
    found = measure(seconds=args.seconds, clients=args.clients, plugins=args.plugins)
    print(json.dumps(found))
    missed = found["p99_ratio"] > TARGET_RATIO or found["memory_mib"] > TARGET_MIB or found["beside"]["wrong"]
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
