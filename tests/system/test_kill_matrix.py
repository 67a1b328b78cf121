"""Whatever is killed, at whatever step: one job runs to its end, none is left, the task is right."""

import os
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
)
from matrix_places import on_the_cluster, on_this_machine
from matrix_result import Result, rows
from matrix_walk import Cell, walk

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

#: where a run can stand; between two of them nothing happens that a restart could lose
STEPS = ("before-submit", "after-submit", "following", "deferred", "ended", "collecting")
#: at these a worker has the task, at the others the triggerer
IN_WORKER = ("before-submit", "after-submit", "following", "collecting")
#: where the jobs run: on the cluster where there is one
BACKEND = os.environ.get("MATRIX_BACKEND") or ("kubernetes" if os.environ.get("KUBECONFIG") else "local")


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


def well(results: list[Result], table: list[Result]) -> None:
    """Add the results to the table; none may have a problem."""
    table += results
    bad = [result for result in results if result.problems]
    assert [(result.fault, result.step, result.problems) for result in bad] == []


SITUATIONS = ("running", "deferred", "without triggerer")
LIMIT = "limit of the run's time"
ACTIONS: dict[str, Callable[[MatrixLab, str], None]] = {
    "mark failed": lambda lab, cell: lab.mark(cell, "failed"),
    "mark success": lambda lab, cell: lab.mark(cell, "success"),
    "delete the run": lambda lab, cell: lab.delete(cell),
    LIMIT: lambda lab, cell: None,
    "clear": lambda lab, cell: lab.clear(cell),
}
#: what ends one process of a task, and how long its job runs on for the next attempt
PROCESSES: dict[str, tuple[Callable[[int], None], float]] = {
    "task process": (kill_task_process, 30),
    "worker": (kill_worker, 30),
    "SIGTERM to the worker": (end_worker, 0),
}


def killed_at_each_step(fault: str) -> list[Cell]:
    """Return a run per step of a worker, whose process is killed there."""
    kill, again_seconds = PROCESSES[fault]

    def strike(lab: MatrixLab, cell: str) -> None:
        kill(reached(lab, cell))

    return [Cell(fault=fault, column=step, step=step, strike=strike, again_seconds=again_seconds) for step in IN_WORKER]


def reached(lab: MatrixLab, cell: str) -> int:
    """Return the process that stands at the one step that its run stops at."""
    (path,) = (lab.seam / cell).glob("*.reached")
    return int(path.read_text())


def ended_by_a_user(situation: str) -> list[Cell]:
    """Return a run per action of a user; what is cleared has a job again."""
    step = "following" if situation == "running" else "deferred"
    again = {"again_seconds": None, "most_starts": 2}
    return [
        Cell(
            fault=action,
            column=situation,
            step=step,
            strike=act,
            ends=action != "clear",
            released=action != LIMIT,
            dag_id="matrix-timeout" if action == LIMIT else "matrix",
            **(again if action == "clear" else {}),
        )
        for action, act in ACTIONS.items()
    ]


@pytest.fixture(scope="module")
def first_walk(matrix: MatrixLab) -> list[Result]:
    """All that kills no part of Airflow, in one walk: processes of tasks end, and users end runs and tasks."""
    cells = [cell for fault in PROCESSES for cell in killed_at_each_step(fault)]
    return walk(matrix, [*cells, *ended_by_a_user("running"), *ended_by_a_user("deferred")])


def test_a_killed_task_process_or_worker_loses_no_job(first_walk, table):
    well([each for each in first_walk if each.fault in ("task process", "worker")], table)


def test_a_worker_that_is_told_to_end_leaves_its_job_running(first_walk, table):
    well([each for each in first_walk if each.fault == "SIGTERM to the worker"], table)


@pytest.mark.parametrize("situation", ["running", "deferred"])
def test_a_user_who_ends_the_run_or_task_ends_its_job(first_walk, table, situation):
    well([each for each in first_walk if each.step == situation and each.fault in ACTIONS], table)


def test_a_user_who_ends_the_run_or_task_without_a_triggerer_ends_its_job(matrix, table):
    results = walk(
        matrix,
        ended_by_a_user("without triggerer"),
        lambda: matrix.kill_component("triggerer", with_children=True),
        repair=lambda: matrix.bring_back("triggerer"),
    )
    well(results, table)


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
    def strike() -> None:
        matrix.kill_component(component, with_children=with_children)
        matrix.bring_back(component)

    cells = [Cell(fault=fault, column=step, step=step, again_seconds=again_seconds) for step in STEPS]
    well(walk(matrix, cells, strike), table)


@pytest.mark.skipif(BACKEND != "kubernetes", reason="jobs on this machine ask no cluster")
def test_a_killed_api_server_of_kubernetes_loses_no_job(matrix, table):
    require_killable_cluster()
    fault = "API server of Kubernetes"
    well(walk(matrix, [Cell(fault=fault, column=step, step=step) for step in STEPS], restart_kubernetes_api), table)
