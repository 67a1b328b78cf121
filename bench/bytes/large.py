"""A model of more than 2 GB, more than one ONNX file may have: freeze, verify and serve, each in its own process.

``python bench/bytes/large.py [--gigabytes 2.2] [--format onnx]`` prints JSON: wall and CPU seconds and peak memory
of each step, the number of weight files, and how many bytes of memory freezing takes for each byte of weights.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "plugins")]

WIDTH = 4096


def freeze(folder: Path, layers: int, format: str) -> dict[str, Any]:
    """Freeze that many square layers, each of 67 MB."""
    import torch
    from modelway.job.freezing.exported import Exported
    from modelway.job.freezing.freeze import freeze as freeze_model
    from torch import nn

    torch.manual_seed(0)
    # Small numbers, so that the last answers are as large as the first.
    body = nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(layers)))
    built = peak()
    exported = Exported.of((body, torch.randn(8, WIDTH), {"sizes": [1, 2]}))
    freeze_model(exported=exported, name="large", seed=0, folder=folder, format=format)
    files = sorted((folder / "model").glob("*.safetensors"))
    weights = sum(path.stat().st_size for path in files)
    largest = max(path.stat().st_size for path in files)
    return {"weights": weights, "files": len(files), "largest_file": largest, "built_bytes": built}


def verify(folder: Path, layers: int, format: str) -> dict[str, Any]:
    """Verify its archive."""
    from modelway.job.freezing.verify import verify as verify_model

    archive = folder.parent / "archive.zip"
    verify_model(
        archive=archive, scratch=folder.parent / "to", report=folder.parent / "r.json", absolute=1e-4, relative=1e-3
    )
    return {"max_abs_difference": json.loads((folder.parent / "r.json").read_text())["max_abs_difference"]}


def archive(folder: Path, layers: int, format: str) -> dict[str, Any]:
    """Write its archive."""
    from modelway.artifacts.archive import write_archive

    write_archive(folder=folder, documents={}, to=folder.parent / "archive.zip")
    return {}


def serve(folder: Path, layers: int, format: str) -> dict[str, Any]:
    """Load it as the server does, and answer once."""
    import numpy
    from modelway.server.core.runtime import load_model

    model = load_model(folder, threads=1)
    model.warm_up()
    (name,) = (spec.name for spec in model.signature.inputs)
    (answer,) = model.run({name: numpy.zeros((1, WIDTH), dtype="float32")}).values()
    return {"answer": list(answer.shape)}


def peak() -> int:
    """Return the largest memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Run one step in this process, or all of them, each in its own."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=2.2)
    parser.add_argument("--format", default="onnx", choices=("onnx", "torch_export"))
    parser.add_argument("--step", choices=STEPS)
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    if args.step:
        layers = round(args.gigabytes * 1e9 / (4 * WIDTH * (WIDTH + 1)))
        print(json.dumps({**STEPS[args.step](args.folder, layers, args.format), "peak_bytes": peak()}))
        return
    found: dict[str, Any] = {"gigabytes": args.gigabytes, "format": args.format}
    with tempfile.TemporaryDirectory() as scratch:
        for step in STEPS:
            begin, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
            command = [sys.executable, "-W", "ignore", __file__, "--step", step, "--folder", f"{scratch}/frozen"]
            command += ["--gigabytes", str(args.gigabytes), "--format", args.format]
            done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
            if done.returncode:
                raise SystemExit(done.stderr)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            figures = {"seconds": round(time.monotonic() - begin, 1), "cpu_seconds": round(cpu, 1)}
            found[step] = figures | json.loads(done.stdout.splitlines()[-1])
    frozen = found["freeze"]
    found["memory_for_each_byte_of_weights"] = round(frozen["peak_bytes"] / frozen["weights"], 2)
    print(json.dumps(found, indent=1))


STEPS = {"freeze": freeze, "archive": archive, "verify": verify, "serve": serve}

if __name__ == "__main__":
    main()
