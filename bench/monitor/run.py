"""Simulated half years of served models: when the monitor requests a retraining, beside others on the same traffic.

``python bench/monitor/run.py [--weeks 200] [--peers PYTHON] [--small]`` prints a table, then all as JSON. Each case is
8 models of 25 weeks, 1,000 requests a day but for what its name says; what happens, happens after 8 weeks. Labels are
known two days later. The monitor runs with the default rules, a check each six hours. ``--peers`` names the Python of
an environment with scipy, river and evidently (pandas < 3); they see one model of each case, a day at a time.

Targets: where nothing changes at most one retraining a model and 26 weeks; sudden drift and a broken column are found
within a day; one retraining for an event. The exit status is 1 where one is missed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "plugins"), str(HERE)]

import numpy as np  # noqa: E402
from simulate import CASES, CATEGORIES, EVENT_DAY, REFERENCE_ROWS, Case, draw  # noqa: E402
from watch import watch  # noqa: E402

WEEKS = 25
#: the cases of a small run
SMALL = ("no change", "sudden drift", "broken upstream column")


def main() -> int:
    """Simulate, print and compare with the targets."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--weeks", type=int, default=200, help="simulated weeks of each case")
    parser.add_argument("--peers", help="the Python that runs the others")
    parser.add_argument("--small", action="store_true", help="one model, nine weeks, and few of the cases")
    args = parser.parse_args()
    models, days = (1, 63) if args.small else (max(1, args.weeks // WEEKS), WEEKS * 7)
    cases = [case for case in CASES if case.name in SMALL or not args.small]
    began = time.process_time()
    results = {case.name: summary(case, models=models, days=days) for case in cases}
    seconds = time.process_time() - began
    peers = run_peers(args.peers, days=days) if args.peers else {}
    print_table(results, peers)
    missed = [line for case in cases for line in missed_of(case, results[case.name])]
    for line in missed:
        print(f"missed: {line}")
    document = {"models": models, "days": days, "cpu_seconds": round(seconds, 1)}
    print(json.dumps({**document, "results": results, "peers": peers, "missed": missed}))
    return 1 if missed else 0


def summary(case: Case, *, models: int, days: int) -> dict[str, Any]:
    """Return when the models of a case were retrained, and after how many days the event was found."""
    fired = [watch(case, days=days, seed=at) for at in range(models)]
    delays = [min((day - EVENT_DAY for day, _ in each if day > EVENT_DAY), default=None) for each in fired]
    return {
        "retrainings": [len(each) for each in fired],
        "false": sum(day <= EVENT_DAY or not case.events for each in fired for day, _ in each)
        if case.events is not None
        else None,
        "days_to_find": delays if case.events else None,
        "at_once": case.at_once,
        "rules": sorted({rule for each in fired for _, rule in each}),
        "first_days": [each[0][0] if each else None for each in fired],
    }


def missed_of(case: Case, found: dict[str, Any]) -> list[str]:
    """Return the targets that a case misses."""
    lines = []
    models = len(found["retrainings"])
    if found["false"] is not None and found["false"] > models:
        lines.append(f"{case.name}: {found['false']} false retrainings of {models} models")
    if case.events and any(number != case.events for number in found["retrainings"]):
        lines.append(f"{case.name}: {found['retrainings']} retrainings for one event")
    if case.at_once and any(delay is None or delay > 1 for delay in found["days_to_find"]):
        lines.append(f"{case.name}: found after {found['days_to_find']} days, at most 1")
    return lines


def run_peers(python: str, *, days: int) -> dict[str, Any]:
    """Return the days on which others alarm, by their name and the case."""
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            generator = np.random.default_rng(0)

            def columns(day: float, count: int, case: Case = case, generator: Any = generator) -> np.ndarray:
                rows = draw(case.world(day), count, generator)
                kinds = np.searchsorted(CATEGORIES, rows.categories.astype(str))
                return np.column_stack([rows.numbers, kinds]).astype(np.float64)

            reference = columns(0, REFERENCE_ROWS)
            traffic = np.stack([columns(day, case.requests_a_day) for day in range(1, days + 1)])
            np.savez(Path(folder) / case.name, reference=reference, days=traffic)
        done = subprocess.run([python, str(HERE / "peers.py"), folder], stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def print_table(results: dict[str, Any], peers: dict[str, Any]) -> None:
    """Print the retrainings of all models, the days to find, and the others' days with an alarm."""
    print("| case | retrainings by model | false | days to find | by | " + " | ".join(peers) + " |")
    print("|---|---|---|---|---|" + "---|" * len(peers))
    for name, row in results.items():
        days = ", ".join("-" if each is None else f"{each:.2f}" for each in row["days_to_find"] or ()) or "-"
        numbers = ", ".join(map(str, row["retrainings"]))
        others = " | ".join(alarm_days(found, name) for found in peers.values())
        false = "-" if row["false"] is None else row["false"]
        print(f"| {name} | {numbers} | {false} | {days} | {', '.join(row['rules']) or '-'} | {others} |")


def alarm_days(found: dict[str, Any], case: str) -> str:
    """Return how many days before the event and after it have an alarm."""
    if "missing" in found:
        return "not installed"
    before = sum(day < EVENT_DAY for day in found[case])
    return f"{before} + {len(found[case]) - before}"


if __name__ == "__main__":
    sys.exit(main())
