"""Faults of model specs on a real Airflow: each leaves the other models alone, and a run ends as it began."""

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from modelway.lineage.store import Lineage, open_lineage
from modelway.localairflow.processes import LocalAirflow
from modelway.localairflow.rest import AirflowApi

from tests.airflow_template import with_database
from tests.kept_airflow import kept_running

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

REPOSITORY = Path(__file__).resolve().parents[2]
TEMPLATE = Path(__file__).parent / "spec_models" / "steady"
#: short ones, so that what takes Airflow a minute by default is seen soon; each parsing costs a process
INTERVALS = {
    "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "1",
    "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "2",
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "4",
    "AIRFLOW__DAG_PROCESSOR__STALE_DAG_THRESHOLD": "5",
    "AIRFLOW__DAG_PROCESSOR__PRINT_STATS_INTERVAL": "0",
    "AIRFLOW__SCHEDULER__PARSING_CLEANUP_INTERVAL": "3",
}


@dataclass
class Site:
    """An Airflow whose folder of models is broken in every way."""

    api: AirflowApi
    models: Path
    gate: Path
    home: Path
    runs: dict[str, str]

    @property
    def lineage(self) -> Lineage:
        return open_lineage(f"sqlite:///{self.home / 'lineage.db'}")

    def start(self, model: str) -> str:
        self.api.wait_for_dag(model)
        self.api.unpause(model)
        self.runs[model] = self.api.trigger(model, conf={"rollout": "no"})
        return self.runs[model]

    def open(self, model: str) -> None:
        """Let the model's training end."""
        (self.gate / f"{model}.open").touch()

    def began(self, model: str) -> bool:
        return (self.gate / f"{model}.began").exists()

    def state(self, model: str) -> str:
        return self.api.run_state(model, self.runs[model])

    def tasks(self, model: str) -> dict[str, str | None]:
        return {task.task_id: task.state for task in self.api.tasks(model, self.runs[model])}

    def finish(self, model: str) -> str:
        wait_for(lambda: self.state(model) in ("success", "failed"))
        return self.state(model)

    def is_stale(self, model: str) -> bool:
        return bool(self.api.call("GET", f"/dags/{model}")["is_stale"])

    def errors(self) -> str:
        return "\n".join(each["stack_trace"] for each in self.api.call("GET", "/importErrors")["import_errors"])

    def versions(self, model: str) -> int:
        return int(self.api.call("GET", f"/dags/{model}/dagVersions")["total_entries"])

    def bundle_version(self, model: str) -> str:
        return str(self.api.run(model, self.runs[model])["bundle_version"])

    def loss(self, model: str) -> float | None:
        return self.lineage.version(model, 1).summary.metrics["loss"]

    def recorded(self, model: str, number: int = 1) -> dict[str, Any]:
        """Return the spec that the lineage has of a version."""
        return dict(self.lineage.version(model, number).run.spec)


def write_model(models: Path, name: str, gate: Path, spec: str = "") -> None:
    folder = models / name
    folder.mkdir(parents=True, exist_ok=True)
    text = (TEMPLATE / "model.yaml").read_text().replace("model: steady", f"model: {name}")
    (folder / "model.yaml").write_text(text + spec)
    code = (TEMPLATE / "steady.py").read_text().replace("GATE_FOLDER", str(gate))
    (folder / f"{name}.py").write_text(code)


def replace(file: Path, old: str, new: str) -> None:
    file.write_text(file.read_text().replace(old, new))


def wait_for(condition: Callable[[], bool], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(1)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    root = tmp_path_factory.mktemp("faults")
    models, gate, home = root / "models", root / "gate", with_database(root / "home")
    gate.mkdir()
    for name in ("steady", "breaks", "vanishes", "changes"):
        write_model(models, name, gate)
    environment = {"MODELWAY_MODELS": str(models), **INTERVALS}
    running = LocalAirflow(home=home, repository=REPOSITORY, environment=environment)
    with running, kept_running(running) as airflow:
        api = AirflowApi(url=airflow.url, username="admin", password=airflow.password)
        site = Site(api=api, models=models, gate=gate, home=home, runs={})
        for name in ("breaks", "vanishes", "changes"):
            site.start(name)
        wait_for(lambda: all(site.began(name) for name in site.runs))
        yield site


def test_a_spec_that_changes_mid_run_leaves_the_run_as_it_is(site):
    version = site.bundle_version("changes")
    write_model(site.models, "changes", site.gate)
    replace(site.models / "changes" / "model.yaml", "rate: 1}", "rate: 2}, stages: [{name: first}, {name: second}]")
    replace(site.models / "changes" / "changes.py", '"loss": 1.0', '"loss": 2.0')
    wait_for(lambda: site.versions("changes") == 2)
    site.open("changes")
    wait_for(lambda: site.tasks("changes")["train.train"] == "success")
    assert "train.first" not in site.tasks("changes")
    assert site.bundle_version("changes") == version


def test_a_spec_that_is_broken_mid_run_holds_the_run_until_it_is_repaired(site):
    spec = site.models / "breaks" / "model.yaml"
    replace(spec, "train:", "trian:")
    # Of another file than the DAG, which may be parsed a moment later.
    wait_for(lambda: site.is_stale("breaks") and "breaks/model.yaml" in site.errors())
    assert "include/models/breaks/model.yaml:3:1  trian: unknown key" in site.errors()
    assert "Did you mean 'train'?" in site.errors()
    site.open("breaks")
    # The running job continues, and no other task begins.
    wait_for(lambda: site.tasks("breaks")["train.train"] == "success")
    time.sleep(5)
    assert site.state("breaks") == "running"
    assert site.tasks("breaks")["evaluate.select"] is None
    spec.write_text(spec.read_text().replace("trian:", "train:").replace("rate: 1", "rate: 3"))
    wait_for(lambda: "breaks/model.yaml" not in site.errors() and not site.is_stale("breaks"))


def test_a_spec_that_is_deleted_mid_run_holds_the_run_until_it_is_back(site):
    shutil.move(site.models / "vanishes", site.gate / "vanishes")
    wait_for(lambda: site.is_stale("vanishes"))
    assert "vanishes" not in site.errors(), "nothing is wrong"
    site.open("vanishes")
    wait_for(lambda: site.tasks("vanishes")["train.train"] == "success")
    time.sleep(5)
    assert site.state("vanishes") == "running"
    assert site.tasks("vanishes")["evaluate.select"] is None
    shutil.move(site.gate / "vanishes", site.models / "vanishes")
    wait_for(lambda: not site.is_stale("vanishes"))


FAULTS = {
    "two-names": "include/models/two-names/model.yaml:1:8  model: 'steady' is not the name of its folder, 'two-names'",
    "endless": "include/models/endless/model.yaml  the file cannot be read: too many levels of symbolic links",
    "nowhere": "include/models/nowhere/model.yaml  the file cannot be read: no such file or directory",
    "huge": "include/models/huge/model.yaml  the file is larger than 1 MB",
    "empty": "include/models/empty/model.yaml  the file holds no value",
}


def test_specs_that_cannot_be_taken_are_reported_and_leave_the_others_alone(site):
    write_model(site.models, "two-names", site.gate)
    for name in ("endless", "nowhere", "huge", "empty"):
        (site.models / name).mkdir()
    (site.models / "two-names" / "model.yaml").write_text("model: steady\n")
    (site.models / "endless" / "model.yaml").symlink_to("model.yaml")
    (site.models / "nowhere" / "model.yaml").symlink_to("/nowhere/model.yaml")
    (site.models / "huge" / "model.yaml").write_text("model: huge  #" + "x" * 10_000_000)
    (site.models / "empty" / "model.yaml").touch()
    expected = (*FAULTS.values(), f"{len(FAULTS)} problems in {len(FAULTS)} model specs")
    wait_for(lambda: all(each in errors for errors in [site.errors()] for each in expected))
    dags = {dag["dag_id"] for dag in site.api.call("GET", "/dags")["dags"]}
    assert dags == {"steady", "breaks", "vanishes", "changes"}
    # With all of these faults in place, another model is trained.
    site.open("steady")
    site.start("steady")
    assert site.finish("steady") == "success", site.tasks("steady")


def test_every_run_ended_with_the_spec_that_it_started_with(site):
    assert {model: site.finish(model) for model in site.runs} == dict.fromkeys(site.runs, "success")
    recorded = {model: site.recorded(model) for model in site.runs}
    assert {model: spec["train"]["params"] for model, spec in recorded.items()} == dict.fromkeys(site.runs, {"rate": 1})
    assert [stage["name"] for stage in recorded["changes"]["train"]["stages"]] == ["train"]
    assert {model: site.loss(model) for model in site.runs} == dict.fromkeys(site.runs, 1.0)


def test_the_next_run_takes_the_new_spec(site):
    old = site.bundle_version("changes")
    site.start("changes")
    assert site.bundle_version("changes") != old
    wait_for(lambda: site.tasks("changes")["train.first"] == "success")
    assert site.api.xcom("changes", site.runs["changes"], "train.first", key="report")["params"] == {"rate": 2}
    assert {"train.train", "train.second"} & site.tasks("changes").keys() == {"train.second"}


def test_a_file_in_place_of_the_models_is_reported(site):
    site.models.rename(site.models.with_name("away"))
    site.models.touch()
    wait_for(lambda: "include/models  the folder of the models cannot be read: not a directory" in site.errors())
    wait_for(lambda: site.is_stale("steady"))
    site.models.unlink()
    site.models.with_name("away").rename(site.models)
    wait_for(lambda: not any(site.is_stale(name) for name in ("steady", "breaks", "vanishes", "changes")))
    wait_for(lambda: "the folder of the models" not in site.errors())
