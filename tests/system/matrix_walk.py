"""A walk of the kill matrix: runs stand at exact steps, a fault strikes all, and each is followed to its end."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matrix_lab import MatrixLab, wait_for
from matrix_result import Result, finished, stopped

#: many runs start at once, and each has a worker, a process for its task and a job
POSITION_SECONDS = 240.0
#: a scheduler that hangs is noticed after two minutes and started again
FINISH_SECONDS = 480.0
#: in this time nothing is left of a job that a user has stopped; a busy scheduler takes a minute to see it
STOP_SECONDS = 180.0
#: limit of the runs of matrix-timeout, which Airflow itself ends; they start just before the fault strikes
LIMIT_SECONDS = 45.0
#: each question costs Airflow's API and the cluster's up to 0.1 CPU s
PAUSE_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A run of the matrix: where it stands, and what strikes it there."""

    fault: str
    """the row of the table"""
    column: str
    step: str
    """where the run stands"""
    strike: Callable[[MatrixLab, str], None] | None = None
    """what strikes this run alone; None where the walk's own fault is the fault"""
    limited: bool = False
    """whether its run has a limit of time, at which Airflow ends it"""
    ends: bool = False
    """whether the job has to go, in place of coming to its end"""
    released: bool = True
    again_seconds: float | None = 0.0
    """how long the job runs on at most for another attempt of its task to find it; None: until there is one"""
    most_starts: int = 1
    dag_id: str = "matrix"

    @property
    def name(self) -> str:
        """The id of the run."""
        return f"{self.fault}.{self.column}".translate(str.maketrans(" ", "-", "'"))


def position(lab: MatrixLab, cells: Sequence[Cell]) -> None:
    """Start the runs and wait until each stands at its step."""
    for cell in cells:
        lab.start(
            cell.name,
            hold=None if cell.step == "deferred" else cell.step,
            dag_id="matrix-timeout" if cell.limited else cell.dag_id,
        )
    missing = list(cells)

    def all_stand() -> bool:
        states = lab.states()
        missing[:] = [cell for cell in missing if not stands(lab, cell, states.get(cell.name))]
        return not missing

    wait_for(
        all_stand,
        seconds=POSITION_SECONDS,
        pause=PAUSE_SECONDS,
        what=lambda: lab.logs(cell.name for cell in missing),
    )


def stands(lab: MatrixLab, cell: Cell, state: str | None) -> bool:
    """Whether a run is where it is wanted; lets a job end whose step comes after its end."""
    if cell.step == "deferred":
        return state == "deferred" and lab.starts(cell.name) > 0 and lab.followers(cell.name) > 1
    if cell.step in ("ended", "collecting") and state == "deferred":
        lab.let_end(cell.name)
    return lab.reached(cell.name, cell.step) is not None


def walk(
    lab: MatrixLab,
    cells: Sequence[Cell],
    strike: Callable[[], None] = lambda: None,
    *,
    repair: Callable[[], None] = lambda: None,
) -> list[Result]:
    """Bring runs to their steps, let the faults strike once, let the runs continue, and inspect how each ended.

    :param strike: the fault of all
    :param repair: called when nothing is left of the jobs that have to go
    """
    position(lab, [cell for cell in cells if not cell.limited])
    # Their time runs already: they start when nothing else does.
    position(lab, [cell for cell in cells if cell.limited])
    struck = time.monotonic()
    strike()
    for cell in cells:
        if cell.strike:
            cell.strike(lab, cell.name)
    for cell in cells:
        if cell.released:
            lab.release(cell.name, cell.step)
    going = [cell for cell in cells if not cell.ends]
    ending = [cell for cell in cells if cell.ends]
    seconds: dict[str, float] = {}
    left: dict[str, list[str]] = {}

    def is_over() -> bool:
        if ending and not left:
            left.update(remains(lab, ending, seconds, struck))
            if left:
                # What lives on unseen would come to its end now, while a cleared task has its next attempt.
                for cell in ending:
                    lab.let_end(cell.name)
                repair()
        follow(lab, going, seconds, struck, all_gone=bool(left) or not ending)
        return len(seconds) == len(cells)

    wait_for(
        is_over,
        seconds=FINISH_SECONDS,
        pause=PAUSE_SECONDS,
        what=lambda: lab.logs(cell.name for cell in cells if cell.name not in seconds),
    )
    results = [inspect(lab, cell, seconds[cell.name], left.get(cell.name, ())) for cell in cells]
    for cell in ending:
        lab.cancel_left(cell.name)
    return results


def remains(lab: MatrixLab, cells: Sequence[Cell], seconds: dict[str, float], struck: float) -> dict[str, list[str]]:
    """Note how long each job took to go; when all are gone or late, return what is left of each."""
    names = [cell.name for cell in cells]
    patience = {cell.name: STOP_SECONDS + (LIMIT_SECONDS if cell.limited else 0.0) for cell in cells}
    left = lab.unfinished([name for name in names if name not in seconds])
    now = time.monotonic() - struck
    for name, found in left.items():
        if not found or now > patience[name]:
            seconds[name] = min(now, patience[name])
    return lab.unfinished(names) if all(name in seconds for name in names) else {}


def follow(lab: MatrixLab, cells: Sequence[Cell], seconds: dict[str, float], struck: float, *, all_gone: bool) -> None:
    """Let each job end when another attempt has it or its time is over; note how long each run took."""
    states = lab.run_states()
    for cell in cells:
        if cell.name in seconds:
            continue
        now = time.monotonic() - struck
        if cell.again_seconds is None:
            may_end = all_gone and len(lab.submits(cell.name)) > 1
        else:
            may_end = len(lab.submits(cell.name)) > 1 or now > cell.again_seconds
        if may_end:
            lab.let_end(cell.name)
        if states.get(cell.name) in ("success", "failed"):
            seconds[cell.name] = now


def inspect(lab: MatrixLab, cell: Cell, seconds: float, left: Sequence[str]) -> Result:
    """Return how a run ended, with what is wrong with it."""
    if cell.ends:
        return stopped(lab, cell.name, action=cell.fault, step=cell.column, seconds=seconds, left=left)
    return finished(lab, cell.name, fault=cell.fault, step=cell.column, seconds=seconds, most_starts=cell.most_starts)
