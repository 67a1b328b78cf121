"""Run every kind of test, the slow ones side by side, and print what each took: what `make test` and CI do."""

import os
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

#: two lanes for two cores; within a lane one after another, the cheapest first
LANES = {
    "library": {
        "lint": [str(BIN / "ruff"), "check", "."],
        "format": [str(BIN / "ruff"), "format", "--check", "."],
        "types": [str(BIN / "mypy")],
        "layers": [str(BIN / "lint-imports"), "--no-logo"],
        "unit": [*PYTEST, "tests/unit"],
        "dags": [*PYTEST, "tests/dags"],
        "docs": [*PYTEST, "tests/docs"],
        "contract": [*PYTEST, "tests/contract"],
        "system": [*PYTEST, "tests/system", *(f"--ignore={file}" for file in (DEMO, *AUTHORING))],
    },
    "demo": {
        "demo": [*PYTEST, DEMO],
        "authoring": [*PYTEST, *AUTHORING],
    },
}


@dataclass
class Outcome:
    """What one step printed and took."""

    name: str
    status: int
    seconds: float
    output: str


def run_step(name: str, command: list[str]) -> Outcome:
    began = time.monotonic()
    done = subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return Outcome(name, done.returncode, time.monotonic() - began, done.stdout)


def run_lane(steps: dict[str, list[str]], outcomes: list[Outcome], said: threading.Lock) -> None:
    for name, command in steps.items():
        outcome = run_step(name, command)
        outcomes.append(outcome)
        with said:
            print(f"\n===== {name}: {'passed' if outcome.status == 0 else 'FAILED'} in {outcome.seconds:.0f} s")
            print(outcome.output.rstrip()[-30_000:], flush=True)


def main() -> int:
    os.environ.setdefault("PYTHONHASHSEED", "0")
    began = time.monotonic()
    outcomes: list[Outcome] = []
    said = threading.Lock()
    threads = [threading.Thread(target=run_lane, args=(steps, outcomes, said)) for steps in LANES.values()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    failed = [outcome.name for outcome in outcomes if outcome.status]
    print("\n===== summary")
    for outcome in outcomes:
        print(f"{outcome.name:<10} {'passed' if outcome.status == 0 else 'FAILED':<7} {outcome.seconds:6.0f} s")
    print(f"wall time {time.monotonic() - began:.0f} s, load {os.getloadavg()[0]:.1f}")
    print(f"{len(outcomes) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
