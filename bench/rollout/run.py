"""Simulated canaries and who judges them right: modelway's judge beside fixed thresholds and a z-test at each look.

``python bench/rollout/run.py [--runs 1000] [--small]`` prints a table, then all as JSON. Each scenario is an hour of
50 requests a second, 10 % of them to the canary unless it says otherwise, with a look each minute; the stable version
fails 0.5 % of its requests and answers in 12 ms (median; lognormal, sigma 0.4), and the canary does the same but for
what its name says. The contestants see the same counts:

- ``modelway``: the product's own code (``modelway.endpoints.judge``) with its default settings
- ``thresholds (Flagger)``: its documented canary, at least 99 % succeed and p99 below 500 ms, at most 5 failed checks
- ``thresholds (Argo)``: its documented analysis, at least 95 % succeed each 5 minutes, a fourth failure aborts
- ``z-test``: two one-sided z-tests of all counts at each look, failed and slow requests, 2.5 % each

Targets: a good canary is rolled back in 5 % of the runs at most, doubled errors are found within the hour in 95 % at
least, and a canary without traffic is never promoted. The exit status is 1 where one is missed.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "plugins"), str(HERE)]

from judges import JUDGES, summary  # noqa: E402
from scenarios import SCENARIOS, Scenario, simulate  # noqa: E402

SMALL_RUNS = 40


def main() -> int:
    """Simulate, print and compare with the targets."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=1000, help="runs of each scenario")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--small", action="store_true", help=f"{SMALL_RUNS} runs")
    args = parser.parse_args()
    runs = SMALL_RUNS if args.small else args.runs
    began = time.process_time()
    results = {each.name: judged(each, runs=runs, seed=args.seed + at) for at, each in enumerate(SCENARIOS)}
    print_table(results)
    document = {"runs": runs, "cpu_seconds": round(time.process_time() - began, 1), "results": results}
    document["missed"] = missed(results)
    for line in document["missed"]:
        print(f"missed: {line}")
    print(json.dumps(document))
    return 1 if document["missed"] else 0


def judged(scenario: Scenario, *, runs: int, seed: int) -> dict[str, Any]:
    """Return what each contestant did with the same runs of a scenario."""
    counts = simulate(scenario, runs=runs, seed=seed)
    hour = sum(minutes for _, minutes in scenario.steps)
    judges = {name: summary(judge(scenario, counts), hour=hour) for name, judge in JUDGES.items()}
    targets = {name: getattr(scenario, name) for name in ("good", "must_be_found", "never_promoted")}
    return {**targets, "judges": judges}


def print_table(results: dict[str, Any]) -> None:
    """Print the share that was rolled back within the hour, the median minute, and the share that was promoted."""
    print("| canary | " + " | ".join(JUDGES) + " |")
    print("|---|" + "---|" * len(JUDGES))
    for name, row in results.items():
        print(f"| {name} | " + " | ".join(cell(found) for found in row["judges"].values()) + " |")
    print("\nrolled back within the hour (median minute), promoted; the rest is undecided")


def cell(found: dict[str, Any]) -> str:
    """Return one cell of the table."""
    at = f" ({found['median_minute']})" if found["within_the_hour"] else ""
    return f"{found['within_the_hour']:.1%}{at}, {found['promoted']:.1%}"


def missed(results: dict[str, Any]) -> list[str]:
    """Return the targets that are missed."""
    lines = []
    for name, row in results.items():
        found = row["judges"]["modelway"]
        if row["good"] and found["rolled_back"] > 0.05:
            lines.append(f"{name}: {found['rolled_back']:.1%} rolled back, at most 5 %")
        if row["must_be_found"] and found["within_the_hour"] < 0.95:
            lines.append(f"{name}: {found['within_the_hour']:.1%} found within the hour, at least 95 %")
        if row["never_promoted"] and found["promoted"]:
            lines.append(f"{name}: {found['promoted']:.1%} promoted, never")
    return lines


if __name__ == "__main__":
    sys.exit(main())
