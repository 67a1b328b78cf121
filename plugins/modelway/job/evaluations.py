"""Several checkpoints in one job: each has a result of its own, and one that ends the process does not end the others.

What happens goes into ``events.jsonl`` as it happens, so that the next attempt evaluates only what is left:

- ``{"kind": "evaluation-begun", "input": name}``
- ``{"kind": "evaluation", "input": name, "seconds": …}`` with ``metrics``, or with ``error`` in one line;
  ``final`` means that the same would happen again
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from modelway.job.contract import Job, Stopped
from modelway.job.events import append_event, checked_name, json_number, read_events

#: what the names of the inputs begin with when there are several; one alone is the input ``checkpoint``
PREFIX = "checkpoint."
#: how often an attempt may die while it evaluates the same checkpoint
MOST_DEATHS = 2
#: returns the evaluation of a checkpoint's file, ready to be timed: its code is imported and seeded
Load = Callable[[Path], Callable[[], Any]]
Metrics = dict[str, "float | str"]


def evaluate_one(folder: Path, name: str, load: Load) -> Metrics:
    """Evaluate the checkpoint of an input, record its duration, and return its metrics.

    :raises TypeError: the evaluation returned no mapping of numbers
    """
    evaluation = load(folder / "inputs" / name)
    began = time.monotonic()
    metrics = _checked(evaluation())
    append_event(folder, "evaluation", input=name, metrics=metrics, seconds=round(time.monotonic() - began, 3))
    return metrics


def evaluate_several(job: Job, *, names: Sequence[str], load: Load, reason: Callable[[BaseException], str]) -> None:
    """Evaluate the checkpoints of the inputs ``names`` that have no result yet, one after another.

    :param reason: describes an error in one line
    :raises RuntimeError: an evaluation failed; all others were done
    :raises Stopped: the job was requested to stop; what is left is for the next attempt
    """
    together, alone = _left(job.folder, names)
    while together:
        together = _in_a_process(job, together, load, reason)
    for name in alone:
        _in_a_process(job, [name], load, reason)
    outcomes = evaluation_outcomes(read_events(job.folder))
    failed = [f"{_shown(name)}: {outcomes[name]['error']}" for name in names if "error" in outcomes[name]]
    if failed:
        raise RuntimeError(f"{len(failed)} of {len(names)} evaluations failed: " + "; ".join(failed))


def evaluation_outcomes(events: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return the last outcome of each input that has one, by the input's name."""
    return {event["input"]: event for event in events if event["kind"] == "evaluation" and "input" in event}


def evaluations_cut_off(events: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Return how often the evaluation of each input began and did not end, by the input's name."""
    counts: dict[str, int] = {}
    for event in events:
        change = {"evaluation-begun": 1, "evaluation": -1}.get(event["kind"], 0)
        if change and "input" in event:
            counts[event["input"]] = counts.get(event["input"], 0) + change
    return counts


def _left(folder: Path, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return what is left to evaluate in one process, and then, each in its own, those during which an attempt died."""
    events = read_events(folder)
    outcomes, deaths = evaluation_outcomes(events), evaluations_cut_off(events)
    left = [name for name in names if name not in outcomes]
    if not left:
        # All were evaluated: this attempt is here to repeat failed ones. Those that would fail again are repeated only
        # when nothing else is left, so on request.
        failed = [name for name in names if "error" in outcomes[name]]
        return [name for name in failed if not outcomes[name].get("final")] or failed, []
    for name in left:
        if deaths.get(name, 0) >= MOST_DEATHS:
            _fail(folder, name, f"the job died {deaths[name]} times while it evaluated this checkpoint")
    alone = [name for name in left if 0 < deaths.get(name, 0) < MOST_DEATHS]
    return [name for name in left if not deaths.get(name, 0)], alone


def _in_a_process(job: Job, names: Sequence[str], load: Load, reason: Callable[[BaseException], str]) -> list[str]:
    """Evaluate in a new process; when it dies, record the checkpoint as failed and return what is left."""
    before = len(read_events(job.folder))
    sys.stdout.flush()
    sys.stderr.flush()
    # Only the standard library is loaded here and no thread runs: a fork is safe, and takes milliseconds.
    child = os.fork()
    if not child:
        _evaluate_and_exit(job, names, load, reason)
    _, status = os.waitpid(child, 0)
    outcomes = evaluation_outcomes(read_events(job.folder)[before:])
    left = [name for name in names if name not in outcomes]
    if not left:
        return []
    if job.stopping:
        raise Stopped(f"the job was requested to stop, {len(left)} evaluations are left for the next attempt")
    _fail(job.folder, left[0], f"its process {_ended(status)}")
    return left[1:]


def _evaluate_and_exit(job: Job, names: Sequence[str], load: Load, reason: Callable[[BaseException], str]) -> None:
    try:
        for name in names:
            if job.stopping:
                break
            append_event(job.folder, "evaluation-begun", input=name)
            try:
                print(f"{_shown(name)}: metrics: {json.dumps(evaluate_one(job.folder, name, load))}", flush=True)
            except BaseException as error:
                traceback.print_exception(type(error), error, error.__traceback__)
                _fail(job.folder, name, reason(error))
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        # A hard exit: threads and exit handlers of a model's libraries must not delay its end.
        os._exit(0)


def _fail(folder: Path, name: str, error: str) -> None:
    print(f"{_shown(name)}: FAILED: {error}", file=sys.stderr, flush=True)
    append_event(folder, "evaluation", input=name, error=error)


def _ended(status: int) -> str:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        out = ", as it happens when memory runs out" if number == signal.SIGKILL else ""
        return f"was killed by {signal.Signals(number).name}{out}"
    return f"ended with exit status {os.WEXITSTATUS(status)}"


def _shown(name: str) -> str:
    """Return the name shown for the checkpoint of an input such as ``checkpoint.0002.train-000003``."""
    return name.split(".", 2)[-1]


def _checked(metrics: Any) -> Metrics:
    if not isinstance(metrics, dict) or not metrics:
        raise TypeError(f"evaluate must give a mapping from metric names to numbers, got {metrics!r:.100}")
    return {checked_name(name, what="a metric"): _metric(str(name), value) for name, value in metrics.items()}


def _metric(name: str, value: Any) -> float | str:
    try:
        return json_number(value)
    except (TypeError, ValueError):
        raise TypeError(f"evaluate must give a number as the metric '{name}', got {value!r:.100}") from None
