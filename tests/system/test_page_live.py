"""What the pages' scripts compute and show of a run that runs, and of a rollout whose run died.

Airflow's API is a stand-in here that answers what a test says; test_page_access.py meets the real one.
"""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from browser import WAIT_SECONDS, console_errors, open_browser, wait
from modelway.lineage.records.version import RolloutRecord
from modelway.lineage.store import open_lineage
from modelway.ui.app import create_app
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from tests.lineage_samples import make_record
from tests.served_pages import served

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]
HOSTILE = "<img src=x onerror=document.title='broken'>"
STARTED, LATER = "2026-03-01T12:00:00Z", "2026-03-01T12:01:00Z"


class Airflow:
    """Answers for one run of the DAG digits."""

    def __init__(self) -> None:
        self.status, self.state, self.log, self.triggered = 200, "running", [], []

    def answer(self, request: Request) -> Response:
        path = request.url.path
        if self.status != 200:
            return JSONResponse({"detail": "no"}, status_code=self.status)
        if "/logs/" in path:
            messages = [{"event": line} for line in self.log]
            return JSONResponse({"content": messages, "continuation_token": "later"})
        if path.endswith("/dagRuns"):
            run = {"dag_run_id": HOSTILE, "state": "failed", "start_date": STARTED, "end_date": LATER}
            return JSONResponse({"dag_runs": [{**run, "run_type": "manual", "triggering_user_name": "ada"}]})
        if path.endswith("/dags/digits"):
            return JSONResponse(
                {"timetable_description": "every day", "next_dagrun_run_after": LATER, "is_paused": True}
            )
        if path.endswith("/taskInstances"):
            return JSONResponse({"task_instances": self.tasks(), "total_entries": 6})
        return JSONResponse({"state": self.state})

    async def trigger(self, request: Request) -> Response:
        self.triggered.append((await request.json())["conf"])
        return JSONResponse({"dag_run_id": "manual__new"})

    def tasks(self) -> list[dict[str, object]]:
        training = "running" if self.state == "running" else "success"
        one = {"map_index": -1, "try_number": 1, "start_date": STARTED, "end_date": STARTED}
        mapped = [
            {**one, "task_id": "evaluate.checkpoint", "map_index": index, "state": state, "start_date": None}
            for index, state in enumerate(("success", "success", "running", None))
        ]
        return [
            *mapped,
            {
                **one,
                "task_id": "train.coarse",
                "state": training,
                "try_number": 2,
                "start_date": "2026-03-01T12:01:00Z",
            },
            {**one, "task_id": HOSTILE, "state": "success"},
        ]


@pytest.fixture(scope="module")
def airflow() -> Airflow:
    return Airflow()


@pytest.fixture(scope="module")
def url(airflow: Airflow, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    place = f"sqlite:///{tmp_path_factory.mktemp('pages') / 'lineage.db'}"
    store = open_lineage(place)
    for number in (1, 2):
        store.register(make_record(f"run-{number}"))
    rollout = RolloutRecord(
        endpoint="digits", run_id="digits/run-1", model="digits", version=1, state="done", detail={"stable": None}
    )
    store.save_rollout(rollout)
    store.record_weights(endpoint="digits", model="digits", weights={1: 90, 2: 10})
    store.save_rollout(replace(rollout, run_id="digits/run-2", version=2, state="running", detail={"stable": 1}))
    app = create_app(store_url=lambda: place, readable_dags=lambda: frozenset({"digits"}))
    routes = [
        Route("/api/v2/dags/digits/dagRuns", airflow.trigger, methods=["POST"]),
        Route("/api/v2/dags/{path:path}", airflow.answer),
        Mount("/modelway", app),
    ]
    with served(Starlette(routes=routes)) as found:
        yield found


@pytest.fixture(scope="module")
def browser():
    with open_browser() as opened:
        yield opened


def eventually(browser, script: str, wanted: object) -> None:
    WebDriverWait(browser, WAIT_SECONDS).until(lambda page: page.execute_script(f"return {script}") == wanted)


#: the rows, the link of the second one, and the curve, all at once: each round replaces them
LIVE = """
const [first, ...rest] = document.querySelectorAll("#live tbody tr");
const textOf = (row) => [...row.cells].map((cell) => cell.textContent).join(" ");
const figure = document.querySelector("#live figure");
return [[first, ...rest].map(textOf), rest[0].querySelector("a").href, figure.textContent];
"""
STATUS = "document.querySelector('#live [role=status]').textContent"


def test_a_run_is_seen_while_it_trains_and_when_it_is_over(browser, url, airflow):
    airflow.log = [
        "progress: step 1/40 (2 %), loss 2.5, 800 examples/s, 3 m 10 s left",
        f"progress: {HOSTILE}",
        "progress: step 2/40 (5 %), loss nan",
        "progress: step 10/40 (25 %), loss 0.5",
    ]
    browser.get(f"{url}/modelway/of-run?dag=digits&run=run-2")
    eventually(browser, STATUS, "The run is running.")
    found, link, figure = browser.execute_script(LIVE)
    rows = [" ".join(row.split()) for row in found]
    assert [row.split(" ")[0] for row in rows] == ["<img", "train.coarse", "evaluate.checkpoint"]
    assert "running 2" in rows[1], "its second attempt"
    assert "25 % step 10, loss 0.5" in rows[1]
    assert "2 of 4 done" in rows[2]
    assert link.endswith("/dags/digits/runs/run-2/tasks/train.coarse?try_number=2")
    assert "loss of train.coarse: 0.5 at step 10, between 0.5 and 2.5" in figure
    assert "1 values are not finite" in figure
    airflow.state = "success"
    eventually(browser, STATUS, "The run is over: success.")
    assert browser.title != "broken"
    assert console_errors(browser) == []
    airflow.state = "running"


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (401, "Your session has ended: sign in to Airflow again."),
        (403, "Airflow does not let you see the tasks of this run."),
        (404, "Airflow has no such run any more."),
        # Of how many seconds depends on when it is read.
        (500, "Airflow does not answer: trying again in "),
    ],
)
def test_what_airflow_refuses_is_said(browser, url, airflow, status, sentence):
    airflow.status = status
    browser.get(f"{url}/modelway/of-run?dag=digits&run=run-2")
    eventually(browser, f"{STATUS}.slice(0, {len(sentence)})", sentence)
    airflow.status = 200
    console_errors(browser)


def test_the_page_of_a_model_lists_its_last_runs_and_when_the_next_is_due(browser, url):
    browser.get(f"{url}/modelway/models/digits")
    due = "every day, next 2026-03-01 12:01:00 UTC; the DAG is paused, so that its runs wait"
    eventually(browser, "document.querySelector('section[data-runs] [role=status]').textContent", due)
    (row,) = browser.find_elements(By.CSS_SELECTOR, "section[data-runs] tbody tr")
    assert row.text == f"{HOSTILE} failed 2026-03-01 12:00:00 UTC 1 min 0 s ada"
    row.find_element(By.TAG_NAME, "a").click()
    wait(browser, By.XPATH, "//h1[starts-with(., 'Run of digits')]")
    assert browser.title != "broken"
    assert console_errors(browser) == []


def test_a_rollout_whose_run_died_is_closed_from_the_page(browser, url, airflow):
    airflow.state = "running"
    browser.get(f"{url}/modelway/endpoints/digits")
    wait(browser, By.CSS_SELECTOR, "form[data-action=end]")
    assert not browser.find_element(By.CSS_SELECTOR, "form[data-action=close]").is_displayed()
    airflow.state = "failed"
    browser.get(f"{url}/modelway/endpoints/digits")
    form = wait(browser, By.CSS_SELECTOR, "form[data-action=close]")
    assert "The run of the rollout is over (failed): close it, and give the traffic to v1" in form.text
    assert not browser.find_element(By.CSS_SELECTOR, "form[data-action=end]").is_displayed()
    form.find_element(By.NAME, "reason").send_keys("its worker died")
    button = form.find_element(By.TAG_NAME, "button")
    button.click()
    assert wait(browser, By.ID, "outcome").text == "Press again to confirm."
    button.click()
    said = "The run manual__new closes it and gives the traffic to version 1."
    eventually(browser, "document.getElementById('outcome').textContent", said)
    assert airflow.triggered == [{"rollout": "rollback", "version": "1", "reason": "its worker died"}]
    airflow.state = "running"


@pytest.fixture
def computed(browser, url):
    """Runs one of the scripts' functions in the browser, on the page that loads them."""
    browser.get(f"{url}/modelway/of-run?dag=digits&run=run-2")

    def run(expression, *arguments):
        return browser.execute_script(
            f"const {{ added, curve, nothing, pause, progressOf, rowsOf, seconds }} = window.modelwayProgress; "
            f"return {expression}",
            *arguments,
        )

    return run


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("progress: step 5", {"step": 5, "total": None, "loss": None, "left": None, "rate": None}),
        (
            "[rank 0] progress: step 120/1000 (12 %), loss 0.31, 845 examples/s, 3 m 10 s left, GPU 97 % 10.1/80 GiB",
            {"step": 120, "total": 1000, "loss": 0.31, "left": "3 m 10 s", "rate": "845 examples/s"},
        ),
        ("progress: step 5/0 (x %)", None),
        ("progress: half done", None),
        ("step 5", None),
        ("", None),
        ("progress: step 5, " + "x" * 100_000, {"step": 5, "total": None, "loss": None, "left": None, "rate": None}),
    ],
)
def test_a_line_of_progress_is_parsed_as_jobs_write_it(computed, line, found):
    assert computed("progressOf(arguments[0])", line) == found


def test_the_parser_reads_what_a_job_writes(computed):
    from modelway.job.progress import line

    figures = {"step": 7, "total": 9, "fraction": 7 / 9, "loss": 0.25, "examples_per_second": 3.0, "seconds_left": 75.0}
    found = computed("progressOf(arguments[0])", f"progress: {line(figures)}")
    assert found == {"step": 7, "total": 9, "loss": 0.25, "left": "1 m 15 s", "rate": "3 examples/s"}


def test_a_curve_has_a_bounded_number_of_points_and_the_newest_value_of_a_step(computed):
    many = [f"progress: step {step}, loss {step}" for step in range(5_000)]
    size, newest = computed(
        "(() => { const known = added(nothing(), arguments[0]); return [known.points.size, known.last.step]; })()", many
    )
    assert size <= 400
    assert newest == 4999
    again = ["progress: step 1, loss 5", {"event": "progress: step 1, loss 3"}, {"event": None}, None, 7]
    assert computed("[...added(nothing(), arguments[0]).points]", again) == [[1, 3]]


def test_a_curve_fills_its_box(computed):
    points = [[0, 4], [10, 2], [20, 0]]
    assert computed("curve(new Map(arguments[0]), {width: 100, height: 40})", points) == "0.0,0.0 50.0,20.0 100.0,40.0"
    level = computed("curve(new Map([[1, 2], [2, 2]]), {width: 100, height: 40})")
    assert level == "0.0,20.0 100.0,20.0"
    assert computed("curve(new Map([[1, 2]]), {width: 100, height: 40})") == ""


def test_times_and_pauses_are_bounded(computed):
    assert computed("[seconds(0, 59400), seconds(0, 61000), seconds(0, 7260000), seconds(5, 0)]") == [
        "59 s",
        "1 min 1 s",
        "2 h 1 min",
        "0 s",
    ]
    assert computed("[0, 1, 2, 9].map(pause)") == [5, 10, 20, 60]


def test_tasks_are_rows_in_the_order_of_their_start(computed):
    rows = computed(
        "rowsOf(arguments[0]).map((row) => [row.task, row.done, row.count, row.shown.state])",
        [
            {"task_id": "later", "state": None, "start_date": None},
            {"task_id": "many", "state": "success", "start_date": "2026-03-01T12:00:05Z"},
            {"task_id": "many", "state": "failed", "start_date": "2026-03-01T12:00:06Z"},
            {"task_id": "first", "state": "skipped", "start_date": "2026-03-01T12:00:00Z"},
        ],
    )
    assert rows == [["first", 1, 1, "skipped"], ["many", 1, 2, "failed"], ["later", 0, 1, None]]
