"""Run steps, the longest first: one per core that computes, three more that wait, each after what it needs.

A quiet step comes before all: only steps that compute run beside it, and one core is left to it.

Tests that failed beside others are run once more, alone, when all has ended: a test that passes then is named as
unsteady. On two cores that several steps share, a wait may be too short; what is wrong fails twice.
"""

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.suite.durations import STEP
from tests.suite.steps import ROOT, START, Step


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a step ended, and what it used."""

    step: Step
    status: int
    seconds: float
    cpu_seconds: float
    """of its processes and of those that they have waited for; not of containers and servers"""
    output: str
    failed: tuple[str, ...] = ()
    """the tests that failed"""

    @property
    def word(self) -> str:
        """How it ended; without a cluster its tests are skipped, but never on CI."""
        if self.status and self.step.name == START and os.environ.get("CI") != "true":
            return "skipped"
        return "FAILED" if self.status else "passed"

    @property
    def reason(self) -> str:
        """Why it failed, on one line: a table of steps alone names no test, and a log's end may be cut off."""
        skipped = re.findall(r"^.*\bon CI none may be\b.*$", self.output, flags=re.MULTILINE)
        return "; ".join(self.failed) or "; ".join(skipped) or f"exit status {self.status}"


#: of more failed tests the change is the reason
MOST_REPEATED = 10
#: pytest's exit status
TESTS_FAILED = 1
#: how many steps that wait run beside one per core: they use a third of a core each, and more of it the more there are
RESTING = 3
#: what the second run of a step's failed tests is called after it
AGAIN = " again"


def unsteady_tests(outcomes: Sequence[Outcome]) -> dict[str, tuple[str, ...]]:
    """Return by step the tests that failed and passed when they were run again."""
    passed = {each.step.name for each in outcomes if not each.status}
    return {each.step.name: each.failed for each in outcomes if each.status and each.step.name + AGAIN in passed}


def priority(step: Step, steps: Sequence[Step]) -> int:
    """Return how long a step takes with the longest that comes after it, or with those that must not run beside it."""
    after = max((priority(each, steps) for each in steps if each.needs == step.name), default=0)
    others = sum(each.seconds for each in steps if step.uses and each.uses == step.uses and each != step)
    return step.seconds + max(after, others)


def next_step(waiting: Sequence[Step], running: Sequence[Step], *, cores: int) -> Step | None:
    """Return the step to start now, None where the next has to wait for one that runs.

    What waits has places of its own, and another one only where nothing that computes is ready.
    """
    unended = {step.name for step in (*waiting, *running)}
    used = {step.uses for step in running} - {""}
    ready = [step for step in waiting if step.needs not in unended and step.uses not in used]
    ready.sort(key=lambda step: priority(step, waiting), reverse=True)
    computing = [step for step in ready if not step.waits]
    resting = [step for step in ready if step.waits]
    for quiet in (step for step in (*running, *waiting) if step.quiet):
        # It comes first, after what it needs.
        first = [step for step in ready if step is quiet or step.name == quiet.needs]
        return next(iter(first or computing), None) if first or len(running) < cores else None
    if len(running) >= cores + RESTING:
        return None
    if resting and not (computing and sum(step.waits for step in running) >= RESTING):
        return resting[0]
    return computing[0] if computing and sum(not step.waits for step in running) < cores else None


@dataclass
class _Started:
    step: Step
    process: "subprocess.Popen[bytes]"
    began: float


@dataclass
class Queue:
    """The steps that wait and those that run."""

    steps: Sequence[Step]
    folder: Path
    """where the output of each goes"""
    cores: int
    environment: Mapping[str, str] = field(default_factory=dict)
    _exports: dict[str, dict[str, str]] = field(default_factory=dict)
    _running: dict[int, _Started] = field(default_factory=dict)

    def run(self) -> Iterator[Outcome]:
        """Run all and give each when it has ended; those that need a step that failed are left out."""
        waiting, ended = list(self.steps), list[Outcome]()
        while waiting or self._running:
            while step := next_step(waiting, [each.step for each in self._running.values()], cores=self.cores):
                waiting.remove(step)
                self._start(step)
            outcome = self._wait()
            if outcome.status:
                waiting = [step for step in waiting if step.without or step.needs != outcome.step.name]
            ended.append(outcome)
            yield outcome
        if sum(len(outcome.failed) for outcome in ended) <= MOST_REPEATED:
            for outcome in (each for each in ended if each.failed):
                self._start(_repeated(outcome.step), cache=outcome.step)
                yield self._wait()

    def _start(self, step: Step, *, cache: Step | None = None) -> None:
        """Start a step.

        :param cache: the step whose failed tests it runs
        """
        # Each step has a cache of pytest's own: several write theirs at the same time.
        words = (*step.words, "-o", f"cache_dir={self._cache(cache or step)}") if step.tests else step.words
        environment = {**os.environ, **self.environment, STEP: step.name, **self._exports.get(step.needs, {})}
        with self._log(step).open("wb") as log:
            process = subprocess.Popen(
                words, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._running[process.pid] = _Started(step, process, time.monotonic())

    def _log(self, step: Step) -> Path:
        return self.folder / f"{step.name}.log"

    def _cache(self, step: Step) -> Path:
        return self.folder.absolute() / "caches" / step.name

    def _failed(self, started: _Started) -> tuple[str, ...]:
        """Return the tests of a step that failed, none where it is no pytest or has ended in another way."""
        found = self._cache(started.step) / "v" / "cache" / "lastfailed"
        if started.process.returncode != TESTS_FAILED or not found.exists():
            return ()
        return tuple(sorted(json.loads(found.read_text())))

    def _wait(self) -> Outcome:
        """Wait for the next step that ends."""
        pid = 0
        while pid not in self._running:
            pid, status, used = os.wait4(-1, 0)
        started = self._running.pop(pid)
        # wait4 has it already; it must not be waited for again.
        started.process.returncode = os.waitstatus_to_exitcode(status)
        output = self._log(started.step).read_text(errors="replace")
        self._exports[started.step.name] = dict(re.findall(r"^export (\w+)=(.+)$", output, flags=re.MULTILINE))
        return Outcome(
            step=started.step,
            status=started.process.returncode,
            seconds=time.monotonic() - started.began,
            cpu_seconds=used.ru_utime + used.ru_stime,
            output=output,
            failed=self._failed(started),
        )


def _repeated(step: Step) -> Step:
    """Return the step that runs the tests of another one that failed."""
    again = ("--last-failed", "--last-failed-no-failures=none")
    return replace(step, name=step.name + AGAIN, command=(*step.command, *again))
