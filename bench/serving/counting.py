"""What a request pays for the counts that the monitor reads: ``python bench/serving/counting.py [--rounds 5]``.

The server's CPU for a single row as JSON, by one client and by sixteen, and beside it the CPU that its counting takes
of it at some rates of requests: the time of the thread, in one process, a second of requests at a time as the server
counts them, once the rows that a burst may have are counted; and the same while each row is counted. A difference of
two servers would be lost in their noise. Target: at most a hundredth of a request.
It prints JSON; the exit status is 1 where the target is missed.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import cost
import numpy as np
from abuse import REPOSITORY, server
from network import write_network

sys.path.insert(0, str(REPOSITORY / "plugins"))
from modelway.server.core.settings import _LIMITS
from modelway.server.core.signature import Signature, TensorSpec
from modelway.server.core.sketches import Sketches

#: rows a second that a server counts
MOST = int(next(default for name, default, _ in _LIMITS if name == "sketch-rows"))
#: longer than a burst
BURST_SECONDS = 20
#: requests a second
RATES = (1, 10, 100, 1000)
TARGET = 0.01
SIGNATURE = Signature(
    "digits",
    "onnxruntime_onnx",
    (TensorSpec("image", "FP32", (-1, 1, 8, 8)),),
    (TensorSpec("scores", "FP32", (-1, 10)),),
)


def counting(rate: int, *, seconds: int, burst: bool = False) -> float:
    """Return the CPU microseconds of counting one request, of so many a second.

    :param burst: not after a burst, but in it: every row is counted
    """
    random = np.random.default_rng(1)
    inputs = [{"image": random.random((1, 1, 8, 8), dtype=np.float32)} for _ in range(100)]
    outputs = [{"scores": random.random((1, 10), dtype=np.float32)} for _ in range(100)]
    sketches = Sketches(SIGNATURE, rows_per_second=MOST)

    def serve(rate: int, seconds: int) -> float:
        """Return the CPU seconds of a request."""
        began, number = time.thread_time(), 0
        for _ in range(seconds):
            for _ in range(rate):
                sketches.add(inputs[number % 100], outputs[number % 100], 1)
                number += 1
            sketches.begin_second()
            if sketches.waits:
                sketches.fold()
        sketches.fold()
        return (time.thread_time() - began) / number

    if not burst:
        serve(MOST, BURST_SECONDS)
    return serve(rate, seconds) * 1e6


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=1600)
    parser.add_argument("--small", action="store_true", help="few requests; nothing is judged")
    args = parser.parse_args()
    if args.small:
        # Fewer would take no more than a tick or two of the clock that counts their CPU.
        args.rounds, args.requests = 1, 800
    found = {}
    with tempfile.TemporaryDirectory(prefix="bench-serving-") as scratch:
        model = write_network(Path(scratch) / "model")
        with server(model, plugins=REPOSITORY / "plugins") as (port, pid):
            body, headers = cost.bodies()["json"]
            for clients in (1, 16):
                cost.CLIENTS = clients
                values = [
                    cost.microseconds(port, pid, body, headers, requests=args.requests) for _ in range(args.rounds)
                ]
                found[clients] = statistics.median(values)
    counts = {
        rate: statistics.median(counting(rate, seconds=max(60, 2000 // rate)) for _ in range(5)) for rate in RATES
    }
    # Of a burst's rows, in twelve seconds at most.
    row = statistics.median(counting(MOST, seconds=10, burst=True) for _ in range(5))
    # One client at a time comes to some hundred requests a second, sixteen to more than a thousand.
    shares = {rate: value / found[16 if rate >= 1000 else 1] for rate, value in counts.items()}
    print(f"CPU of a request: {found[1]:.0f} us by one client, {found[16]:.0f} us by sixteen")
    for rate in RATES:
        print(f"{rate:>5} requests a second: counting takes {counts[rate]:5.2f} us, {shares[rate]:6.2%} of a request")
    print(f"each row of a burst: {row:.2f} us, {row / found[1]:.2%} of a request")
    print(json.dumps({"request_us": found, "counting_us": counts, "shares": shares, "burst": row / found[1]}))
    return int(max(shares.values()) > TARGET and not args.small)


if __name__ == "__main__":
    sys.exit(main())
