"""Live progress of a DAG run in the terminal: every stage with its state and time, a bar over mapped tasks."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from modelway.localairflow.rest import TaskState

if TYPE_CHECKING:
    from modelway.spec.model import ModelSpec

STYLES = {
    "success": ("done", "green"),
    "failed": ("failed", "bold red"),
    "upstream_failed": ("not run", "red"),
    "skipped": ("skipped", "dim"),
    "running": ("running", "yellow"),
    "deferred": ("running", "yellow"),
    "queued": ("queued", "dim"),
    "scheduled": ("queued", "dim"),
    "up_for_retry": ("waits to try again", "magenta"),
}
FINISHED = ("success", "failed", "upstream_failed", "skipped")


def task_order(spec: "ModelSpec") -> list[str]:
    """Return the ids of the tasks of a model's DAG, in the order in which they run."""
    divide = [] if spec.evaluation().per_job == 1 and spec.search is None else ["evaluate.divide"]
    return [
        "package",
        "plan",
        *_training(spec),
        *(*divide, "evaluate.checkpoint", "evaluate.select"),
        *("freeze.freeze", "freeze.verify", "freeze.register"),
        *("serve.build_image", "serve.deploy", "serve.promote"),
    ]


def _training(spec: "ModelSpec") -> list[str]:
    names = [stage.name for stage in spec.stages()]
    if spec.search is None:
        return [f"train.{name}" for name in names]
    found = []
    for name in names:
        found += [f"train.candidates_{name}", f"train.{name}"]
        if spec.search.method == "halving" and name != names[-1]:
            found += [f"train.divide_{name}", f"train.evaluate_{name}"]
    return found


class Run(Protocol):
    """What is shown of a run."""

    def state(self) -> str:
        """Return the run's state."""

    def tasks(self) -> list[TaskState]:
        """Return its task instances."""


def follow(
    console: Console,
    *,
    run: Run,
    order: Sequence[str],
    poll_seconds: float = 1.0,
    each: Callable[[], None] = lambda: None,
) -> str:
    """Show the run until it ends and return its last state.

    :param order: the task ids, in the order of the rows
    :param each: called before every poll; what it raises ends the loop
    """
    began: dict[str, float] = {}
    if not console.is_terminal:
        return _follow_in_lines(console, run, order, poll_seconds, each)
    with Live(console=console, refresh_per_second=4) as live:
        while True:
            each()
            state, tasks = run.state(), run.tasks()
            live.update(_table(tasks, order, began))
            if state in ("success", "failed"):
                return state
            time.sleep(poll_seconds)


def _follow_in_lines(
    console: Console, run: Run, order: Sequence[str], poll_seconds: float, each: Callable[[], None]
) -> str:
    """Print a line whenever a row changes, for logs and pipes."""
    printed: dict[str, str] = {}
    while True:
        each()
        state, tasks = run.state(), run.tasks()
        for task_id in order:
            members = [task for task in tasks if task.task_id == task_id]
            word, _ = _state(members)
            done = sum(task.state in FINISHED for task in members)
            mapped = any(task.map_index >= 0 for task in members)
            line = f"{word} {done}/{len(members)}" if mapped else word
            if word not in ("", "queued", "not run") and printed.get(task_id) != line:
                printed[task_id] = line
                console.print(f"  {task_id:<22} {line:<22} {_seconds(members):6.1f} s", highlight=False)
        if state in ("success", "failed"):
            return state
        time.sleep(poll_seconds)


def _table(tasks: Sequence[TaskState], order: Sequence[str], began: dict[str, float]) -> Table:
    table = Table.grid(padding=(0, 2))
    for task_id in order:
        members = [task for task in tasks if task.task_id == task_id]
        word, style = _state(members)
        if word == "running":
            began.setdefault(task_id, time.monotonic())
        seconds = _seconds(members) or (time.monotonic() - began[task_id] if task_id in began else 0.0)
        row: list[Text | ProgressBar] = [
            Text(f"  {task_id}"),
            Text(word, style=style),
            Text(f"{seconds:.1f} s" if seconds else "", style="dim"),
        ]
        if any(task.map_index >= 0 for task in members):
            done = sum(task.state in FINISHED for task in members)
            row += [ProgressBar(total=len(members), completed=done, width=24), Text(f"{done}/{len(members)}")]
        table.add_row(*row)
    return table


def _state(members: Sequence[TaskState]) -> tuple[str, str]:
    """Return the word and style of a row: the state of the member that is furthest from done."""
    states = {task.state for task in members}
    for state in ("running", "deferred", "up_for_retry", "queued", "scheduled", "failed", "upstream_failed", "skipped"):
        if state in states:
            return STYLES[state]
    return STYLES["success"] if states == {"success"} else ("", "dim")


def _seconds(members: Sequence[TaskState]) -> float:
    return sum(task.seconds for task in members if task.state in FINISHED)
