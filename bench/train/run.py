"""Training through the job contract against the bare script, and how much of the GPU's peak it gets.

``python3 bench/train/run.py [--workloads digits transformer] [--steps 400] [--pairs 3]`` needs a Python with torch,
this repository and an NVIDIA GPU; without one it prints ``{"skipped": …}``. ``--device cpu --small`` looks on a CPU
whether both train to the same loss, in seconds. It prints a table, then all as JSON.

Each workload is trained as the job's container does it (``python3 -m modelway.job.agent``, a folder with ``job.json``)
and by the same loop as a script, in turns; bf16, torch.compile and a fused AdamW on a GPU. ``overhead`` is the median
over the pairs of the contract's time by the script's, less one: ``steps`` of the steps after the warm-up with their
logging and the contract's progress at each step, ``whole`` of the whole processes with the checkpoint (digest and
fsync included). Target: at most 1 %; the exit status is 1 where a GPU's training misses it.

Operations are those of the model, not those that the GPU was given: of the transformer 6 N + 12 L d T for each token (N
parameters without the positions, L layers, d width, T tokens of a sequence; Chowdhery et al., PaLM, arXiv:2204.02311,
appendix B); of the digits network two for each multiplication and addition of its convolutions and its linear layer,
three times for forwards and backwards. torch.utils.flop_counter counts 0.03 % and 0.5 % less. Peaks and their sources
are in ``peaks.py``.
"""

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from peaks import peak_of

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
TARGET = 0.01


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workloads", nargs="+", default=["digits", "transformer"], choices=["digits", "transformer"])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--steps", type=int, help="measured; default: 20000 of digits, 600 of the transformer, 4 small")
    parser.add_argument("--pairs", type=int, help="how often both are trained; default: 3, and 1 with --small")
    parser.add_argument("--small", action="store_true", help="a transformer of 0.1 million parameters")
    args = parser.parse_args()
    args.pairs = args.pairs or (1 if args.small else 3)
    if args.small:
        # Threads that wait for one another would cost more than the small matrices.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    if reason := reason_to_skip(args.device):
        print(json.dumps({"skipped": reason}))
        return 0
    results = [measure(workload, args) for workload in args.workloads]
    for result in results:
        show(result)
    print(json.dumps({"pairs": args.pairs, "target": TARGET, "results": results}))
    return exit_status(results)


def exit_status(results: list[dict[str, Any]]) -> int:
    """Return 1 where the contract cost more than the target on a GPU; a CPU's times are only looked at."""
    return 1 if any(result["gpu"] and not result["within_target"] for result in results) else 0


def reason_to_skip(device: str) -> str | None:
    """Return why nothing can be measured here; ``None`` when it can."""
    if importlib.util.find_spec("torch") is None:
        return f"{sys.executable} has no torch"
    if device == "cpu":
        return None
    question = "import torch; print(torch.cuda.is_available())"
    done = subprocess.run([sys.executable, "-c", question], capture_output=True, text=True, check=True)
    return None if done.stdout.split()[-1] == "True" else "there is no NVIDIA GPU that torch can use"


def measure(workload: str, args: argparse.Namespace) -> dict[str, Any]:
    """Train in pairs; return rates and overheads."""
    steps = args.steps or (4 if args.small else {"digits": 20000, "transformer": 600}[workload])
    params = {
        "workload": workload,
        "device": args.device,
        "small": args.small,
        "steps": steps,
        "warmup": max(3, min(20, steps // 4)),
        "log_every": max(1, steps // 40),
        "compile": args.device == "cuda",
        "bf16": args.device == "cuda",
        "digits": str(REPOSITORY / "include" / "models" / "digits" / "digits.py"),
    }
    pairs = []
    for number in range(args.pairs):
        with tempfile.TemporaryDirectory(prefix="bench-train-") as scratch:
            both = [("script", as_script), ("contract", as_job)]
            # Who comes first has the colder caches.
            pairs.append({name: train(Path(scratch), params) for name, train in both[:: 1 if number % 2 else -1]})
    return {"workload": workload, "params": params, **rates(pairs), **overheads(pairs), "pairs": pairs}


def as_script(scratch: Path, params: dict[str, Any]) -> dict[str, Any]:
    """Train by the bare script."""
    words = [sys.executable, str(HERE / "workload.py"), json.dumps(params)]
    whole = timed([*words, str(scratch / "result.json"), str(scratch / "weights.pt")], scratch, {})
    return {**json.loads((scratch / "result.json").read_text()), "whole_seconds": whole}


def as_job(scratch: Path, params: dict[str, Any]) -> dict[str, Any]:
    """Train as a job's container does."""
    folder = scratch / "job"
    write_job(folder, params)
    words = [sys.executable, "-m", "modelway.job.agent", str(folder), "--attempt", "1"]
    whole = timed(words, folder, {"PYTHONPATH": str(folder / "runner"), "PYTHONSAFEPATH": "1"})
    return {**json.loads((folder / "output" / "result.json").read_text()), "whole_seconds": whole}


def write_job(folder: Path, params: dict[str, Any]) -> None:
    """Write the contract's folder with the part of the library that a container gets."""
    source = REPOSITORY / "plugins" / "modelway"
    shutil.copytree(
        source / "job", folder / "runner" / "modelway" / "job", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(source / "__init__.py", folder / "runner" / "modelway")
    for name in ("code", "inputs", "output"):
        (folder / name).mkdir()
    shutil.copy(HERE / "workload.py", folder / "code")
    contract = {
        **{"format": 1, "model": "bench", "run": "bench", "stage": "train", "action": "train"},
        **{"module": "workload.py", "command": None, "params": params, "seed": 0, "datasets": {}},
        **{"interval": {"start": None, "end": None}, "partition": None, "inputs": {}, "digests": {"code": None}},
    }
    (folder / "job.json").write_text(json.dumps(contract))


def timed(words: list[str], folder: Path, variables: dict[str, str]) -> float:
    """Run a process; return its wall-clock seconds."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", **variables}
    began = time.perf_counter()
    done = subprocess.run(
        words, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{' '.join(words[:4])} ended with exit status {done.returncode}:\n{done.stdout[-3000:]}")
    return seconds


def rates(pairs: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Return what the contract's trainings computed each second, and what part of the peak that is."""
    first = pairs[0]["contract"]
    steps = statistics.median(pair["contract"]["steps"] / pair["contract"]["steps_seconds"] for pair in pairs)
    peak, source = peak_of(first["gpu"])
    achieved = steps * first["flop_per_step"]
    return {
        "gpu": first["gpu"],
        "torch": first["torch"],
        "parameters": first["parameters"],
        f"{first['unit']}_per_second": round(steps * first["examples_per_step"], 1),
        "achieved_tflops": round(achieved / 1e12, 4),
        "peak_tflops": peak and peak / 1e12,
        "peak_source": source,
        "achieved_by_peak": peak and round(achieved / peak, 4),
    }


def overheads(pairs: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Return the contract's times by the script's, less one: the median of the pairs, and all of them."""

    def by_pair(key: str) -> list[float]:
        return [round(pair["contract"][key] / pair["script"][key] - 1, 5) for pair in pairs]

    found = {"steps": by_pair("steps_seconds"), "whole": by_pair("whole_seconds")}
    medians = {name: statistics.median(values) for name, values in found.items()}
    within = all(value <= TARGET for value in medians.values())
    same = all(pair["contract"]["last_loss"] == pair["script"]["last_loss"] for pair in pairs)
    return {"overhead": medians, "overhead_of_pairs": found, "within_target": within, "same_loss": same}


def show(result: dict[str, Any]) -> None:
    """Print one line of each workload."""
    peak = f"{result['achieved_by_peak']:.1%} of the peak" if result["achieved_by_peak"] else result["peak_source"]
    rate = f"{result['achieved_tflops']:.4g} TFLOP/s, {peak}"
    overhead = ", ".join(f"{name} {value:+.2%}" for name, value in result["overhead"].items())
    print(f"{result['workload']:<12} {result['parameters'] / 1e6:.1f} M parameters, {rate}; contract: {overhead}")


if __name__ == "__main__":
    sys.exit(main())
