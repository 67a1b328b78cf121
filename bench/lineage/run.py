"""What the lineage costs, beside the newest MLflow server and beside plain SQL, all on one PostgreSQL of its own.

``python bench/lineage/run.py [--versions 10000] [--many 1000000] [--registers 15] [--rounds 40]`` prints a table, then
all as JSON. The contestants take turns, operation by operation; each number is the median, or the 95th percentile, in
wall-clock milliseconds of the client:

- ``modelway``: the public methods of its lineage store
- ``mlflow``: an MLflow server through its own client, in an environment that tests/system/install_mlflow.sh makes
- ``floor``: psycopg and a sensible schema, with nothing checked; it only registers

A full run has 30 params, 40 metrics of 100 steps and 8 files, and gets an alias. The other versions are filled in
by the database: those of MLflow without the history of their metrics, which only its size would feel.
``--many`` fills a second database for modelway, with 10 files a version, and asks both the same in turn.
It needs PostgreSQL's programs; 1,000,000 versions take 12 GB of disk for as long as it runs.
"""

import argparse
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
sys.path[:0] = [str(REPOSITORY / "plugins"), str(REPOSITORY)]

from fill import FILES, fill_ours, fill_theirs  # noqa: E402
from floor import Floor  # noqa: E402
from modelway.lineage.store import open_lineage  # noqa: E402
from ours import Ours  # noqa: E402
from turns import percentile, rotated  # noqa: E402
from workload import digest, filled_digest, make_run  # noqa: E402

from tests.postgres_server import PostgresServer, postgres_server  # noqa: E402

READS = ("latest", "by_alias", "full_record", "compare", "who_has", "models")
#: how long the MLflow server may take to start: it makes its tables first
PATIENCE_SECONDS = 240
#: seconds by operation and contestant
Samples = dict[str, dict[str, list[float]]]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--versions", type=int, default=10_000, help="versions present")
    parser.add_argument("--many", type=int, default=1_000_000, help="versions in the second database; 0 leaves it out")
    parser.add_argument("--registers", type=int, default=15, help="rounds of registering")
    parser.add_argument("--rounds", type=int, default=40, help="rounds of reading")
    parser.add_argument("--samples", type=int, default=400, help="reads of each database with --many")
    parser.add_argument("--steps", type=int, default=100, help="points of each metric")
    parser.add_argument("--mlflow", type=Path, default=REPOSITORY / ".venv-mlflow", help="its environment's folder")
    parser.add_argument("--without-mlflow", action="store_true")
    args = parser.parse_args()
    results: dict[str, Any] = {"versions": args.versions, "many": args.many, "steps": args.steps}
    with postgres_server(durable=True) as server, ExitStack() as stack:
        few = Ours(open_filled(server, args.versions))
        contestants: list[Any] = [few, Floor(server.new_database())]
        if not args.without_mlflow:
            contestants.append(stack.enter_context(mlflow(server, args)))
        registered, numbers = register(contestants, rounds=args.registers, steps=args.steps)
        readers = [each for each in contestants if not isinstance(each, Floor)]
        results["register"] = table(registered)
        results["read"] = table(read(readers, numbers, rounds=args.rounds, runs=args.registers))
        show(results)
        if args.many:
            many = Ours(open_filled(server, args.many))
            results["growth"] = growth(few, many, args)
    print(json.dumps(results))
    return 0


def open_filled(server: PostgresServer, count: int) -> Any:
    """Return a store in a new database that holds so many versions."""
    url = server.new_database()
    open_lineage(url)
    began = time.monotonic()
    fill_ours(url, count)
    print(f"{count:,} versions with {count * FILES:,} files filled in, in {time.monotonic() - began:.0f} s", flush=True)
    return open_lineage(url)


class Mlflow:
    """MLflow's client in another process, which measures by itself."""

    name = "mlflow"

    def __init__(self, process: "subprocess.Popen[str]", *, url: str, database: str) -> None:
        self._process, self.url, self.database = process, url, database

    def ask(self, do: str, given: Any = None, **sizes: int) -> dict[str, Any]:
        """Return what an operation took and gave."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, "given": given, "sizes": sizes}) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


@contextmanager
def mlflow(server: PostgresServer, args: argparse.Namespace) -> Iterator[Mlflow]:
    """A server on a database of its own that holds as many versions, and a client."""
    database = server.new_database()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    python = args.mlflow / "bin" / "python"
    backend = database.replace("postgresql:", "postgresql+psycopg2:")
    words = [str(python), "-m", "mlflow", "server", "--backend-store-uri", backend, "--port", str(port)]
    words += ["--workers", "2", "--artifacts-destination", str(server.folder.parent / "artifacts")]
    log = server.folder.parent / "mlflow.log"
    with log.open("wb") as file:
        serving = subprocess.Popen(words, stdout=file, stderr=file, start_new_session=True)
    client: subprocess.Popen[str] | None = None
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/health", serving, log)
        command = [str(python), str(HERE / "mlflow_client.py"), url]
        client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        asked = Mlflow(client, url=url, database=database)
        asked.ask("begin")
        asked.ask("register", -1, steps=args.steps)
        fill_theirs(database, args.versions)
        yield asked
    finally:
        if client is not None:
            client.kill()
            client.wait()
        with suppress(ProcessLookupError):
            os.killpg(serving.pid, signal.SIGTERM)
        serving.wait()


def wait_for(url: str, serving: "subprocess.Popen[bytes]", log: Path) -> None:
    """Ask until the server answers."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            if time.monotonic() > until or serving.poll() is not None:
                raise SystemExit(f"the MLflow server does not start:\n{log.read_text()[-2000:]}") from None
            time.sleep(0.2)


def register(contestants: Sequence[Any], *, rounds: int, steps: int) -> tuple[Samples, dict[str, list[int]]]:
    """Let each contestant register the same runs in turn; also return the numbers of the versions that it made."""
    samples: Samples = {"register": defaultdict(list), "register cpu": defaultdict(list)}
    numbers: dict[str, list[int]] = defaultdict(list)
    for place in range(rounds + 1):
        for each in rotated(contestants, place):
            took = registered(each, place, steps)
            numbers[each.name].append(took["answer"])
            # The first of each opens connections and compiles what is kept.
            if place:
                samples["register"][each.name].append(took["seconds"])
                samples["register cpu"][each.name].append(took["cpu"])
    return samples, numbers


def registered(contestant: Any, number: int, steps: int) -> dict[str, Any]:
    """Register the run of a number."""
    if isinstance(contestant, Mlflow):
        return contestant.ask("register", number, steps=steps)
    run = make_run(number, steps=steps)
    return timed(contestant.register, contestant.prepare(run) if isinstance(contestant, Ours) else run)


def timed(work: Callable[[Any], Any], given: Any) -> dict[str, Any]:
    """Return what a call took and gave."""
    began, cpu = time.perf_counter(), time.process_time()
    answer = work(given)
    return {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu, "answer": answer}


def read(readers: Sequence[Any], numbers: dict[str, list[int]], *, rounds: int, runs: int) -> Samples:
    """Ask the readers in turn about the full runs that they registered."""
    samples: Samples = {name: defaultdict(list) for name in READS}
    chance = random.Random(1)
    for place in range(rounds + 1):
        one, other = chance.sample(range(runs + 1), 2)
        for name in READS:
            for each in rotated(readers, place):
                own = numbers[each.name]
                given = {
                    "full_record": own[one],
                    "compare": [own[one], own[other]],
                    "who_has": digest(f"{one}/{chance.randrange(8)}"),
                }.get(name)
                took = each.ask(name, given) if isinstance(each, Mlflow) else timed(getattr(each, name), given)
                check(name, took["answer"], own)
                if place:
                    samples[name][each.name].append(took["seconds"])
    return samples


def check(name: str, answer: Any, numbers: Sequence[int]) -> None:
    """Refuse to compare what did not answer the question."""
    if name in ("latest", "by_alias") and answer != numbers[-1]:
        raise SystemExit(f"{name} is {answer}, not {numbers[-1]}")
    if name == "who_has" and (answer if isinstance(answer, int) else len(answer)) != 1:
        raise SystemExit(f"a file is said to be in {answer}")
    if name == "models" and (answer if isinstance(answer, int) else len(answer)) != 1:
        raise SystemExit(f"the models are said to be {answer}")


def growth(few: Ours, many: Ours, args: argparse.Namespace) -> dict[str, Any]:
    """Return the 95th percentiles of reading and registering in both databases, which take turns."""
    samples: Samples = {name: {"few": [], "many": []} for name in (*READS, "register")}
    chance = random.Random(2)
    sides = (("few", few, args.versions), ("many", many, args.many))
    for place in range(args.samples):
        for side, store, count in rotated(sides, place):
            one, other = (chance.randint(1, count) for _ in range(2))
            given: dict[str, Any] = {
                "full_record": one,
                "compare": (one, other),
                "who_has": filled_digest(one, chance.randint(1, FILES)),
            }
            for name in READS:
                samples[name][side].append(timed(getattr(store, name), given.get(name))["seconds"])
            if place % 4 == 0:
                run = make_run(10**9 + place, steps=args.steps)
                samples["register"][side].append(timed(store.register, store.prepare(run))["seconds"])
    found = {}
    print(f"\n{'p95, ms':<14}{args.versions:>14,}{args.many:>14,}   ratio")
    for name, sides_of in samples.items():
        low, high = (percentile(sides_of[side]) * 1000 for side in ("few", "many"))
        found[name] = {"few_p95_ms": round(low, 3), "many_p95_ms": round(high, 3), "ratio": round(high / low, 2)}
        found[name] |= {f"{side}_p50_ms": round(statistics.median(sides_of[side]) * 1000, 3) for side in sides_of}
        print(f"{name:<14}{low:>14.2f}{high:>14.2f}   {high / low:.2f}")
    return found


def table(samples: Samples) -> dict[str, Any]:
    """Return medians and percentiles in milliseconds, and the medians of the others by modelway's."""
    found: dict[str, Any] = {}
    for name, by_contestant in samples.items():
        median = {who: statistics.median(values) * 1000 for who, values in by_contestant.items()}
        found[name] = {
            "p50_ms": {who: round(value, 3) for who, value in median.items()},
            "p95_ms": {who: round(percentile(values) * 1000, 3) for who, values in by_contestant.items()},
            "times_modelway": {who: round(value / median["modelway"], 2) for who, value in median.items()},
        }
    return found


def show(results: dict[str, Any]) -> None:
    """Print the medians."""
    print(f"\n{'p50, ms':<14}{'modelway':>10}{'floor':>10}{'mlflow':>10}   modelway/floor  mlflow/modelway")
    for name, row in (results["register"] | results["read"]).items():
        cells = "".join(f"{row['p50_ms'].get(who, float('nan')):>10.2f}" for who in ("modelway", "floor", "mlflow"))
        by_floor = 1 / row["times_modelway"]["floor"] if "floor" in row["times_modelway"] else float("nan")
        print(f"{name:<14}{cells}   {by_floor:>14.2f}  {row['times_modelway'].get('mlflow', float('nan')):>15.1f}")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
