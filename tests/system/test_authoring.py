"""A model's DAG on a real Airflow: by hand, by API, by cron, by events, by backfill; its form, alerts and versions."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from browser import log_in, open_browser, wait
from modelway.endpoints.base import load_endpoint
from modelway.errors import ModelwayError, UnknownModel
from modelway.lineage.store import Lineage, open_lineage
from modelway.localairflow.processes import LocalAirflow
from modelway.localairflow.rest import AirflowApi
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.airflow_template import with_database
from tests.kept_airflow import kept_running

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]
NOTIFIERS = "tests.dags.sample_notifiers.*, no.such.module.*"
HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
#: a scheduler that hangs is noticed after two minutes and started again
RUN_SECONDS = 450
DAYS = {"2026-01-01": "one", "2026-01-02": "second"}
TRAINING = ("train.train", "evaluate.checkpoint", "evaluate.select", "freeze.freeze", "freeze.verify")


@dataclass
class Author:
    """What an author has: a folder of models, an Airflow, and what it recorded."""

    airflow: LocalAirflow
    api: AirflowApi
    home: Path
    models: Path
    notices: Path
    runs: dict[str, str] = field(default_factory=dict)

    @property
    def lineage(self) -> Lineage:
        return open_lineage(f"sqlite:///{self.home / 'lineage.db'}")

    def wait_for(self, done: Callable[[], Any], what: str, seconds: float = RUN_SECONDS) -> Any:
        """Wait for something that Airflow does."""
        deadline = time.monotonic() + seconds
        while not (found := done()):
            assert time.monotonic() < deadline, f"waited in vain for {what}; {self.last_lines()}"
            time.sleep(1)
        return found

    def last_lines(self) -> dict[str, list[str]]:
        """Return the end of each component's log."""
        logs = (self.airflow.folder / "logs").glob("*.txt")
        return {log.stem: log.read_text(errors="replace").splitlines()[-30:] for log in logs}

    def finish(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Wait until the run is over and return it."""
        self.wait_for(lambda: self.api.run_state(dag_id, run_id) in ("success", "failed"), f"{dag_id} {run_id}")
        return self.api.run(dag_id, run_id)

    def runs_of(self, dag_id: str, kind: str) -> list[str]:
        runs = self.api.call("GET", f"/dags/{dag_id}/dagRuns", params={"limit": 100, "order_by": "run_after"})
        return [run["dag_run_id"] for run in runs["dag_runs"] if run["run_type"] == kind]

    def states(self, dag_id: str, run_id: str) -> dict[str, str | None]:
        return {task.task_id: task.state for task in self.api.tasks(dag_id, run_id)}

    def plan(self, dag_id: str, run_id: str) -> dict[str, Any]:
        return self.value(dag_id, run_id, "plan")["plan"]

    def value(self, dag_id: str, run_id: str, task_id: str) -> Any:
        return self.api.xcom(dag_id, run_id, task_id)

    def trained(self, dag_id: str, run_id: str, task_id: str = "train.train") -> dict[str, Any]:
        """Return what the run's training kept of what it was given."""
        checkpoint = self.value(dag_id, run_id, task_id)[-1]
        found: dict[str, Any] = json.loads(Path(checkpoint["uri"].removeprefix("file://")).read_text())
        return found

    def versions(self, model: str) -> dict[int, tuple[str, ...]]:
        """Return the aliases of each version."""
        try:
            return {each.number: tuple(sorted(each.aliases)) for each in self.lineage.versions(model)}
        except UnknownModel:
            return {}

    def notices_of(self, model: str) -> list[str]:
        lines = self.notices.read_text().splitlines() if self.notices.exists() else []
        return [line for line in lines if model in line]

    def dag_versions(self, dag_id: str) -> int:
        return int(self.api.call("GET", f"/dags/{dag_id}/dagVersions")["total_entries"])

    def parse(self, dag_id: str) -> None:
        """Let the DAG's file be read again, and wait until it is."""
        before = self.api.call("GET", f"/dags/{dag_id}")
        self.api.call("PUT", f"/parseDagFile/{before['file_token']}")
        parsed = lambda: self.api.call("GET", f"/dags/{dag_id}")["last_parsed_time"]  # noqa: E731
        self.wait_for(lambda: parsed() != before["last_parsed_time"], f"{dag_id} to be read again")

    def backfills(self, dag_id: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.api.call("GET", "/backfills", params={"dag_id": dag_id})["backfills"]
        return found

    def backfill(self, dag_id: str, days: tuple[str, str], **more: Any) -> None:
        self.wait_for(lambda: all(each["completed_at"] for each in self.backfills(dag_id)), "the backfill before")
        body = {"dag_id": dag_id, "from_date": f"{days[0]}T00:00:00Z", "to_date": f"{days[1]}T00:00:00Z"}
        self.api.call("POST", "/backfills", json={**body, "run_backwards": False, "max_active_runs": 2, **more})


@pytest.fixture(scope="module")
def author(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Author]:
    root = tmp_path_factory.mktemp("authoring")
    models, data, notices, home = root / "models", root / "data", root / "notices.txt", with_database(root / "home")
    shutil.copytree(HERE / "authoring", models, ignore=shutil.ignore_patterns("__pycache__"))
    for spec in models.glob("*/model.yaml"):
        spec.write_text(spec.read_text().replace("/DATA", str(data)).replace("NOTICES", str(notices)))
    data.mkdir()
    now = datetime.now(tz=UTC)
    recent = {f"{now - timedelta(days=back):%Y-%m-%d}": "of late" for back in (0, 1, 2)}
    for day, content in (DAYS | recent).items():
        (data / f"{day}.txt").write_text(content)
    environment = {
        "MODELWAY_MODELS": str(models),
        "MODELWAY_NOTIFIERS": NOTIFIERS,
        "PYTHONPATH": f"{REPOSITORY / 'plugins'}:{REPOSITORY}",
    }
    running = LocalAirflow(home=home, repository=REPOSITORY, environment=environment)
    with running, kept_running(running) as airflow:
        api = AirflowApi(url=airflow.url, username="admin", password=airflow.password)
        author = Author(airflow=airflow, api=api, home=home, models=models, notices=notices)
        for dag_id in ("unlucky", "nightly", "tuned"):
            api.wait_for_dag(dag_id)
            api.unpause(dag_id)
        # One after another, since the model allows one run at a time; the others run beside them.
        for name, conf in {
            "by hand": {"epochs": 2, "optimizer": "sgd", "seed": 7, "reason": "a first try"},
            "part": {"skip": ["first"], "rollout": "no", "epochs": 3},
            "reused": {"version": "2"},
        }.items():
            author.runs[name] = api.trigger("tuned", conf=conf)
        yield author


def test_a_scheduled_run_trains_on_its_own_interval(author):
    (run_id,) = author.wait_for(lambda: author.runs_of("nightly", "scheduled"), "the scheduled run of nightly")
    run = author.finish("nightly", run_id)
    assert run["state"] == "success", author.states("nightly", run_id)
    start, end = (datetime.fromisoformat(run[f"data_interval_{side}"]) for side in ("start", "end"))
    assert end - start == timedelta(days=1)
    given = author.trained("nightly", run_id)
    assert [datetime.fromisoformat(each) for each in given["interval"]] == [start, end]
    assert given["partition"] == f"{start:%Y-%m-%dT%H:%M:%S}"
    assert (given["uri"].split("/")[-1], given["content"]) == (f"{start:%Y-%m-%d}.txt", "of late")
    assert author.versions("nightly") == {1: ("candidate", "champion")}
    # The first day lies before the schedule's start. This runs beside the runs of the other model.
    author.backfill("nightly", ("2026-01-01", "2026-01-02"))


def test_a_run_by_hand_takes_the_values_of_its_form(author):
    run_id = author.runs["by hand"]
    run = author.finish("tuned", run_id)
    assert (run["state"], run["logical_date"]) == ("success", None)
    given = author.trained("tuned", run_id, "train.second")
    assert (given["params"], given["seed"]) == ({"epochs": 2, "optimizer": "sgd"}, 7)
    assert given["after"]["stage"] == "first"
    assert author.plan("tuned", run_id)["interval"]["start"] is None
    record = author.lineage.version("tuned", 1)
    assert (record.run.reason, record.run.seed) == ("a first try", 7)
    (compared,) = record.summary.verification["comparisons"]
    assert (compared["version"], compared["passes"]) == (None, True), "there was no champion"
    (line,) = author.wait_for(lambda: author.notices_of("tuned"), "the notifier of success")[:1]
    assert line == f"tuned succeeded: run {run_id}"


def test_a_value_that_does_not_fit_is_refused_by_name(author):
    for conf in ({"epochs": 99}, {"optimizer": "magic"}, {"skip": ["third"]}, {"rollout": "maybe"}, {"seed": None}):
        (name,) = conf
        with pytest.raises(ModelwayError, match=rf"was answered 4\d\d: .*{name}"):
            author.api.trigger("tuned", conf=conf)


def test_a_stage_is_left_out_and_nothing_moves_on_request(author):
    run_id = author.runs["part"]
    assert author.finish("tuned", run_id)["state"] == "success"
    given = author.trained("tuned", run_id, "train.second")
    assert (given["after"], given["params"]) == (None, {"epochs": 3, "optimizer": "adam"})
    assert [each["stage"] for each in author.value("tuned", run_id, "train.second")] == ["second"]
    states = author.states("tuned", run_id)
    assert (states["serve.deploy"], states["serve.promote"]) == ("skipped", "skipped")
    assert 2 in author.versions("tuned")
    (compared,) = author.lineage.version("tuned", 2).summary.verification["comparisons"]
    assert (compared["version"], compared["rows"], compared["method"]) == (1, 20, "paired t interval")
    assert (compared["value"], compared["other"], compared["high"]) == (0.5, 0.5, pytest.approx(-0.025))


def test_a_run_takes_a_version_and_trains_nothing(author):
    run_id = author.runs["reused"]
    assert author.finish("tuned", run_id)["state"] == "success", author.states("tuned", run_id)
    states = author.states("tuned", run_id)
    training = [name for name in states if name.startswith(("train.", "evaluate.")) or name.endswith("e.freeze")]
    assert {states[name] for name in (*training, "freeze.verify")} == {"skipped"}
    assert states["serve.promote"] == "success"
    assert author.versions("tuned") == {1: (), 2: ("candidate", "champion")}


def test_clearing_a_stage_trains_again_and_registers_no_second_version(author):
    run_id = author.runs["by hand"]
    author.finish("tuned", author.runs["reused"])
    before = author.trained("tuned", run_id, "train.second")
    body = {"dry_run": False, "dag_run_id": run_id, "task_ids": ["train.second"], "include_downstream": True}
    author.api.call(
        "POST", "/dags/tuned/clearTaskInstances", json={**body, "only_failed": False, "reset_dag_runs": True}
    )
    assert author.finish("tuned", run_id)["state"] == "success", author.states("tuned", run_id)
    after = author.trained("tuned", run_id, "train.second")
    assert after["at"] > before["at"]
    assert after["after"]["at"] == before["after"]["at"], "the stage before was not cleared"
    assert set(author.versions("tuned")) == {1, 2}


def test_a_late_run_is_reported_and_a_failed_one_in_one_line(author):
    (run_id,) = author.wait_for(lambda: author.runs_of("unlucky", "scheduled"), "the scheduled run of unlucky")
    assert author.finish("unlucky", run_id)["state"] == "failed"
    lines = author.wait_for(lambda: author.notices_of("unlucky")[1:] and author.notices_of("unlucky"), "both notifiers")
    assert lines[0] == f"unlucky is not done within 2s: run {run_id} is running"
    start = f"{run_id} unlucky failed in train.train (try 1): stage 'train' failed: "
    assert lines[1].startswith(start), lines
    assert "RuntimeError: the data | ran <out>" in lines[1]
    assert len(lines) == 2
    log = author.api.log("unlucky", run_id, "train.train").splitlines()
    assert any(line.startswith("unlucky failed in train.train (try 1): stage 'train' failed: ") for line in log)


def test_a_model_that_refuses_backfills_has_none(author):
    with pytest.raises(ModelwayError, match=r"answered 4\d\d: .*backfill"):
        author.backfill("unlucky", ("2026-01-01", "2026-01-02"))


def test_a_backfill_trains_each_interval_and_moves_nothing(author):
    runs = author.wait_for(lambda: author.runs_of("nightly", "backfill"), "the runs of the backfill")
    assert len(runs) == 2
    for run_id, (day, content) in zip(runs, DAYS.items(), strict=True):
        assert author.finish("nightly", run_id)["state"] == "success", author.states("nightly", run_id)
        given = author.trained("nightly", run_id)
        assert (given["interval"][0][:10], given["partition"]) == (day, f"{day}T00:00:00")
        assert given["content"] == content
        assert author.states("nightly", run_id)["serve.promote"] == "skipped"
        assert "backfill" in author.plan("nightly", run_id)["blocked_reason"]
    assert author.versions("nightly") == {1: ("candidate", "champion"), 2: (), 3: ()}
    starts = {number: author.lineage.version("nightly", number).run.interval_start for number in (1, 2, 3)}
    assert {f"{start:%Y-%m-%d}" for start in starts.values()} >= set(DAYS)


def test_an_event_starts_a_run_and_the_same_inputs_take_the_version_that_is_there(author):
    assets = author.api.call("GET", "/assets", params={"uri_pattern": "modelway://nightly/retrain"})["assets"]
    (asset,) = [each for each in assets if "nightly/retrain" in each["uri"]]
    event = {"asset_id": asset["id"], "extra": {"reason": "the data drifted"}}
    author.api.call("POST", "/assets/events", json=event)
    (run_id,) = author.wait_for(lambda: author.runs_of("nightly", "asset_triggered"), "the run of the event")
    assert author.finish("nightly", run_id)["state"] == "success", author.states("nightly", run_id)
    plan = author.plan("nightly", run_id)
    assert "the data drifted" in plan["reason"]
    assert plan["version"]["version"] == 1
    assert "the inputs are those of version 1" in plan["reuse_reason"]
    states = author.states("nightly", run_id)
    assert {states[name] for name in TRAINING} == {"skipped"}
    assert states["freeze.register"] == "success"
    assert "the inputs are those of version 1" in author.api.log("nightly", run_id, "plan")
    assert set(author.versions("nightly")) == {1, 2, 3}


def test_a_backfill_moves_traffic_where_its_parameter_says_so(author):
    (first, *_) = author.runs_of("nightly", "backfill")
    days = ("2026-01-01", "2026-01-01")
    author.backfill("nightly", days, reprocess_behavior="completed", dag_run_conf={"rollout": "yes"})
    author.wait_for(lambda: author.api.run_state("nightly", first) in ("queued", "running"), "the run to begin again")
    assert author.finish("nightly", first)["state"] == "success", author.states("nightly", first)
    number = author.value("nightly", first, "freeze.register")["version"]
    assert author.versions("nightly")[number] == ("candidate", "champion")
    assert set(author.versions("nightly")) == {1, 2, 3}


def sent(browser: Any, author: Author, before: set[str]) -> set[str]:
    """Press the form's button, as a person does again when a click fell into the moment in which it is drawn anew."""
    # Once the form was sent the browser goes to the run's page, and finds nothing on its way.
    with contextlib.suppress(WebDriverException):
        if browser.find_elements(By.CSS_SELECTOR, "[role=dialog]"):
            button = browser.find_elements(By.XPATH, "//button[normalize-space(.)='Trigger']")[-1]
            if button.is_enabled():
                button.click()
    deadline = time.monotonic() + 5
    while not (runs := set(author.runs_of("tuned", "manual")) - before) and time.monotonic() < deadline:
        time.sleep(0.5)
    return runs


def choose(browser, name, choice):
    box = wait(browser, By.ID, f"element_{name}")
    box.find_element(By.TAG_NAME, "input").send_keys(choice, Keys.ENTER)
    assert choice in box.text


def test_a_person_fills_in_the_form(author):
    before = set(author.runs_of("tuned", "manual"))
    with open_browser() as browser:
        log_in(browser, url=author.airflow.url, password=author.airflow.password)
        browser.get(f"{author.airflow.url}/dags/tuned")
        wait(browser, By.CSS_SELECTOR, "[data-testid=trigger-dag-button]").click()
        assert wait(browser, By.NAME, "element_epochs").get_attribute("value") == "1"
        assert wait(browser, By.ID, "element_optimizer").text == "adam"
        wait(browser, By.ID, "element_version").send_keys("1")
        wait(browser, By.ID, "element_reason").send_keys("from the form")
        choose(browser, "rollout", "no")
        wait(browser, By.XPATH, "//button[normalize-space(.)='More about training and traffic']").click()
        assert wait(browser, By.NAME, "element_seed").get_attribute("value") == "0"
        choose(browser, "skip", "first")
        (run_id,) = author.wait_for(lambda: sent(browser, author, before), "the run of the form")
    run = author.finish("tuned", run_id)
    assert run["state"] == "success", author.states("tuned", run_id)
    own = {"epochs": 1, "optimizer": "adam"}
    form = {"skip": ["first"], "version": "1", "base": None, "rollout": "no", "hold_at": None, "seed": 0}
    assert run["conf"] == form | own | {"reason": "from the form"}
    # The form sends a date, which makes no interval.
    assert run["logical_date"] is not None
    plan = author.plan("tuned", run_id)
    assert (plan["interval"]["start"], plan["version"]["version"]) == (None, 1)
    assert author.versions("tuned")[2] == ("candidate", "champion"), "nothing moved"


def test_a_model_with_a_form_and_a_deadline_runs_without_a_server(tmp_path):
    models = HERE / "authoring"
    home = with_database(tmp_path, name="airflow-run")
    places = {"MODELWAY_HOME": str(home), "MODELWAY_MODELS": str(models)}
    environment = {**os.environ, **places, "MODELWAY_NOTIFIERS": NOTIFIERS}
    modelway = Path(sys.executable).parent / "modelway"
    command = [modelway, "run", "tuned", "--set", "epochs=2", "--set", "skip=[first]"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    try:
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        assert "tuned version 1" in done.stdout
        assert set(open_lineage(f"sqlite:///{tmp_path}/lineage.db").version("tuned", 1).params) == {"second"}
        assert "notifier" not in done.stdout + done.stderr
    finally:
        load_endpoint("local", root=tmp_path / "endpoints").delete("tuned")


def test_a_dag_has_one_version_until_its_spec_changes(author):
    assert {dag_id: author.dag_versions(dag_id) for dag_id in ("tuned", "nightly", "unlucky")} == {
        "tuned": 1,
        "nightly": 1,
        "unlucky": 1,
    }
    spec = author.models / "tuned" / "model.yaml"
    spec.write_text(spec.read_text().replace("Two stages", "Now two stages"))
    author.wait_for(lambda: author.dag_versions("tuned") > 1, "the new version of tuned")
    # The files are read twice more.
    for _ in range(2):
        author.parse("tuned")
    assert {dag_id: author.dag_versions(dag_id) for dag_id in ("tuned", "nightly", "unlucky")} == {
        "tuned": 2,
        "nightly": 1,
        "unlucky": 1,
    }
