"""Whatever part of Airflow or of the cluster is killed, at whatever step: one job runs to its end, the task is right.

Airflow's timeouts are short here, so that its parts take one another for dead in seconds: a core is left to it.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from matrix_faults import ACTIONS, STEPS, VERTEX, at_each_step, ended_by_a_user, on_vertex
from matrix_lab import MatrixLab, matrix_lab, require_killable_cluster, restart_kubernetes_api
from matrix_places import BACKEND, jobs_place, on_vertex_ai
from matrix_result import Result, check, print_table
from matrix_walk import walk

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

WITHOUT_TRIGGERER = "without triggerer"


@pytest.fixture(scope="module")
def results() -> Iterator[list[Result]]:
    """How the cells have ended, printed at the end as a table."""
    found: list[Result] = []
    yield found
    print_table([each for each in found if each.fault not in ACTIONS], columns=STEPS)
    print_table([each for each in found if each.fault in ACTIONS], columns=(WITHOUT_TRIGGERER,))


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MatrixLab]:
    root = tmp_path_factory.mktemp("matrix")
    with ExitStack() as stack:
        place, vertex = stack.enter_context(jobs_place(root)), stack.enter_context(on_vertex_ai(root))
        yield stack.enter_context(matrix_lab(root, place=place, parts_die=True, others={VERTEX: vertex}))


@pytest.fixture(scope="module")
def without_triggerer(matrix: MatrixLab, results: list[Result]) -> list[Result]:
    """One walk: runs that outlive the triggerer, and users who end runs and tasks while there is none."""
    cells = at_each_step("triggerer")
    found = walk(
        matrix,
        [*cells, *on_vertex(cells[3:5]), *ended_by_a_user(WITHOUT_TRIGGERER)],
        lambda: matrix.kill_component("triggerer", with_children=True),
        repair=lambda: matrix.bring_back("triggerer"),
    )
    results += found
    return found


def test_a_killed_triggerer_loses_no_job(without_triggerer):
    check([each for each in without_triggerer if each.fault == "triggerer"], count=6)


def test_a_killed_triggerer_loses_no_job_on_vertex_ai(without_triggerer):
    """Deferred, and as the job has ended: only the triggerer follows it."""
    check([each for each in without_triggerer if each.fault.startswith(VERTEX)], count=2)


def test_a_user_who_ends_the_run_or_task_ends_its_job_without_a_triggerer(without_triggerer):
    check([each for each in without_triggerer if each.step == WITHOUT_TRIGGERER], count=5)


@pytest.mark.parametrize(
    ("fault", "component", "with_children", "again_seconds"),
    [
        ("scheduler", "scheduler", False, 15),
        ("scheduler and workers", "scheduler", True, 15),
        ("API server of Airflow", "api-server", True, 0),
    ],
)
def test_a_killed_part_of_airflow_loses_no_job(matrix, results, fault, component, with_children, again_seconds):
    def strike() -> None:
        matrix.kill_component(component, with_children=with_children)
        matrix.bring_back(component)

    check(walked(matrix, results, fault, strike, again_seconds), count=6)


@pytest.mark.skipif(BACKEND != "kubernetes", reason="jobs on this machine ask no cluster")
def test_a_killed_api_server_of_kubernetes_loses_no_job(matrix, results):
    require_killable_cluster()
    check(walked(matrix, results, "API server of Kubernetes", restart_kubernetes_api, 0), count=6)


def walked(
    lab: MatrixLab, results: list[Result], fault: str, strike: Callable[[], None], again_seconds: float
) -> list[Result]:
    """Let a fault strike a run at each step, and return how each has ended."""
    found = walk(lab, at_each_step(fault, again_seconds=again_seconds), strike)
    results += found
    return found
