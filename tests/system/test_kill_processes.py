"""The kill matrix, where no part of Airflow dies: processes of tasks are killed, and users end runs and tasks.

One walk for all of it. What kills parts of Airflow and of the cluster is in test_kill_matrix.py.
"""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from matrix_faults import ACTIONS, IN_WORKER, PROCESSES, VERTEX, ended_by_a_user, killed_at_each_step, on_vertex
from matrix_lab import matrix_lab
from matrix_places import jobs_place, on_vertex_ai
from matrix_result import Result, check, print_table
from matrix_walk import Cell, walk

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Result]]:
    """How the run of each cell has ended."""
    root = tmp_path_factory.mktemp("processes")
    with ExitStack() as stack:
        place, vertex = stack.enter_context(jobs_place(root)), stack.enter_context(on_vertex_ai(root))
        lab = stack.enter_context(matrix_lab(root, place=place, parts_die=False, others={VERTEX: vertex}))
        cells = [cell for fault in PROCESSES for cell in killed_at_each_step(fault)]
        results = walk(lab, [*cells, *ended_by_a_user("running"), *ended_by_a_user("deferred"), *vertex_cells()])
        print_table([each for each in results if each.fault in PROCESSES], columns=IN_WORKER)
        print_table([each for each in results if each.fault in ACTIONS], columns=("running", "deferred"))
        print_table(
            [each for each in results if each.fault.startswith(VERTEX)],
            columns=(*IN_WORKER, "deferred"),
        )
        yield results


def vertex_cells() -> list[Cell]:
    """Return runs whose task process is killed at each of its steps, and one that a user ends."""
    marked = next(cell for cell in ended_by_a_user("deferred") if cell.fault == "mark failed")
    return on_vertex([*killed_at_each_step("task process"), marked])


def test_a_killed_task_process_or_worker_loses_no_job(walked):
    check([each for each in walked if each.fault in ("task process", "worker")], count=8)


def test_a_job_on_vertex_ai_outlives_its_task_and_ends_with_it(walked):
    check([each for each in walked if each.fault.startswith(VERTEX)], count=5)


def test_a_worker_that_is_requested_to_end_leaves_its_job_running(walked):
    check([each for each in walked if each.fault == "SIGTERM to the worker"], count=4)


@pytest.mark.parametrize("situation", ["running", "deferred"])
def test_a_user_who_ends_the_run_or_task_ends_its_job(walked, situation):
    check([each for each in walked if each.fault in ACTIONS and each.step == situation], count=5)
