"""The daily loop of somebody who writes a model, beside an earlier build: run, lint, help.

``python bench/loop/run.py [--base e3a433a] [--only run lint help] [--specs 1000] [--rounds 3]`` prints a table, then
all as JSON. The builds take turns, round by round; each number is the median over the rounds. The earlier build is a
commit of this repository in a folder of its own, with the same Python environment. Every round of ``run`` has a new
home:

- ``run``: ``modelway run`` of the model that ``modelway new`` writes, to its registered and served version: wall-clock
  and CPU seconds of all its processes, those that serve included. Target: at most half of the earlier build's
- ``lint one``: ``modelway lint`` of one model. Target: at most 0.4 CPU seconds
- ``lint many``: of 1,000 models. Target: at most 4 CPU seconds
- ``help``: ``modelway --help``. Target: at most 0.15 CPU seconds

The exit status is 1 where a target is missed. ``--small`` lints five models, measures no run and no earlier build, and
looks at the answers alone.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from builds import REPOSITORY, Build, earlier_source
from command import Measured, adopt_orphans

BASE = "e3a433a"
PARTS = ("run", "lint", "help")
#: the most that each may be: by the earlier build's, or CPU seconds
RATIOS = {("run", "wall"): 0.5, ("run", "cpu"): 0.5}
SECONDS = {("lint one", "cpu"): 0.4, ("lint many", "cpu"): 4.0, ("help", "cpu"): 0.15}
MANY = 1000
#: by what was measured, of which build
Samples = dict[tuple[str, str], list[Measured]]


def main() -> int:
    """Measure, print and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--base", default=BASE, metavar="COMMIT", help="the earlier build")
    parser.add_argument("--without-base", action="store_true", help="measure this build alone")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--specs", type=int, default=MANY, help="how many models are linted together")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="see that the answers are right; the seconds say nothing")
    args = parser.parse_args()
    if args.small:
        args.without_base, args.only, args.specs, args.rounds = True, ("lint", "help"), 5, 1
    adopt_orphans()
    with tempfile.TemporaryDirectory(prefix="bench-loop-") as folder, ExitStack() as stack:
        scratch = Path(folder)
        builds = [Build(name="now", source=REPOSITORY, scratch=scratch / "now")]
        if not args.without_base:
            source = stack.enter_context(earlier_source(args.base, scratch))
            builds.append(Build(name="base", source=source, scratch=scratch / "base"))
        samples = compare(builds, parts=args.only, specs=args.specs, rounds=args.rounds)
    results = summary(samples, specs=args.specs)
    show(results)
    print(json.dumps({"base": None if args.without_base else args.base, "rounds": args.rounds, **results}))
    return 1 if results["missed"] and not args.small else 0


def compare(builds: list[Build], *, parts: tuple[str, ...], specs: int, rounds: int) -> Samples:
    """Measure each part of each build in turns; what every build does first, once, is not measured."""
    samples: Samples = defaultdict(list)
    one = {build.name: build.write_models(1) for build in builds}
    many = {build.name: build.write_models(specs) for build in builds} if "lint" in parts else {}
    for number in range(rounds + 1):
        for build in builds[:: 1 if number % 2 else -1]:
            measured = _cheap(build, parts, one[build.name], many.get(build.name), specs=specs, first=number == 0)
            if "run" in parts and number:
                home = build.scratch / f"home-{number}"
                measured["run"] = build.run_model(one[build.name], "model-0000", home=home)
            for name, each in measured.items() if number else ():
                samples[name, build.name].append(each)
    return samples


def _cheap(
    build: Build, parts: tuple[str, ...], one: Path, many: Path | None, *, specs: int, first: bool
) -> dict[str, Measured]:
    """Measure the commands that start no Airflow, and check what they print."""
    found = {}
    if "help" in parts:
        found["help"] = build.command("--help", models=one)
        check(all(word in found["help"].output for word in ("run", "lint", "new")), found["help"])
    if many is not None:
        found["lint one"] = build.command("lint", models=one)
        check(found["lint one"].output == "1 model spec, no problems\n", found["lint one"])
        if not first:
            found["lint many"] = build.command("lint", models=many)
            check(found["lint many"].output == f"{specs} model specs, no problems\n", found["lint many"])
    return found


def check(right: bool, measured: Measured) -> None:
    """Refuse to compare what did not do what it was asked for."""
    if not right:
        raise SystemExit(f"a command printed what was not expected:\n{measured.output[-3000:]}")


def summary(samples: Samples, *, specs: int) -> dict[str, Any]:
    """Return the medians of each part, their ratios to the earlier build, and which targets are missed."""
    seconds = {
        f"{part} {build}": {
            unit: round(statistics.median(getattr(each, unit) for each in measured), 3) for unit in ("wall", "cpu")
        }
        for (part, build), measured in samples.items()
    }
    ratios = {
        part: {unit: round(value / seconds[f"{part} base"][unit], 3) for unit, value in seconds[f"{part} now"].items()}
        for part in ("run", "lint one", "lint many", "help")
        if f"{part} base" in seconds
    }
    missed = [
        f"{part}: {ratios[part][unit]} x the earlier build's {unit} seconds, target {most}"
        for (part, unit), most in RATIOS.items()
        if part in ratios and ratios[part][unit] > most
    ]
    for (part, unit), most in SECONDS.items():
        found = seconds.get(f"{part} now")
        if found and found[unit] > most and (part != "lint many" or specs == MANY):
            missed.append(f"{part}: {found[unit]} {unit} seconds, target {most}")
    return {"specs": specs, "seconds": seconds, "ratios": ratios, "missed": missed}


def show(results: dict[str, Any]) -> None:
    """Print a table, and what is missed."""
    for name, row in results["seconds"].items():
        print(f"{name:<16} {row['wall']:8.2f} s wall  {row['cpu']:8.2f} s CPU")
    for name, row in results["ratios"].items():
        print(f"{name:<16} {row['wall']:8.2f} x wall  {row['cpu']:8.2f} x CPU")
    for line in results["missed"]:
        print(f"missed: {line}")


if __name__ == "__main__":
    sys.exit(main())
