"""The table of the kill matrix: what was done at which step, and how it ended."""

from collections.abc import Sequence
from dataclasses import dataclass

from matrix_lab import MatrixLab


@dataclass(frozen=True, kw_only=True)
class Result:
    """How one cell ended."""

    fault: str
    step: str
    seconds: float
    attempts: int
    starts: int
    problems: tuple[str, ...] = ()

    def __str__(self) -> str:
        problems = "; ".join(self.problems) or "ok"
        attempts = "" if self.attempts == 1 else f", attempt {self.attempts}"
        starts = "" if self.starts == 1 else f", {self.starts} starts"
        return f"{problems}, {self.seconds:.0f} s{attempts}{starts}"


def print_table(results: Sequence[Result], *, columns: Sequence[str]) -> None:
    """Print a Markdown table with a line per fault."""
    found = {(result.fault, result.step): str(result) for result in results}
    print(f"\n| | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for fault in dict.fromkeys(result.fault for result in results):
        print(f"| {fault} | {' | '.join(found.get((fault, column), '–') for column in columns)} |")


def check(results: Sequence[Result], *, count: int) -> None:
    """See that no cell has a problem, and that there are so many."""
    assert [(result.fault, result.step, result.problems) for result in results if result.problems] == []
    assert len(results) == count


def finished(lab: MatrixLab, cell: str, *, fault: str, step: str, seconds: float, most_starts: int = 1) -> Result:
    """Inspect what the run of a cell has left: one whole job, a task that knows it, and nothing else."""
    reports, task = lab.reports(cell), lab.task(cell)
    assert task is not None
    problems = []
    if task.state != "success":
        problems.append(f"the task is {task.state}")
    if reports.count("end") != 1:
        problems.append(f"{reports.count('end')} jobs ran to the end")
    if "overlap" in reports:
        problems.append("two ran at once")
    if lab.starts(cell) > most_starts:
        problems.append("it was started again")
    if left := lab.unfinished([cell])[cell]:
        problems.append(f"left: {', '.join(left)}")
    made = lab.xcom(cell) if task.state == "success" else None
    if not problems and [each["step"] for each in made or ()] != [1, 2]:
        problems.append(f"the task returned {made}")
    return _result(lab, cell, fault, step, seconds, problems)


def stopped(lab: MatrixLab, cell: str, *, action: str, step: str, seconds: float, left: Sequence[str]) -> Result:
    """Inspect a job that had to go: nothing of it was ``left``, and it did not reach its end although it was let."""
    problems = []
    if left:
        problems.append(f"left: {', '.join(left)}")
    if "end" in lab.reports(cell):
        problems.append("it ran to the end")
    return _result(lab, cell, action, step, seconds, problems)


def _result(lab: MatrixLab, cell: str, fault: str, step: str, seconds: float, problems: list[str]) -> Result:
    task = lab.task(cell)
    if problems:
        print(f"\n===== {cell}: {problems}\n{lab.log(cell)}")
    return Result(
        fault=fault,
        step=step,
        seconds=seconds,
        attempts=task.try_number if task else 1,
        starts=lab.starts(cell),
        problems=tuple(problems),
    )
