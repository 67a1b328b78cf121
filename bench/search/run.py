"""Successive halving over a grid of 27 candidates, beside training the whole grid.

``python bench/search/run.py [--parallel 2] [--eta 3] [--small]`` trains a small network of numpy as jobs of the
local backend, without Airflow, once every candidate through all stages and once with the decisions of a sweep between
the stages, by the code that its tasks run. It prints a line for each stage, then all as JSON. Both train the same
candidates with the same seed; every checkpoint is evaluated, as a sweep does. CPU time is that of all jobs, those of
the evaluations and the start of each job included.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
sys.path.insert(0, str(REPOSITORY / "plugins"))

from modelway.artifacts.code_package import write_code_package  # noqa: E402
from modelway.artifacts.store import ArtifactStore  # noqa: E402
from modelway.backends.base import Handle, Job, JobState, Options, load_backend  # noqa: E402
from modelway.job.contract import recorded_checkpoints  # noqa: E402
from modelway.job.evaluations import PREFIX, evaluation_outcomes  # noqa: E402
from modelway.job.events import read_events  # noqa: E402
from modelway.runs.batches import divided  # noqa: E402
from modelway.runs.candidates import candidate_params  # noqa: E402
from modelway.runs.job_fields import checkpoint_fields  # noqa: E402
from modelway.runs.messages.candidates import Candidate  # noqa: E402
from modelway.runs.messages.checkpoints import Checkpoint, StageReport  # noqa: E402
from modelway.runs.messages.evaluation import Evaluation  # noqa: E402
from modelway.runs.reported import cost_of  # noqa: E402
from modelway.runs.sweep import Halving, next_candidates  # noqa: E402
from modelway.spec.search import SearchSection  # noqa: E402

#: epochs of each stage: 2, 6 and 18 in all
STAGES = {"short": 2, "longer": 4, "full": 12}
GRID = {"rate": [0.01, 0.05, 0.2], "momentum": [0.0, 0.5, 0.9], "width": [8, 24, 64]}
SEED, ROWS = 11, 60_000
#: how far from the grid's best halving may end, and what part of its CPU time it may take
WITHIN, MOST = 0.01, 0.45


def main() -> int:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--parallel", type=int, default=2, help="jobs at a time")
    parser.add_argument("--eta", type=int, default=3, help="one of so many candidates trains the next stage")
    parser.add_argument("--small", action="store_true", help="see that it decides right; its CPU time says nothing")
    args = parser.parse_args()
    grid, stages, rows = GRID, STAGES, ROWS
    if args.small:
        grid, stages = {"rate": [0.001, 0.2], "momentum": [0.0, 0.9], "width": [8]}, {"short": 1, "full": 2}
        args.eta, rows = 2, 2_000
    search = SearchSection.model_validate({"method": "halving", "params": grid})
    results = {}
    for way, eta in (("grid", None), ("halving", args.eta)):
        with tempfile.TemporaryDirectory(prefix="bench-search-") as scratch:
            sweep = Sweep(home=Path(scratch), search=search, parallel=args.parallel, rows=rows)
            results[way] = sweep.run(stages, eta=eta)
        show(way, results[way])
    best = {way: result["best"]["loss"] for way, result in results.items()}
    ratio = results["halving"]["cpu_seconds"] / results["grid"]["cpu_seconds"]
    worse = best["halving"] / best["grid"] - 1
    missed = [name for name, value, most in (("worse", worse, WITHIN), ("cpu", ratio, MOST)) if value > most]
    document = {
        "candidates": search.size,
        "eta": args.eta,
        "results": results,
        "cpu_ratio": round(ratio, 3),
        "worse_by": round(worse, 5),
        "missed": [] if args.small else missed,
    }
    print(f"halving: {ratio:.2f} x the CPU time of the grid, its best loss {worse:+.2%} of the grid's")
    print(json.dumps(document))
    return 1 if document["missed"] else 0


def show(way: str, result: dict[str, Any]) -> None:
    """Print a table."""
    for stage in result["stages"]:
        print(f"{way:<8} {stage['stage']:<8} {stage['candidates']:>3} candidates  {stage['cpu_seconds']:8.1f} CPU s")
    best = result["best"]
    print(f"{way:<8} best {best['checkpoint']}: loss {best['loss']:.5f}, {best['params']}")


@dataclass
class Sweep:
    """The jobs of a sweep, on this machine."""

    home: Path
    search: SearchSection
    parallel: int
    rows: int
    cpu_seconds: float = 0.0
    evaluations: list[Evaluation] = field(default_factory=list)
    checkpoints: dict[str, Checkpoint] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Store the code."""
        self.backend = load_backend("local", home=self.home)
        self.store = ArtifactStore(f"file://{self.home}/artifacts")
        code = self.home / "code"
        code.mkdir(parents=True)
        (code / "blobs.py").write_text((HERE / "blobs.py").read_text())
        write_code_package(folder=code, to=self.home / "code.zip")
        self.package = self.store.put(self.home / "code.zip", model="blobs")

    def run(self, stages: dict[str, int], *, eta: int | None) -> dict[str, Any]:
        """Train all stages; with ``eta`` only the best of the candidates each next one."""
        drawn = candidate_params(self.search, seed=SEED)
        candidates = [Candidate(id=name, params=params) for name, params in drawn.items()]
        found = []
        for place, (stage, epochs) in enumerate(stages.items()):
            before = self.cpu_seconds
            with ThreadPoolExecutor(self.parallel) as pool:
                made = list(pool.map(lambda each, to=(stage, epochs): self._train(each, *to), candidates))
                shares = divided(made, parallel=self.parallel)
                evaluations = [each for share in pool.map(self._evaluate, shares) for each in share]
            self.evaluations += evaluations
            used = round(self.cpu_seconds - before, 2)
            found.append({"stage": stage, "candidates": len(candidates), "cpu_seconds": used})
            if place + 1 < len(stages):
                reports = [StageReport(stage=stage, candidate=each.id) for each in candidates]
                halving = Halving(eta=eta, metric="loss", mode="min", constraints={}) if eta else None
                candidates = next_candidates(
                    candidates,
                    stage=stage,
                    reports=reports,
                    checkpoints=made,
                    evaluations=evaluations,
                    halving=halving,
                )
        best = min(self.evaluations, key=lambda each: each.metrics["loss"] or 0.0)
        params = self.checkpoints[best.checkpoint].params
        chosen = {"checkpoint": best.checkpoint, "loss": best.metrics["loss"], "params": dict(params or {})}
        return {"stages": found, "cpu_seconds": round(self.cpu_seconds, 2), "best": chosen}

    def _train(self, candidate: Candidate, stage: str, epochs: int) -> Checkpoint:
        start = {"checkpoint": candidate.checkpoint} if candidate.checkpoint else {}
        handle = self._job(
            key=f"{stage}/{candidate.id}",
            stage=stage,
            action="train",
            params={"epochs": epochs, "rows": self.rows, **candidate.params},
            **checkpoint_fields(start),
        )
        (made,) = recorded_checkpoints(self.backend.folder(handle))
        artifact = self.store.put(made.path, model="blobs")
        checkpoint = Checkpoint(
            id=f"{candidate.id}-{made.id}",
            uri=artifact.uri,
            digest=artifact.digest,
            size=artifact.size,
            stage=stage,
            step=made.step,
            candidate=candidate.id,
            params=candidate.params,
        )
        self.checkpoints[checkpoint.id] = checkpoint
        return checkpoint

    def _evaluate(self, share: Sequence[Checkpoint]) -> list[Evaluation]:
        inputs = {f"{PREFIX}{place:04d}.{each.id}": each for place, each in enumerate(share)}
        key = f"evaluate/{share[0].id}"
        handle = self._job(key=key, stage="evaluate", action="evaluate", params={}, **checkpoint_fields(inputs))
        outcomes = evaluation_outcomes(read_events(self.backend.folder(handle)))
        return [Evaluation(checkpoint=each.id, metrics=outcomes[name]["metrics"]) for name, each in inputs.items()]

    def _job(self, **about: Any) -> Handle:
        """Run a job to its end, and count its CPU time."""
        job = Job(model="blobs", run="sweep", module="blobs.py", code=self.package, seed=SEED, **about)
        handle = self.backend.submit(self.backend.build_request(job, Options(cpu=1)))
        while not (status := self.backend.describe(handle)).state.is_terminal:
            time.sleep(0.05)
        if status.state is not JobState.SUCCEEDED:
            raise SystemExit(f"{handle.name}: {status.reason}\n{self.backend.logs(handle)[0]}")
        cost = cost_of(self.backend.folder(handle), status=status, options={}, backend="local")
        if cost.cpu_seconds is None:
            raise SystemExit(f"{handle.name}: its CPU time is not known")
        self.cpu_seconds += cost.cpu_seconds
        return handle


if __name__ == "__main__":
    sys.exit(main())
