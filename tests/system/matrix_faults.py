"""The rows of the kill matrix: which processes are killed at which step, and what users do to a run or its task."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from matrix_lab import MatrixLab, end_worker, kill_task_process, kill_worker
from matrix_walk import Cell

#: where a run can stand; between two of them nothing happens that a restart could lose
STEPS = ("before-submit", "after-submit", "following", "deferred", "ended", "collecting")
#: at these a worker has the task, at the others the triggerer
IN_WORKER = ("before-submit", "after-submit", "following", "collecting")
#: what ends one process of a task, and how long its job runs on for the next attempt
PROCESSES: dict[str, tuple[Callable[[int], None], float]] = {
    "task process": (kill_task_process, 30),
    "worker": (kill_worker, 30),
    "SIGTERM to the worker": (end_worker, 0),
}
#: where a run can stand when a user acts
SITUATIONS = ("running", "deferred", "without triggerer")
#: the DAG whose jobs are on a fake of Vertex AI
VERTEX = "matrix-vertex"
LIMIT = "limit of the run's time"
ACTIONS: dict[str, Callable[[MatrixLab, str], None]] = {
    "mark failed": lambda lab, cell: lab.mark(cell, "failed"),
    "mark success": lambda lab, cell: lab.mark(cell, "success"),
    "delete the run": lambda lab, cell: lab.delete(cell),
    LIMIT: lambda lab, cell: None,
    "clear": lambda lab, cell: lab.clear(cell),
}


def killed_at_each_step(fault: str) -> list[Cell]:
    """Return a run per step of a worker, whose process is killed there."""
    kill, again_seconds = PROCESSES[fault]

    def strike(lab: MatrixLab, cell: str) -> None:
        # It stands at the one step at which it stops.
        (path,) = (lab.seam / cell).glob("*.reached")
        kill(int(path.read_text()))

    return [replace(cell, strike=strike) for cell in at_each_step(fault, IN_WORKER, again_seconds=again_seconds)]


def at_each_step(fault: str, steps: tuple[str, ...] = STEPS, *, again_seconds: float = 0.0) -> list[Cell]:
    """Return a run per step, which a fault of all strikes there."""
    return [Cell(fault=fault, column=step, step=step, again_seconds=again_seconds) for step in steps]


def ended_by_a_user(situation: str) -> list[Cell]:
    """Return a run per action of a user; what is cleared has a job again."""
    step = "following" if situation == "running" else "deferred"
    cells = {
        action: Cell(fault=action, column=situation, step=step, strike=act, ends=True)
        for action, act in ACTIONS.items()
    }
    cells[LIMIT] = replace(cells[LIMIT], limited=True, released=False)
    cells["clear"] = replace(cells["clear"], ends=False, again_seconds=None, most_starts=2)
    return list(cells.values())


def on_vertex(cells: Iterable[Cell]) -> list[Cell]:
    """Return the same faults for runs whose jobs are on a fake of Vertex AI."""
    return [replace(cell, fault=f"{VERTEX} {cell.fault}", dag_id=VERTEX) for cell in cells]
