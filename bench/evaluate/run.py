"""Evaluating 32 checkpoints, two jobs at a time, against a plain loop in one process and against half of that loop.

``python bench/evaluate/run.py [--checkpoints 32] [--passes 1 40] [--repeat 3] [--without-airflow]`` prints a table,
then all as JSON. ``--small`` looks at the answers alone, of few checkpoints without Airflow.
The contestants take turns; each number is the median of ``--repeat`` rounds in wall-clock seconds of
whole processes on this machine, each evaluation with one thread:

- ``loop``: one Python process imports the model and evaluates every checkpoint, what a person would write
- ``ideal``: half of the loop, the start of Python included: nobody can start two processes for nothing
- ``jobs``: the same job folders and backend as the operators use, without Airflow: what the contract costs
- ``airflow auto``: a real Airflow, from the end of the task that gives the checkpoints to the end of the selection
- ``airflow single``: the same with one job for each checkpoint, as ``evaluate.per_job: 1`` has it

``--passes`` repeats the evaluation within ``evaluate``, for models that take longer.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
PARALLEL = 2
sys.path.insert(0, str(REPOSITORY / "plugins"))

from modelway.artifacts.code_package import write_code_package  # noqa: E402
from modelway.artifacts.store import ArtifactStore  # noqa: E402
from modelway.backends.base import Job, JobState, Options, load_backend  # noqa: E402
from modelway.job.evaluations import PREFIX, evaluation_outcomes  # noqa: E402
from modelway.job.events import read_events  # noqa: E402
from modelway.runs.batches import divided  # noqa: E402


def main() -> int:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--checkpoints", type=int, default=32)
    parser.add_argument("--passes", type=int, nargs="+", default=[1, 40], help="evaluations within each evaluation")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--without-airflow", action="store_true", help="leave out what needs minutes")
    parser.add_argument("--without-single", action="store_true", help="leave out one job for each checkpoint")
    parser.add_argument("--small", action="store_true", help="see that the answers are right; the seconds say nothing")
    args = parser.parse_args()
    if args.small:
        args.checkpoints, args.passes, args.repeat, args.without_airflow = 4, [1], 1, True
    results = []
    for passes in args.passes:
        with tempfile.TemporaryDirectory(prefix="bench-evaluate-") as scratch:
            lab = Lab(Path(scratch), checkpoints=args.checkpoints, passes=passes)
            samples = lab.measure(args.repeat, airflow=not args.without_airflow, single=not args.without_single)
        results.append(summary(samples, passes=passes))
        show(results[-1])
    print(
        json.dumps({"checkpoints": args.checkpoints, "parallel": PARALLEL, "repeat": args.repeat, "results": results})
    )
    return 0


class Lab:
    """A model, its stored checkpoints, and every way to evaluate them."""

    def __init__(self, scratch: Path, *, checkpoints: int, passes: int) -> None:
        self.home = scratch / "home"
        self.code = scratch / "digits"
        shutil.copytree(REPOSITORY / "include" / "models" / "digits", self.code)
        with (self.code / "digits.py").open("a") as file:
            file.write(_PASSES.format(passes=passes))
        folder = scratch / "checkpoints"
        folder.mkdir()
        words = [sys.executable, str(HERE / "checkpoints.py"), str(self.code), str(folder), str(checkpoints)]
        subprocess.run(words, check=True)
        self.files = sorted(folder.iterdir())
        store = ArtifactStore(f"file://{self.home}/artifacts")
        write_code_package(folder=self.code, to=scratch / "code.zip")
        self.package = store.put(scratch / "code.zip", model="digits")
        self.stored = [(path.name, store.put(path, model="digits")) for path in self.files]
        self.listed = scratch / "checkpoints.json"
        listed = [{"id": name, "stage": "train", "step": 1, **artifact.to_dict()} for name, artifact in self.stored]
        self.listed.write_text(json.dumps(listed))
        self.expected: list[dict[str, float]] | None = None

    def measure(self, repeat: int, *, airflow: bool, single: bool) -> dict[str, list[float]]:
        """Return the seconds of each round by contestant."""
        samples: dict[str, list[float]] = {}
        for number in range(repeat):
            for name, seconds in (("loop", self.loop()), ("jobs", self.jobs(number))):
                samples.setdefault(name, []).append(seconds)
        if airflow:
            ways = ["auto", "single"] if single else ["auto"]
            for name, seconds in self.airflow(ways, repeat).items():
                samples[f"airflow {name}"] = seconds
        return samples

    def loop(self) -> float:
        """Evaluate in one process."""
        began = time.monotonic()
        words = [sys.executable, str(HERE / "loop.py"), str(self.code), *map(str, self.files)]
        variables = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        done = subprocess.run(words, env=variables, stdout=subprocess.PIPE, text=True, check=True)
        seconds = time.monotonic() - began
        self.expected = json.loads(done.stdout.splitlines()[-1])["metrics"]
        return seconds

    def jobs(self, number: int) -> float:
        """Evaluate as jobs of the local backend, each in a thread that waits."""
        backend = load_backend("local", home=self.home)
        began = time.monotonic()
        with ThreadPoolExecutor(PARALLEL) as pool:
            shares = divided(self.stored, parallel=PARALLEL)
            found = [
                each for share in pool.map(lambda share: self._job(backend, share, number), shares) for each in share
            ]
        seconds = time.monotonic() - began
        self.check(found)
        return seconds

    def _job(self, backend: Any, share: list[Any], number: int) -> list[dict[str, float]]:
        inputs = {f"{PREFIX}{place:04d}.{name}": artifact for place, (name, artifact) in enumerate(share)}
        job = Job(
            model="digits",
            run=f"round-{number}",
            key=f"evaluate/{share[0][0]}",
            stage="evaluate",
            action="evaluate",
            module="digits.py",
            code=self.package,
            inputs=inputs,
        )
        handle = backend.submit(backend.build_request(job, Options(cpu=1)))
        while not (status := backend.describe(handle)).state.is_terminal:
            time.sleep(0.05)
        if status.state is not JobState.SUCCEEDED:
            raise SystemExit(f"{handle.name}: {status.reason}\n{backend.logs(handle)[0]}")
        outcomes = evaluation_outcomes(read_events(backend.folder(handle)))
        return [dict(outcomes[name]["metrics"]) for name in sorted(inputs)]

    def airflow(self, ways: list[str], repeat: int) -> dict[str, list[float]]:
        """Evaluate in runs of a real Airflow, one after another."""
        from modelway.localairflow.processes import LocalAirflow
        from modelway.localairflow.rest import AirflowApi

        dags = self.home.parent / "dags"
        dags.mkdir()
        shutil.copy(HERE / "dags.py", dags)
        variables = {
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "BENCH_CODE": str(self.code),
            "BENCH_CHECKPOINTS": str(self.listed),
        }
        samples: dict[str, list[float]] = {way: [] for way in ways}
        with LocalAirflow(home=self.home, repository=REPOSITORY, environment=variables) as airflow:
            api = AirflowApi(url=airflow.url, username="admin", password=airflow.password)
            for number in range(repeat):
                for way in ways:
                    samples[way].append(self._run(api, f"bench-{way}", first=number == 0))
        return samples

    def _run(self, api: Any, dag: str, *, first: bool) -> float:
        if first:
            api.wait_for_dag(dag)
            api.unpause(dag)
        run = api.trigger(dag)
        while (state := api.run_state(dag, run)) not in ("success", "failed"):
            time.sleep(1)
        if state == "failed":
            raise SystemExit(f"{dag} failed: {api.tasks(dag, run)}")
        self.check([each["metrics"] for each in api.xcom(dag, run, "select")["evaluations"]])
        path = f"/dags/{dag}/dagRuns/{quote(run, safe='')}/taskInstances"
        found = api.call("GET", path, params={"limit": 100, "order_by": "-start_date"})
        found["task_instances"] += api.call("GET", path, params={"limit": 100, "order_by": "start_date"})[
            "task_instances"
        ]
        ends = {task["task_id"]: datetime.fromisoformat(task["end_date"]) for task in found["task_instances"]}
        return (ends["select"] - ends["checkpoints"]).total_seconds()

    def check(self, found: list[dict[str, float]]) -> None:
        """Refuse to compare what did not give the same."""
        for mine, theirs in zip(found, self.expected or [], strict=True):
            if any(abs(mine[name] - theirs[name]) > 1e-6 * max(1.0, abs(theirs[name])) for name in theirs):
                raise SystemExit(f"the metrics are {mine}, those of the loop {theirs}")


_PASSES = """

_once = evaluate


def evaluate(job, checkpoint):
    for _ in range({passes}):
        metrics = _once(job, checkpoint)
    return metrics
"""


def summary(samples: dict[str, list[float]], *, passes: int) -> dict[str, Any]:
    """Return the medians, and each by the loop and by the ideal."""
    seconds = {name: round(statistics.median(values), 3) for name, values in samples.items()}
    ideal = seconds["loop"] / PARALLEL
    return {
        "passes": passes,
        "seconds": seconds | {"ideal": round(ideal, 3)},
        "spread": {name: [round(min(values), 3), round(max(values), 3)] for name, values in samples.items()},
        "times_the_loop": {name: round(value / seconds["loop"], 2) for name, value in seconds.items()},
        "times_the_ideal": {name: round(value / ideal, 2) for name, value in seconds.items()},
    }


def show(result: dict[str, Any]) -> None:
    """Print a table."""
    for name, value in result["seconds"].items():
        by_loop = result["times_the_loop"].get(name, 1 / PARALLEL)
        by_ideal = result["times_the_ideal"].get(name, 1.0)
        print(
            f"{result['passes']:>4} passes  {name:<16} {value:8.2f} s  {by_loop:6.2f} x loop  {by_ideal:6.2f} x ideal"
        )


if __name__ == "__main__":
    sys.exit(main())
