"""What a gateway adds to a request, and how fast its weights change: ``python bench/route/run.py [--small]``.

Contestants, in turns: our gateway with three versions 30/50/20; HAProxy alone with one server and the limits of ours,
with a connection per request as ours has (``haproxy``) and with connections that are used again (``haproxy, reusing``);
nginx's ``split_clients`` where there is nginx (``--nginx PROGRAM``); a proxy in Python. They run on the first core; the
servers, which echo the request, and the clients on the last one. Each answer is compared with its request, and the
answers by version with the weights. Last, our weights are moved from one version to another under load: a change has
its full effect when no request that was sent later is answered by the old one. It prints JSON.
"""

import argparse
import itertools
import json
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import contestants
from contestants import Contestant, Ours
from modelway.endpoints.gateway.haproxy import plan

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from closed_loop import Answer, Next, Seen, run

#: of Pearson's chi-square with two degrees of freedom: passed by chance once in a million
_MOST_CHI_SQUARE = 27.6


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--small", action="store_true", help="a few requests, to try the benchmark itself")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 16, 64])
    parser.add_argument("--changes", type=int, default=100, help="changes of the weights")
    parser.add_argument("--nginx", default=shutil.which("nginx"), help="nginx's program; default: that of PATH")
    args = parser.parse_args()
    if args.small:
        args.rounds, args.requests, args.clients, args.changes = 1, 400, [4], 5
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="bench-route-") as scratch, ExitStack() as stack:
        contestants.pin(cores[-1])
        servers = contestants.servers(Path(scratch))
        for server in servers:
            stack.callback(server.stop)
        ports = [server.port for server in servers]
        contestants.pin(cores[0])
        running = start(Path(scratch), ports, nginx=args.nginx)
        for each in running.values():
            stack.callback(each.stop)
        contestants.pin(cores[-1])
        table = measure(running, together=args.clients, rounds=args.rounds, number=args.requests)
        ours = running["modelway"]
        assert isinstance(ours, Ours)
        effect = weight_changes(ours, changes=args.changes, pause=0.01 if args.small else 0.05)
    print(json.dumps({"load": os.getloadavg(), "contestants": table, "weight_change_ms": effect}))
    return 0


def start(folder: Path, ports: Sequence[int], *, nginx: str | None) -> dict[str, Contestant]:
    """Start all contestants."""
    running: dict[str, Contestant] = {
        "modelway": Ours(folder / "gateway", ports),
        "haproxy": contestants.haproxy(folder, ports, reuses=False),
        "haproxy, reusing": contestants.haproxy(folder, ports, reuses=True),
    }
    if nginx:
        running["nginx"] = contestants.nginx(nginx, folder, ports)
    else:
        print("nginx is not there: left out", file=sys.stderr)
    running["python"] = contestants.python_proxy(folder, ports)
    return running


def measure(
    running: Mapping[str, Contestant], *, together: Sequence[int], rounds: int, number: int
) -> dict[str, dict[str, Any]]:
    """Return the figures of each contestant by number of clients: medians over the rounds."""
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    versions: dict[str, Counter[str]] = {name: Counter() for name in running}
    for round_ in range(rounds + 1):
        for count in together:
            for name, contestant in running.items():
                # one in Python would take most of the time
                requests = max(number // (4 if count == 1 else 1) // (5 if name == "python" else 1), 50)
                before = contestant.cpu()
                seen = run(contestant.port, clients=count, more=limited(requests))
                cpu = contestant.cpu() - before
                if wrong := wrong_answers(seen, requests):
                    raise SystemExit(f"{name}: {wrong[:3]}")
                versions[name].update(map(version_of, seen.answers))
                if round_:
                    found.setdefault((name, count), []).append(figures(seen, cpu))
    for name, contestant in running.items():
        check_split(name, versions[name], contestant.weights)
    table: dict[str, dict[str, Any]] = {name: {} for name in running}
    for (name, count), values in found.items():
        row = {key: round(statistics.median(each[key] for each in values), 3) for key in values[0]}
        pairs = list(zip(values, found["haproxy", count], strict=True))
        for key in ("p50_ms", "p99_ms", "per_second", "cpu_us"):
            row[f"{key}_by_haproxy"] = round(statistics.median(a[key] / b[key] for a, b in pairs), 3)
        table[name][str(count)] = row
    return table


def request(number: int) -> tuple[int, bytes]:
    """Return the request of that number, which the server echoes."""
    body = body_of(number)
    return number, (
        b"POST /v2/models/tiny/infer HTTP/1.1\r\nhost: bench\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    )


def body_of(number: int) -> bytes:
    """Return the body of the request of that number."""
    return b"%012d" % number + b"x" * 500


def version_of(answer: Answer) -> str:
    """Return the version that answered."""
    return answer.head.partition(b"x-model-version: ")[2].split(b"\r\n", 1)[0].decode()


def wrong_answers(seen: Seen, requests: int | None) -> list[str]:
    """Return what was not answered, not with status 200, or with another body than that of its request."""
    other = [f"{answer.body[:80]!r}" for answer in seen.answers if answer.body != body_of(answer.number)]
    lost = [] if requests in (None, len(seen.answers)) else [f"{len(seen.answers)} answers for {requests} requests"]
    return [*seen.wrong, *other, *lost]


def figures(seen: Seen, cpu: float) -> dict[str, float]:
    """Return the figures of one run."""
    times = sorted(seen.times)
    return {
        "p50_ms": statistics.median(times) * 1e3,
        "p99_ms": times[int(0.99 * (len(times) - 1))] * 1e3,
        "per_second": len(times) / seen.seconds,
        "cpu_us": cpu / len(times) * 1e6,
    }


def check_split(name: str, counts: Mapping[str, int], weights: Mapping[str, int]) -> None:
    """End the benchmark where the answers by version do not fit the weights."""
    total, sum_of_weights = sum(counts.values()), sum(weights.values())
    expected = {version: total * weight / sum_of_weights for version, weight in weights.items()}
    if set(counts) - set(expected):
        raise SystemExit(f"{name}: answered by {sorted(counts)}, the weights are {dict(weights)}")
    chi_square = sum((counts.get(version, 0) - n) ** 2 / n for version, n in expected.items())
    if chi_square > _MOST_CHI_SQUARE:
        raise SystemExit(f"{name}: answers by version {dict(counts)} for the weights {dict(weights)}")


def weight_changes(ours: Ours, *, changes: int, pause: float) -> dict[str, float]:
    """Move all traffic to and fro under load; return the milliseconds from each change to its full effect."""
    moments: list[tuple[float, float, str]] = []
    over = threading.Event()

    def change() -> None:
        for number in range(changes):
            old, new = ("1", "2") if number % 2 == 0 else ("2", "1")
            began = time.perf_counter()
            ours.gateway.runtime.set_plan(plan(ours.routes({**dict.fromkeys("123", 0), new: 100})))
            moments.append((began, time.perf_counter(), old))
            time.sleep(pause)
        over.set()

    ours.gateway.runtime.set_plan(plan(ours.routes({"1": 100, "2": 0, "3": 0})))
    numbers = map(request, itertools.count())
    changing = threading.Thread(target=change)
    changing.start()
    seen = run(ours.port, clients=8, more=lambda: None if over.is_set() else next(numbers))
    changing.join()
    if wrong := wrong_answers(seen, None):
        raise SystemExit(f"{len(wrong)} wrong answers while weights changed: {wrong[:3]}")
    answers = [(answer.sent, version_of(answer)) for answer in seen.answers]
    effects, calls = [], []
    ends = [began for began, _, _ in moments[1:]] + [float("inf")]
    for (began, done, old), end in zip(moments, ends, strict=True):
        late = [sent for sent, version in answers if version == old and began <= sent < end]
        effects.append(max((sent - began for sent in late), default=0.0) * 1e3)
        calls.append((done - began) * 1e3)
    return {
        "changes": changes,
        "requests": len(seen.answers),
        "failed": len(wrong),
        "call_p50": round(statistics.median(calls), 2),
        "effect_p50": round(statistics.median(effects), 2),
        "effect_most": round(max(effects), 2),
    }


def limited(number: int) -> Next:
    """Return what gives out so many requests."""
    left = map(request, range(number))
    return lambda: next(left, None)


if __name__ == "__main__":
    sys.exit(main())
