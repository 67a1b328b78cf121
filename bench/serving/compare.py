"""CPU, latency and start of servers of one model on one core: ``python bench/serving/compare.py [NAME=COMMAND ...]``.

In one run, for a small network and for a transformer's encoder: this repository's server, the floor (floor.py: bare
uvicorn and ONNX Runtime, no batching), and the peers (environments.py makes an environment for each with pip; BentoML
and LitServe with their batching, KServe's server and MLflow have none). A further server is ``NAME=COMMAND``, a shell
command in which ``{model}`` and ``{port}`` are replaced; it must speak the Open Inference Protocol for a model named
``model``. ``--small`` is a short run without the peers.

The servers run on the first core with one thread, in turns, suspended in between; the clients on the second. A lone
client's turns are many and short, in this order and in the other one by turns, so that all servers see the same
machine. Every answer is compared with ONNX Runtime's. It prints JSON: per model, server and number of clients the
median over the turns of CPU microseconds of a request (all processes of the server), of p50 in milliseconds and of
requests a second, and of their ratios to the floor in the same turn.
"""

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from contestant import Contestant, Seen
from environments import PEERS, command_of, environ_of
from forms import FORMS, PROTOCOL, make_samples
from network import write_encoder, write_network

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
OURS = f"{sys.executable} -m modelway.server --name model --model-dir {{model}} --port {{port}}"
FLOOR = f"{sys.executable} {HERE}/floor.py {{model}} {{port}}"
#: each with what its number of requests is divided by
MODELS: Mapping[str, tuple[Callable[[Path], Path], int]] = {"digits": (write_network, 1), "encoder": (write_encoder, 8)}
#: requests of one turn of a lone client: few, since a turn says little where another process has the core meanwhile
_OF_A_TURN = 40
#: of the requests, a peer gets one in so many: it takes as much longer
_PEERS_SHARE = 4


def compare(model: Path, commands: dict[str, str], *, clients: list[int], rounds: int, number: int) -> dict[str, Any]:
    """Measure all servers in turns; the first one is the floor."""
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    samples = make_samples(str(model))
    with ExitStack() as stack:
        servers = {}
        for name, command in commands.items():
            environ = environ_of(name) if name in PEERS else {"PYTHONPATH": str(REPOSITORY / "plugins")}
            ready = command.replace("{model}", str(model))
            form = FORMS.get(name, PROTOCOL)
            servers[name] = Contestant(ready, form, samples, environ=environ, cwd=model.parent)
            stack.callback(servers[name].stop)
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {max(before)})
        stack.callback(os.sched_setaffinity, 0, before)
        for round_ in range(rounds + 1):
            for together in clients:
                for name, values in round_of(servers, together, number).items():
                    # the first round warms up
                    if round_:
                        found.setdefault((name, together), []).extend(values)
    table: dict[str, Any] = {}
    for name, server in servers.items():
        table[name] = {"ready_s": round(server.ready, 2), "clients": {}}
    floor = next(iter(commands))
    for (name, together), values in found.items():
        table[name]["clients"][str(together)] = row_of(values, found[floor, together])
    return table


def round_of(servers: Mapping[str, Contestant], together: int, number: int) -> dict[str, list[dict[str, float]]]:
    """Measure each server with so many clients, in one turn or more."""
    # a lone client waits for each of its requests
    turns = max(1, number // 2 // _OF_A_TURN) if together == 1 else 1
    all_of_them = min(number, _OF_A_TURN) if together == 1 else number
    many = {name: max(2, all_of_them // (_PEERS_SHARE if name in PEERS else 1)) for name in servers}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in servers}
    for turn in range(turns):
        for name in servers if turn % 2 == 0 else reversed(list(servers)):
            found[name].append(figures(*servers[name].measure(together, many[name])))
    return found


def figures(seen: Seen, cpu: float) -> dict[str, float]:
    """Return what one turn took.

    :param cpu: of the server, in seconds
    """
    return {
        "cpu_us": cpu / len(seen.times) * 1e6,
        "p50_ms": statistics.median(seen.times) * 1e3,
        "per_second": len(seen.times) / seen.seconds,
    }


def row_of(values: list[dict[str, float]], floor: list[dict[str, float]]) -> dict[str, float]:
    """Return the medians over the turns, and of the ratios to the floor in the same turn."""
    row = {key: round(statistics.median(each[key] for each in values), 3) for key in values[0]}
    for key in ("cpu_us", "p50_ms"):
        ratios = [a[key] / b[key] for a, b in zip(values, floor, strict=True)]
        row[f"{key}_by_floor"] = round(statistics.median(ratios), 3)
    return row


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("others", nargs="*", help="NAME=COMMAND")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=2000, help="of a round; a peer gets a quarter")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--small", action="store_true", help="see that the answers are right; the figures say nothing")
    args = parser.parse_args()
    if args.small:
        args.peers, args.rounds, args.requests, args.clients = [], 1, 64, [1, 4]
    commands = {"floor": FLOOR, "modelway": OURS, **{peer: command_of(peer) for peer in args.peers}}
    commands |= dict(each.split("=", 1) for each in args.others)
    results = {}
    # so that no server outlives a bench that is ended
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="bench-serving-") as scratch:
        for name in args.models:
            write, divisor = MODELS[name]
            model = write(Path(scratch) / name / "model")
            number = max(1, args.requests // divisor)
            results[name] = compare(model, commands, clients=args.clients, rounds=args.rounds, number=number)
    print(json.dumps({"load": os.getloadavg(), "rounds": args.rounds, "models": results}))


if __name__ == "__main__":
    main()
