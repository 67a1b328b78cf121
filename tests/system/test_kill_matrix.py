"""Whatever is killed, at whatever step: one job runs to its end, none is left, the task is right."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from matrix_lab import (
    MatrixLab,
    end_worker,
    kill_task_process,
    kill_worker,
    matrix_lab,
    require_killable_cluster,
    restart_kubernetes_api,
    wait_for,
)
from matrix_places import on_the_cluster, on_this_machine
from matrix_result import Result, finished, rows, stopped

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

#: where a run can stand; between two of them nothing happens that a restart could lose
STEPS = ("before-submit", "after-submit", "following", "deferred", "ended", "collecting")
#: at these a worker has the task, at the others the triggerer
IN_WORKER = ("before-submit", "after-submit", "following", "collecting")
#: where the jobs run: on the cluster where there is one
BACKEND = os.environ.get("MATRIX_BACKEND") or ("kubernetes" if os.environ.get("KUBECONFIG") else "local")
POSITION_SECONDS = 120.0
FINISH_SECONDS = 180.0
#: in this time nothing is left of a job that a user has stopped
STOP_SECONDS = 60.0


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Result]]:
    results: list[Result] = []
    yield results
    faults = [result for result in results if result.fault not in ACTIONS]
    actions = [result for result in results if result.fault in ACTIONS]
    text = "\n".join([*rows(faults, steps=STEPS), "", *rows(actions, steps=SITUATIONS)])
    path = tmp_path_factory.getbasetemp() / "kill-matrix.md"
    path.write_text(f"{text}\n")
    print(f"\n{text}\n({path})")


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MatrixLab]:
    root = tmp_path_factory.mktemp("matrix")
    with ExitStack() as stack:
        place = on_this_machine(root) if BACKEND == "local" else stack.enter_context(on_the_cluster(root))
        yield stack.enter_context(matrix_lab(root, place=place))


def position(lab: MatrixLab, cells: dict[str, str]) -> None:
    """Wait until each run stands at its step."""

    def missing() -> list[str]:
        return [cell for cell, step in cells.items() if not stands(cell, step)]

    def stands(cell: str, step: str) -> bool:
        if step == "deferred":
            return lab.state(cell) == "deferred" and lab.starts(cell) > 0 and lab.followers(cell) > 1
        if step in ("ended", "collecting") and lab.state(cell) == "deferred":
            lab.let_end(cell)
        return lab.reached(cell, step) is not None

    wait_for(lambda: not missing(), seconds=POSITION_SECONDS, what=lambda: lab.logs(missing()))


def walk(
    lab: MatrixLab,
    faults: dict[str, tuple[str, ...]],
    strike: Callable[[dict[str, str]], None],
    *,
    again_seconds: float = 0.0,
) -> list[Result]:
    """Bring runs to all steps, let the fault strike once, let them go on, and look at how each ended.

    :param again_seconds: how long jobs run on at most, for a second try of the task to find them running
    """
    cells = {f"{fault}.{step}".replace(" ", "-"): (fault, step) for fault, steps in faults.items() for step in steps}
    steps = {cell: step for cell, (_, step) in cells.items()}
    for cell, step in steps.items():
        lab.start(cell, hold=None if step == "deferred" else step)
    position(lab, steps)
    struck = time.monotonic()
    strike(steps)
    for cell, step in steps.items():
        lab.release(cell, step)
    seconds: dict[str, float] = {}

    def over() -> bool:
        for cell in cells.keys() - seconds.keys():
            if len(lab.submits(cell)) > 1 or time.monotonic() > struck + again_seconds:
                lab.let_end(cell)
            if lab.run_state(cell) in ("success", "failed"):
                seconds[cell] = time.monotonic() - struck
        return len(seconds) == len(cells)

    wait_for(over, seconds=FINISH_SECONDS, what=lambda: lab.logs(cells.keys() - seconds.keys()))
    return [finished(lab, cell, fault=fault, step=step, seconds=seconds[cell]) for cell, (fault, step) in cells.items()]


def well(results: list[Result], table: list[Result]) -> None:
    """Add the results to the table; none may have a problem."""
    table += results
    bad = [result for result in results if result.problems]
    assert [(result.fault, result.step, result.problems) for result in bad] == []


def test_a_killed_task_process_or_worker_loses_no_job(matrix, table):
    def strike(cells: dict[str, str]) -> None:
        for cell, step in cells.items():
            pid = matrix.reached(cell, step)
            kill_worker(pid) if cell.startswith("worker") else kill_task_process(pid)

    well(walk(matrix, {"task process": IN_WORKER, "worker": IN_WORKER}, strike, again_seconds=30), table)


def test_a_worker_that_is_told_to_end_leaves_its_job_running(matrix, table):
    def strike(cells: dict[str, str]) -> None:
        for cell, step in cells.items():
            end_worker(matrix.reached(cell, step))

    well(walk(matrix, {"SIGTERM to the worker": IN_WORKER}, strike), table)


@pytest.mark.parametrize(
    ("fault", "component", "with_children", "again_seconds"),
    [
        ("triggerer", "triggerer", True, 0),
        ("scheduler", "scheduler", False, 15),
        ("scheduler and workers", "scheduler", True, 15),
        ("API server of Airflow", "api-server", True, 0),
    ],
)
def test_a_killed_part_of_airflow_loses_no_job(matrix, table, fault, component, with_children, again_seconds):
    def strike(cells: dict[str, str]) -> None:
        matrix.kill_component(component, with_children=with_children)
        matrix.bring_back(component)

    well(walk(matrix, {fault: STEPS}, strike, again_seconds=again_seconds), table)


@pytest.mark.skipif(BACKEND != "kubernetes", reason="jobs on this machine ask no cluster")
def test_a_killed_api_server_of_kubernetes_loses_no_job(matrix, table):
    require_killable_cluster()
    well(walk(matrix, {"API server of Kubernetes": STEPS}, lambda cells: restart_kubernetes_api()), table)


SITUATIONS = ("running", "deferred", "without triggerer")
LIMIT = "limit of the run's time"
ACTIONS: dict[str, Callable[[MatrixLab, str], None]] = {
    "mark failed": lambda lab, cell: lab.mark(cell, "failed"),
    "mark success": lambda lab, cell: lab.mark(cell, "success"),
    "delete the run": lambda lab, cell: lab.delete(cell),
    LIMIT: lambda lab, cell: None,
    "clear": lambda lab, cell: lab.clear(cell),
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_user_who_ends_the_run_or_task_ends_its_job(matrix, table, situation):
    step = "following" if situation == "running" else "deferred"
    cells = {action: f"{action}.{situation}".translate(str.maketrans(" '", "--")) for action in ACTIONS}
    for action, cell in cells.items():
        dag_id = "matrix-timeout" if action == LIMIT else "matrix"
        matrix.start(cell, hold=None if step == "deferred" else step, dag_id=dag_id)
    position(matrix, dict.fromkeys(cells.values(), step))
    if situation == "without triggerer":
        matrix.kill_component("triggerer", with_children=True)
    struck = time.monotonic()
    for action, cell in cells.items():
        ACTIONS[action](matrix, cell)
    for action in ACTIONS.keys() - {LIMIT}:
        matrix.release(cells[action], step)
    cleared = cells.pop("clear")
    seconds = gone(matrix, cells, struck)
    left = {action: matrix.unfinished(cell) for action, cell in cells.items()}
    # What lives on unseen would come to its end now, while the cleared task has its next try.
    for cell in cells.values():
        matrix.let_end(cell)
    if situation == "without triggerer":
        matrix.bring_back("triggerer")
    begun_again = again(matrix, cleared, situation, struck)
    results = [
        stopped(matrix, cell, action=action, step=situation, seconds=seconds[action], left=left[action])
        for action, cell in cells.items()
    ]
    for cell in cells.values():
        matrix.cancel_left(cell)
    well([*results, begun_again], table)


def gone(lab: MatrixLab, cells: dict[str, str], struck: float) -> dict[str, float]:
    """Wait until nothing is left of the jobs; return how long each took."""
    seconds: dict[str, float] = {}
    while len(seconds) < len(cells) and time.monotonic() < struck + STOP_SECONDS:
        for action, cell in cells.items():
            if action not in seconds and not lab.unfinished(cell):
                seconds[action] = time.monotonic() - struck
        time.sleep(0.2)
    return dict.fromkeys(cells, STOP_SECONDS) | seconds


def again(lab: MatrixLab, cell: str, situation: str, struck: float) -> Result:
    """Let the job of a cleared task end once the next try has it; it may be stopped and go on before."""

    def over() -> bool:
        if len(lab.submits(cell)) > 1:
            lab.let_end(cell)
        return lab.run_state(cell) in ("success", "failed")

    wait_for(over, seconds=FINISH_SECONDS, what=lambda: lab.logs([cell]))
    seconds = time.monotonic() - struck
    return finished(lab, cell, fault="clear", step=situation, seconds=seconds, most_starts=2)
