"""Run every kind of test and print what each step took: what `make test` and CI do.

`make test ARGS=--changed` runs what differs from the branch main can reach, see tests/suite/changed.py.
"""

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.airflow_template import FOLDER as TEMPLATES
from tests.suite.changed import PARTIAL, changed_steps
from tests.suite.durations import FILE as DURATIONS
from tests.suite.queue import Outcome, Queue, unsteady_tests
from tests.suite.steps import ROOT, STEPS, Step

#: the output of each step, what each used, and what each test took
RESULTS = ROOT / ".modelway" / "suite"


def report(outcomes: Sequence[Outcome], *, wall: float) -> str:
    """Return the table of what was run, slowest first."""
    lines = ["===== summary", f"{'step':<12} {'':<7} {'wall s':>7} {'CPU s':>7}"]
    for each in sorted(outcomes, key=lambda outcome: -outcome.seconds):
        lines.append(f"{each.step.name:<12} {each.word:<7} {each.seconds:7.0f} {each.cpu_seconds:7.0f}")
    cpu = sum(each.cpu_seconds for each in outcomes)
    lines.append(f"wall time {wall:.0f} s, CPU time {cpu:.0f} s without containers, load {os.getloadavg()[0]:.1f}")
    unsteady = unsteady_tests(outcomes)
    for step, tests in unsteady.items():
        lines.append(f"UNSTEADY in {step}, passed only when run again alone: {', '.join(tests)}")
    for each in outcomes:
        if each.word == "FAILED" and each.step.name not in unsteady:
            lines.append(f"FAILED {each.step.name}: {each.reason}")
    words = [each.word for each in outcomes if each.step.name not in unsteady]
    lines.append(f"{words.count('passed')} passed, {words.count('FAILED')} failed; {RESULTS.relative_to(ROOT)}/")
    return "\n".join(lines)


def record(outcomes: Sequence[Outcome], folder: Path) -> None:
    """Write what each step used."""
    steps = {
        each.step.name: {"word": each.word, "wall": round(each.seconds, 1), "cpu": round(each.cpu_seconds, 1)}
        for each in outcomes
    }
    (folder / "steps.json").write_text(json.dumps(steps, indent=1) + "\n")


def run(steps: Sequence[Step]) -> int:
    """Run steps, print the output of each as it ends, and return the exit status."""
    shutil.rmtree(RESULTS, ignore_errors=True)
    RESULTS.mkdir(parents=True)
    began = time.monotonic()
    environment = {
        "PYTHONHASHSEED": os.environ.get("PYTHONHASHSEED", "0"),
        DURATIONS: str(RESULTS / "tests.jsonl"),
        TEMPLATES: str(RESULTS / "templates"),
        # Where it is set, as in many images, each of thousands of processes compiles the library again.
        "PYTHONDONTWRITEBYTECODE": "",
    }
    outcomes = []
    for outcome in Queue(
        steps=steps, folder=RESULTS, cores=len(os.sched_getaffinity(0)), environment=environment
    ).run():
        outcomes.append(outcome)
        used = f"{outcome.seconds:.0f} s, {outcome.cpu_seconds:.0f} CPU s"
        print(f"\n===== {outcome.step.name}: {outcome.word} in {used}")
        print(outcome.output.rstrip()[-30_000:], flush=True)
    record(outcomes, RESULTS)
    print(f"\n{report(outcomes, wall=time.monotonic() - began)}")
    unsteady = unsteady_tests(outcomes)
    return int(any(outcome.word == "FAILED" for outcome in outcomes if outcome.step.name not in unsteady))


def main() -> int:
    parser = argparse.ArgumentParser(prog="make test", description="Run every kind of test.")
    parser.add_argument("--changed", action="store_true", help="only the tests that the change can reach")
    if parser.parse_args().changed:
        os.environ[PARTIAL] = "true"
        return run(changed_steps())
    return run(STEPS)


if __name__ == "__main__":
    sys.exit(main())
