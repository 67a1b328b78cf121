"""Simulated half years of served models: when the monitor requests a retraining, beside others on the same traffic.

``python bench/monitor/run.py [--weeks 200] [--peers PYTHON] [--small]`` prints a table, then all as JSON. Each case is
8 models of 25 weeks, 1,000 requests a day but for what its name says; what happens, happens after 8 weeks. Labels are
known two days later. The monitor runs with the default rules, a check each six hours. ``--peers`` names the Python of
an environment with scipy, river and evidently (pandas < 3). They see the same requests, a day at a time: all those of
two models, from two weeks before what happens until a week after it. A second table has what the monitor made of these
days beside them.

Targets: where nothing changes at most one retraining a model and 26 weeks; sudden drift and a broken column are found
within a day; one retraining for an event. The exit status is 1 where one is missed.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "plugins"), str(HERE)]

import numpy as np  # noqa: E402
from simulate import CASES, CATEGORIES, EVENT_DAY, Case, Rows, first_reference, traffic_of  # noqa: E402
from watch import watch  # noqa: E402

WEEKS, HALF_YEAR = 25, 182
#: what others see of all: so many models, and the days from the one to before the other, counted from 0
PEER_MODELS, PEER_DAYS = 2, (EVENT_DAY - 1 - 14, EVENT_DAY - 1 + 7)
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
    if args.peers and models < PEER_MODELS:
        parser.error(f"--peers needs {PEER_MODELS * WEEKS} weeks at least, and no --small")
    cases = [case for case in CASES if case.name in SMALL or not args.small]
    began = time.process_time()
    results = {case.name: summary(case, models=models, days=days) for case in cases}
    seconds = time.process_time() - began
    peers = {"modelway, the same days": on_their_days(results), **run_peers(args.peers)} if args.peers else {}
    print_table(results)
    if peers:
        print_peers(peers)
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
    wrong = sum(day <= EVENT_DAY or not case.events for each in fired for day, _ in each)
    return {
        "retrainings": [len(each) for each in fired],
        "false_a_half_year": None
        if case.events is None
        else wrong / models * HALF_YEAR / (EVENT_DAY if case.events else days),
        "days_to_find": delays if case.events else None,
        "at_once": case.at_once,
        "rules": sorted({rule for each in fired for _, rule in each}),
        "days": [[day for day, _ in each] for each in fired],
    }


def missed_of(case: Case, found: dict[str, Any]) -> list[str]:
    """Return the targets that a case misses."""
    lines = []
    if found["false_a_half_year"] is not None and found["false_a_half_year"] > 1:
        lines.append(f"{case.name}: {found['false_a_half_year']:.1f} false retrainings a model and 26 weeks")
    if case.events and any(number != case.events for number in found["retrainings"]):
        lines.append(f"{case.name}: {found['retrainings']} retrainings for one event")
    if case.at_once and any(delay is None or delay > 1 for delay in found["days_to_find"]):
        lines.append(f"{case.name}: found after {found['days_to_find']} days, at most 1")
    return lines


def on_their_days(results: dict[str, Any]) -> dict[str, Any]:
    """Return what the monitor made of the requests that others see."""
    first, end = PEER_DAYS
    found = {}
    for name, row in results.items():
        # What is found by a check is found on the day that ends with it, or later.
        days = [[math.ceil(day) - 1 for day in each] for each in row["days"][:PEER_MODELS]]
        found[name] = alarms([[day for day in each if first <= day < end] for each in days], case_of(name))
    return found


def run_peers(python: str) -> dict[str, Any]:
    """Return what others make of the traffic that the monitor saw, by their name and the case."""
    first, end = PEER_DAYS
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            references = np.stack([columns(first_reference(case, seed=at)) for at in range(PEER_MODELS)])
            traffic = np.stack([by_day(case, days=end, seed=at)[first:] for at in range(PEER_MODELS)])
            np.savez(Path(folder) / case.name, reference=references, days=traffic)
        done = subprocess.run([python, str(HERE / "peers.py"), folder], stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {
        peer: cases
        if "missing" in cases
        else {name: alarms([[first + at for at in each] for each in of], case_of(name)) for name, of in cases.items()}
        for peer, cases in found.items()
    }


def columns(rows: Rows) -> np.ndarray:
    """Return the inputs as a table of numbers."""
    kinds = np.searchsorted(CATEGORIES, rows.categories.astype(str))
    return np.column_stack([rows.numbers, kinds]).astype(np.float64)


def by_day(case: Case, *, days: int, seed: int) -> np.ndarray:
    """Return the traffic of a model: [days, rows, columns]."""
    parts = [columns(rows) for rows in traffic_of(case, days=days, seed=seed)]
    return np.concatenate(parts).reshape(days, -1, parts[0].shape[1])


def case_of(name: str) -> Case:
    """Return a case by its name."""
    return next(case for case in CASES if case.name == name)


def alarms(found: list[list[int]], case: Case) -> dict[str, Any]:
    """Return the days with an alarm of each model, and how many of them are false in 26 weeks.

    What happens, happens within the day whose index is ``EVENT_DAY - 1``.

    :param found: of each model, the days of ``PEER_DAYS`` with an alarm
    """
    (first, end), event = PEER_DAYS, EVENT_DAY - 1
    begins = event if case.events else end
    wrong = [day for each in found for day in each if day < begins]
    after = [[max(1, day - begins) for day in each if day >= begins] for each in found]
    return {
        "models": len(found),
        "days": end - first,
        "alarm_days": [len(each) for each in found],
        "false_a_half_year": None if case.events is None else len(wrong) / len(found) * HALF_YEAR / (begins - first),
        "days_to_find": [min(each, default=None) for each in after] if case.events else None,
    }


def print_table(results: dict[str, Any]) -> None:
    """Print false alarms a model and 26 weeks, and the days to find, of the monitor."""
    print("| case | retrainings of each model | by | modelway |")
    print("|---|---|---|---|")
    for name, row in results.items():
        numbers = ", ".join(map(str, row["retrainings"]))
        print(f"| {name} | {numbers} | {', '.join(row['rules']) or '-'} | {cell(row)} |")


def print_peers(peers: dict[str, Any]) -> None:
    """Print the same of all on the days that all saw."""
    first, end = PEER_DAYS
    print(f"\n{PEER_MODELS} models of {end - first} days, all of their requests:")
    print(f"| {' | '.join(['case', *peers])} |")
    print("|---|" + "---|" * len(peers))
    for case in CASES:
        print(f"| {case.name} | {' | '.join(cell(found.get(case.name, found)) for found in peers.values())} |")


def cell(row: dict[str, Any]) -> str:
    """Return false alarms a model and 26 weeks, then the days to find an event: the median and the most."""
    if "missing" in row:
        return "not installed"
    if row["false_a_half_year"] is None:
        return f"{sum(row.get('alarm_days') or row['retrainings'])} in all"
    text = f"{row['false_a_half_year']:.1f}"
    if row["days_to_find"]:
        days = sorted(math.inf if each is None else each for each in row["days_to_find"])
        found = [f"{each:g}" if math.isfinite(each) else "never" for each in (days[len(days) // 2], days[-1])]
        text += f"; {found[0]}, at most {found[1]}"
    return text


if __name__ == "__main__":
    sys.exit(main())
