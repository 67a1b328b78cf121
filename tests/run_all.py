"""Run every kind of test, the slow ones side by side, and print what each took: what `make test` and CI do."""

import os
import re
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
PYTEST = [sys.executable, "-m", "pytest", "-q"]
DEMO = "tests/system/test_demo.py"
#: those that start an Airflow of their own, to edit and break the specs that it sees
AUTHORING = ("tests/system/test_authoring.py", "tests/system/test_spec_faults.py")

#: those that need a Docker engine or a Kubernetes cluster, and start an Airflow of their own
CLUSTER = ("tests/system/test_docker_run.py", "tests/system/test_kubernetes_run.py")
#: jobs of the cluster with S3, in the environment that has it
STORE = "tests/contract/test_kubernetes_object_store.py"
#: it kills parts of Airflow and of the cluster, and Airflow's timeouts are short in it: at the end, alone
MATRIX = "tests/system/test_kill_matrix.py"
#: the step that starts the cluster and tells where it is; the rest of its lane is nothing without it
START = "start"

#: side by side, each about as long as the others; within a lane one after another
LANES = {
    "library": {
        "lint": [str(BIN / "ruff"), "check", "."],
        "format": [str(BIN / "ruff"), "format", "--check", "."],
        "types": [str(BIN / "mypy")],
        "layers": [str(BIN / "lint-imports"), "--no-logo"],
        "unit": [*PYTEST, "tests/unit"],
        "dags": [*PYTEST, "tests/dags"],
        "docs": [*PYTEST, "tests/docs"],
        "contract": [*PYTEST, "tests/contract", "-m", "not cluster and not database"],
    },
    "demo": {
        "demo": [*PYTEST, DEMO],
        "authoring": [*PYTEST, *AUTHORING],
        "system": [*PYTEST, "tests/system", *(f"--ignore={file}" for file in (DEMO, *AUTHORING, *CLUSTER, MATRIX))],
    },
    "cluster": {
        "lineage": [*PYTEST, "tests/contract", "-m", "database"],
        "objects": [
            sys.executable,
            "tests/object_store_environment.py",
            "-m",
            "pytest",
            "-q",
            "tests/contract/test_object_store_job.py",
            "tests/contract/test_object_store_files.py",
        ],
        START: ["sh", "tests/system/start_cluster.sh"],
        "jobs": [*PYTEST, "tests/contract", "-m", "cluster", f"--ignore={STORE}"],
        "stores": [sys.executable, "tests/object_store_environment.py", "-m", "pytest", "-q", STORE],
        "runs": [*PYTEST, *CLUSTER],
    },
}
#: when all lanes have ended
ALONE = {"matrix": [*PYTEST, "-s", MATRIX]}


@dataclass
class Outcome:
    """What one step printed and took."""

    name: str
    status: int
    seconds: float
    output: str

    @property
    def word(self) -> str:
        """How it went; without a cluster its tests are skipped, but never on CI."""
        if self.status and self.name == START and os.environ.get("CI") != "true":
            return "skipped"
        return "FAILED" if self.status else "passed"


def run_step(name: str, command: list[str], environment: dict[str, str]) -> Outcome:
    began = time.monotonic()
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return Outcome(name, done.returncode, time.monotonic() - began, done.stdout)


def run_lane(steps: dict[str, list[str]], outcomes: list[Outcome], said: threading.Lock, told: dict[str, str]) -> None:
    """Run steps one after another; what START tells of the cluster goes into ``told``, for those that follow."""
    for name, command in steps.items():
        outcome = run_step(name, command, told)
        outcomes.append(outcome)
        with said:
            print(f"\n===== {name}: {outcome.word} in {outcome.seconds:.0f} s")
            print(outcome.output.rstrip()[-30_000:], flush=True)
        if name == START:
            if outcome.status:
                return
            told.update(re.findall(r"^export (\w+)=(.+)$", outcome.output, flags=re.MULTILINE))


def main() -> int:
    os.environ.setdefault("PYTHONHASHSEED", "0")
    began = time.monotonic()
    outcomes: list[Outcome] = []
    said = threading.Lock()
    told: dict[str, dict[str, str]] = {lane: {} for lane in LANES}
    threads = [
        threading.Thread(target=run_lane, args=(steps, outcomes, said, told[lane])) for lane, steps in LANES.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run_lane(ALONE, outcomes, said, told["cluster"])
    failed = [outcome.name for outcome in outcomes if outcome.word == "FAILED"]
    print("\n===== summary")
    for outcome in outcomes:
        print(f"{outcome.name:<10} {outcome.word:<7} {outcome.seconds:6.0f} s")
    print(f"wall time {time.monotonic() - began:.0f} s, load {os.getloadavg()[0]:.1f}")
    passed = [outcome for outcome in outcomes if outcome.word == "passed"]
    print(f"{len(passed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
