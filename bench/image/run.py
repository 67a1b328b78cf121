"""Images of models brought into a registry: the builder ``oci`` beside docker, buildah, oras and the least possible.

``python bench/image/run.py [--megabytes 100 1000] [--small] [--before PLUGINS]`` needs ``docker-registry``; docker,
buildah and oras (``tests/system/install_clients.sh``) take part where they are. Each has a fresh registry and gets ten
files of random bytes there: the first time, again in a new process, and with one file changed; then, where digests can
be known before, to another fresh registry. It prints a table and JSON: seconds, CPU seconds with those of a daemon (not
the registry's), peak memory, megabytes written to disks and sent. Targets: at 1 GB a fifth of docker's time, at 4 GB a
tenth, a third of that of oras and of an earlier build; nothing changed: 0.3 s and no data; with known digests at most
1.18 of the time of a client that only sends, and 0.5 CPU seconds a GB; 32 MB of memory; a second version sends what
changed and 20 KB. The exit status is 1 where a target is missed, except with ``--small``.
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
sys.path[:0] = [str(REPOSITORY / "tests" / "system"), str(REPOSITORY / "plugins")]

from modelway.builders.layer_parts import layer_frame  # noqa: E402
from registry import BINARY, Registry  # noqa: E402
from watch import measured  # noqa: E402

SHARDS = 10
ORAS = REPOSITORY / ".venv-clients" / "bin" / "python"
DAEMONS = {"docker": ("dockerd", "containerd")}
#: who can know digests before
KNOWS = ("modelway", "append")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--megabytes", type=int, nargs="+", default=[100, 1000], help="sizes of the model")
    parser.add_argument("--rounds", type=int, default=2, help="the best time of each counts")
    parser.add_argument("--before", type=Path, help="the folder plugins of an earlier build")
    parser.add_argument("--without", nargs="+", default=[], help="contestants that are left out")
    parser.add_argument("--scratch", type=Path, help="where to work; default: the system's temporary folder")
    parser.add_argument("--small", action="store_true", help="2 MB without daemons: only whether it works")
    args = parser.parse_args()
    if BINARY is None:
        raise SystemExit("docker-registry is not installed: apt-get install docker-registry")
    sizes = [2] if args.small else args.megabytes
    without = {*args.without, *(("docker", "buildah", "hashing") if args.small else ())}
    names = [name for name in contestants(args.before) if name not in without]
    results = []
    for megabytes in sizes:
        with tempfile.TemporaryDirectory(prefix="bench-image-", dir=args.scratch) as scratch:
            rounds = [
                [measure(name, megabytes, Path(scratch) / name, args.before) for name in names]
                for _ in range(1 if args.small else args.rounds)
            ]
        results += [best(list(of_one)) for of_one in zip(*rounds, strict=True)]
    show(results)
    targets = [target for megabytes in sizes for target in judged(results, megabytes)]
    print(json.dumps({"results": results, "targets": targets, "load": os.getloadavg()[1]}))
    return 1 if any(each["missed"] for each in targets) and not args.small else 0


def contestants(before: Path | None) -> Iterator[str]:
    """Yield those that are on this machine."""
    yield "modelway"
    yield "hashing"
    yield "append"
    if before is not None:
        yield "before"
    if ORAS.exists():
        yield "oras"
    for name in ("docker", "buildah"):
        if shutil.which(name):
            yield name


def measure(name: str, megabytes: int, place: Path, before: Path | None) -> dict[str, Any]:
    """Return what one contestant's pushes cost."""
    files, phases = place / "files", {}
    write_files(files, megabytes)
    with registry(place / "one") as running:
        for phase, tag in (("first", "v1"), ("again", "v1"), ("changed", "v2")):
            if phase == "changed":
                write_file(files, SHARDS - 1, megabytes, seed="changed")
            phases[phase] = push(name, files, running, tag, place, before)
    if name in KNOWS:
        with registry(place / "two") as running:
            phases["known"] = push(name, files, running, "v2", place, before)
    shutil.rmtree(place)
    return {"name": name, "megabytes": megabytes, **phases}


def push(name: str, files: Path, running: Registry, tag: str, place: Path, before: Path | None) -> dict[str, Any]:
    """Run one push and return its cost, with what the registry has more than before."""
    python = str(ORAS) if name == "oras" else sys.executable
    repository = f"{running.host}/models/bench"
    command = [python, str(HERE / "contestants.py"), name, str(files), repository, tag, str(place / "scratch")]
    plugins = before if name == "before" and before else REPOSITORY / "plugins"
    environment = {**os.environ, "PYTHONPATH": str(plugins), "MODELWAY_HOME": str(place / "home")}
    stored = stored_bytes(running)
    cost = measured(command, environment=environment, daemons=DAEMONS.get(name, ()))
    return {**cost.to_dict(), "sent_mb": round((stored_bytes(running) - stored) / 1e6, 3)}


def best(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the quickest of each phase, with the largest memory of all."""
    found = dict(rounds[0])
    for phase in (name for name, cost in found.items() if isinstance(cost, dict)):
        costs = [each[phase] for each in rounds]
        quickest = min(costs, key=lambda cost: float(cost["seconds"]))
        same = len({cost["output"] for cost in costs}) == 1
        memory = max(cost["memory_mb"] for cost in costs)
        found[phase] = {**quickest, "memory_mb": memory, "same_in_all_rounds": same}
        found[phase]["work_seconds"] = min(cost["work_seconds"] for cost in costs)
        found[phase]["cpu_seconds"] = min(cost["cpu_seconds"] for cost in costs)
    return found


@contextmanager
def registry(folder: Path) -> Iterator[Registry]:
    """Run a registry with an empty storage."""
    folder.mkdir(parents=True)
    running = Registry(folder)
    try:
        yield running
    finally:
        running.stop()
        shutil.rmtree(folder)


def stored_bytes(running: Registry) -> int:
    """Return the bytes of all blobs."""
    return sum(path.stat().st_size for path in running.storage.rglob("data") if path.is_file())


def write_files(folder: Path, megabytes: int) -> None:
    """Write the model's files, and the digests that freezing knows."""
    folder.mkdir(parents=True)
    for number in range(SHARDS):
        write_file(folder, number, megabytes, seed="first")


def write_file(folder: Path, number: int, megabytes: int, *, seed: str) -> None:
    """Write one file of random bytes, and the digests of it and of its layer, as freezing does."""
    name, random, left = f"model-{number:05}.safetensors", Random(f"{seed} {number}"), megabytes * 1_000_000 // SHARDS
    before, behind = layer_frame(f"/models/model/{name}", size=left)
    own, layer = hashlib.sha256(), hashlib.sha256(before)
    with (folder / name).open("wb") as file:
        while left:
            block = random.randbytes(min(left, 1 << 20))
            own.update(block)
            layer.update(block)
            file.write(block)
            left -= len(block)
    layer.update(behind)
    known = folder / "digests.json"
    digests = json.loads(known.read_text()) if known.exists() else {}
    both = [f"sha256:{hasher.hexdigest()}" for hasher in (own, layer)]
    known.write_text(json.dumps({**digests, name: both}))


def judged(results: list[dict[str, Any]], megabytes: int) -> list[dict[str, Any]]:
    """Return each target with its figure; a target is the most that it may be."""
    of = {each["name"]: each for each in results if each["megabytes"] == megabytes}
    ours, found = of["modelway"], []

    def add(name: str, value: float, unit: str, target: float | None) -> None:
        missed = target is not None and value > target
        found.append({"name": name, "value": value, "unit": unit, "target": target, "missed": missed})

    size = f"{megabytes / 1000:g} GB"
    for name in ("docker", "buildah", "oras", "before", "hashing"):
        if name in of:
            own = {"docker": 0.1 if megabytes >= 4000 else 0.2, "buildah": None, "hashing": None}
            best = own.get(name, 0.333)
            ratio = ours["first"]["seconds"] / of[name]["first"]["seconds"]
            add(f"{size}, first", round(ratio, 3), f"x {name}", best if megabytes >= 1000 else None)
    add(f"{size}, nothing changed", ours["again"]["work_seconds"], "s", 0.3)
    add(f"{size}, nothing changed", ours["again"]["sent_mb"], "MB sent", 0.0)
    small = ours["changed"]["sent_mb"] * 1000 - megabytes * 1000 / SHARDS
    add(f"{size}, a file of {SHARDS} changed", round(small, 1), "KB sent beside it", 20.0)
    sends = ours["known"]["seconds"] / of["append"]["known"]["seconds"]
    add(f"{size}, known digests", round(sends, 3), "x a client that only sends", 1.18 if megabytes >= 1000 else None)
    cpu = (ours["known"]["cpu_seconds"] - ours["again"]["cpu_seconds"]) / (megabytes / 1000)
    add(f"{size}, known digests", round(cpu, 3), "CPU s a GB", 0.5 if megabytes >= 1000 else None)
    peak = max(ours[phase]["memory_mb"] for phase in ("first", "again", "changed", "known"))
    add(f"{size}, memory", peak, "MB", 32.0)
    add(f"{size}, written to disks", ours["first"]["written_mb"], "MB", 1.0)
    outputs = {ours["first"]["output"], ours["again"]["output"]}
    others = len(outputs) > 1 or not ours["first"]["same_in_all_rounds"]
    add(f"{size}, digests of the same that differ", float(others), "", 0.0)
    return found


def show(results: list[dict[str, Any]]) -> None:
    """Print a table."""
    print(f"{'MB':>6} {'':10} {'':8} {'s':>8} {'CPU s':>8} {'MB mem':>8} {'written':>9} {'sent':>10}  same digest")
    for each in results:
        for phase in ("first", "again", "changed", "known"):
            if phase in each:
                cost = each[phase]
                same = str(cost["output"] == each["first"]["output"]).lower() if phase == "again" else ""
                numbers = f"{cost['seconds']:8.2f} {cost['cpu_seconds']:8.2f} {cost['memory_mb']:8.1f}"
                moved = f"{cost['written_mb']:9.1f} {cost['sent_mb']:10.3f}"
                print(f"{each['megabytes']:>6} {each['name']:10} {phase:8} {numbers} {moved}  {same}")


if __name__ == "__main__":
    sys.exit(main())
