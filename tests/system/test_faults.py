"""Faults on a real Airflow: each is made to happen, and shows a clear message."""

import psutil
import pytest
from conftest import wait_for
from modelway.job.contract import read_events

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]


def test_training_code_that_raises_tells_its_last_lines_and_registers_nothing(lab):
    assert lab.finish("raises") == "failed"
    states = lab.states("raises")
    assert states["train.train"] == "failed"
    assert states["freeze.register"] == states["serve.deploy"] == "upstream_failed"
    failure = lab.xcom("raises", "train.train", "failure")
    assert "stage 'train' failed: ZeroDivisionError: division by zero (raises.py:3 in train)" in failure
    assert "about to divide" in failure
    log = lab.log("raises", "train.train")
    assert "about to divide" in log
    assert "ZeroDivisionError" in log
    attempts = {task.task_id: task.try_number for task in lab.api.tasks("raises", lab.runs["raises"])}
    assert attempts["train.train"] == 1, "a retry would meet the same error"
    assert "raises" not in {model.name for model in lab.lineage.models()}
    assert lab.endpoint.status("raises") is None


def test_a_killed_training_continues_from_its_last_checkpoint_and_the_run_succeeds(lab):
    assert lab.finish("resumes") == "success", lab.states("resumes")
    attempts = {task.task_id: task.try_number for task in lab.api.tasks("resumes", lab.runs["resumes"])}
    assert attempts["train.train"] == 2
    first = lab.log("resumes", "train.train", try_number=1)
    assert "killed by SIGKILL" in first
    assert "resuming from checkpoint train-000002 (step 2)" in lab.log("resumes", "train.train", try_number=2)
    assert [each["step"] for each in lab.xcom("resumes", "train.train")] == [1, 2, 3]
    detail = lab.lineage.version("resumes", 1)
    (series,) = detail.series
    assert (series.name, series.steps) == ("train_loss", (1, 2, 3))
    assert lab.lineage.aliases("resumes") == {"candidate": 1, "champion": 1}
    assert lab.lineage.weights("resumes") == {1: 100}


def test_clearing_the_finished_run_makes_no_second_version_and_moves_no_traffic(lab):
    assert lab.finish("resumes") == "success"
    run_id = lab.runs["resumes"]
    before = lab.endpoint.status("resumes")
    history = lab.lineage.weight_history("resumes")
    trained = lab.api.tasks("resumes", run_id)
    lab.api.clear("resumes", run_id)
    assert lab.finish("resumes") == "success"
    again = {task.task_id: task.try_number for task in lab.api.tasks("resumes", run_id)}
    assert all(again[task.task_id] > task.try_number for task in trained), "every task ran again"
    assert [version.number for version in lab.lineage.versions("resumes")] == [1]
    assert lab.endpoint.status("resumes") == before
    assert lab.lineage.weight_history("resumes") == history
    assert [event["eventType"] for event in lab.events("resumes")] == ["START", "COMPLETE"], "nothing new has begun"
    assert "no second version" in lab.log("resumes", "freeze.register", try_number=again["freeze.register"])
    assert "no traffic moves" in lab.log("resumes", "serve.deploy", try_number=again["serve.deploy"])


def test_the_image_goes_through_a_registry_that_asks_for_a_login(lab, registry):
    assert lab.finish("resumes") == "success"
    image = lab.xcom("resumes", "serve.build_image")
    assert image["reference"] == f"{registry.host}/models/resumes@{image['digest']}"
    (predictor,) = lab.endpoint.status("resumes").predictors
    assert (predictor.image, predictor.ready) == (image["reference"], True)
    assert "s3cret" not in lab.log("resumes", "serve.build_image") + lab.log("resumes", "serve.deploy")


def test_nan_is_never_selected(lab):
    assert lab.finish("some-nan") == "success", lab.states("some-nan")
    assert lab.xcom("some-nan", "report") == "train-000003"
    evaluations = lab.xcom("some-nan", "select")["evaluations"]
    assert [each.get("left_out") for each in evaluations] == [
        "its loss is not a finite number",
        None,
        None,
        "its loss is not a finite number",
    ]


def test_jobs_on_vertex_ai_are_submitted_once_and_their_logs_are_in_airflow(lab, vertex):
    assert lab.finish("some-nan") == "success", lab.states("some-nan")
    jobs = vertex.jobs.values()
    stages = [job.document["labels"]["modelway-stage"] for job in jobs]
    assert stages.count("train") == 1
    assert len(stages) == len(set(stages)) == 5, "training and four evaluations"
    assert {job.state for job in jobs} == {"SUCCEEDED"}
    assert "mw-some-nan-train-" in lab.log("some-nan", "train")


def test_all_nan_fails_with_a_clear_error(lab):
    assert lab.finish("all-nan") == "failed"
    assert lab.states("all-nan")["report"] == "upstream_failed"
    failure = lab.xcom("all-nan", "select", "failure")
    assert failure.startswith("no checkpoint can be selected by loss: train-000001: its loss is not a finite number")
    assert "lower the learning rate" in failure


def test_a_truncated_checkpoint_is_left_out(lab):
    assert lab.finish("truncated") == "success", lab.states("truncated")
    assert lab.xcom("truncated", "report") == "train-000002"
    assert "checkpoint train-000003 is left out: the file has 3 bytes instead of" in lab.log("truncated", "train")


def test_a_checkpoint_that_cannot_be_evaluated_fails_alone_and_is_left_out(lab):
    assert lab.finish("unloadable") == "success", lab.states("unloadable")
    states = lab.states("unloadable")
    assert (states["evaluate[0]"], states["evaluate[1]"]) == ("success", "failed")
    assert lab.xcom("unloadable", "report") == "train-000001"
    failure = lab.xcom("unloadable", "evaluate", "failure", map_index=1)
    assert "ValueError: cannot load this checkpoint" in failure
    left_out = lab.xcom("unloadable", "select")["evaluations"][1]["left_out"]
    assert left_out.startswith("its evaluation failed: ValueError: cannot load this checkpoint")


def test_an_evaluation_that_kills_its_process_takes_none_of_its_jobs_others_with_it(lab):
    assert lab.finish("crashes") == "success", lab.states("crashes")
    states = lab.states("crashes")
    # Both are red for one of their checkpoints each; the selection has the other four.
    assert (states["evaluate[0]"], states["evaluate[1]"], states["select"]) == ("failed", "failed", "success")
    assert lab.xcom("crashes", "report") == "train-000004"
    selected = lab.xcom("crashes", "select")
    assert selected["rule"] == "least loss of 6 checkpoints"
    crash = "its evaluation failed: its process was killed by SIGSEGV"
    assert [each.get("left_out") for each in selected["evaluations"]] == [None, crash, None, None, None, crash]
    assert "checkpoint train-000006 is left out: its evaluation failed" in lab.log("crashes", "select")
    failure = lab.xcom("crashes", "evaluate", "failure", map_index=0)
    assert "1 of 3 evaluations failed: train-000002: its process was killed by SIGSEGV" in failure


def test_a_port_of_another_program_is_refused_and_nothing_serves(lab, used_port):
    assert lab.finish("port-taken") == "failed"
    states = lab.states("port-taken")
    assert states["freeze.register"] == "success"
    assert states["serve.deploy"] == "failed"
    assert str(used_port) in lab.xcom("port-taken", "serve.deploy", "failure")
    assert lab.lineage.aliases("port-taken") == {"candidate": 1}
    assert not lab.lineage.weights("port-taken")


def test_a_folder_that_cannot_be_written_is_reported_at_once(lab):
    assert lab.finish("unwritable") == "failed"
    failure = lab.xcom("unwritable", "train.train", "failure")
    assert "cannot be written" in failure
    assert "MODELWAY_HOME" in failure


def test_a_broken_spec_takes_down_its_own_dag_and_no_other(lab):
    dags = {dag["dag_id"] for dag in lab.api.call("GET", "/dags")["dags"]}
    assert "broken" not in dags
    assert {"resumes", "raises", "port-taken"} <= dags
    (error,) = lab.api.call("GET", "/importErrors")["import_errors"]
    assert "Did you mean 'train'?" in error["stack_trace"]
    assert "broken/model.yaml:2:1  trian" in error["stack_trace"]
    assert "broken/model.yaml:3:18  train.backend: 'locl'" in error["stack_trace"]


def job_processes(lab, dag_id):
    """Return the living processes of a DAG's jobs."""
    place = str(lab.home / "jobs" / dag_id)
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        if place in " ".join(process.info["cmdline"] or ()) or (process.info["cwd"] or "").startswith(place):
            found.append(process)
    return found


@pytest.mark.parametrize(("dag_id", "state"), [("slow-121", "running"), ("slow-122", "deferred")])
def test_marking_the_task_failed_ends_the_job_with_everything_it_started(lab, dag_id, state):
    run_id = lab.start(dag_id)
    wait_for(lambda: lab.states(dag_id).get("train") == state)
    wait_for(lambda: "sleep" in {process.name() for process in job_processes(lab, dag_id)})
    if state == "deferred":
        wait_for(lambda: "second 20" in lab.log(dag_id, "train"))
    lab.api.call("PATCH", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/train", json={"new_state": "failed"})
    wait_for(lambda: not job_processes(lab, dag_id))


def test_a_killed_triggerer_loses_no_job_and_starts_none_twice(lab):
    lab.start("slow-30")
    wait_for(lambda: lab.states("slow-30").get("train") == "deferred")
    triggerer = lab.airflow.processes["triggerer"]
    for process in [*psutil.Process(triggerer.pid).children(recursive=True), triggerer]:
        process.kill()
    triggerer.wait()
    lab.airflow.start_component("triggerer")
    assert lab.finish("slow-30") == "success"
    attempts = list((lab.home / "jobs" / "slow-30").glob("*/train/g*/try-*"))
    assert [attempt.name for attempt in attempts] == ["try-1"]


def test_jobs_see_no_secret_of_airflow(lab):
    assert lab.finish("resumes") == "success"
    (events,) = (lab.home / "jobs" / "resumes").glob("*/train*/g0/events.jsonl")
    notes = [event["text"] for event in read_events(events.parent) if event["kind"] == "note"]
    first, *_ = [set(note.removeprefix("sees ").split()) for note in notes if note.startswith("sees ")]
    assert "PATH" in first
    assert {"AIRFLOW__API_AUTH__JWT_SECRET", "AIRFLOW_CONN_MODELWAY_REGISTRY"} <= lab.airflow.environment.keys()
    assert [name for name in first if "AIRFLOW" in name] == []


def test_everything_listens_on_this_machine_alone(lab):
    assert lab.finish("resumes") == "success"
    heard = set()
    for process in psutil.Process().children(recursive=True):
        try:
            found = process.net_connections(kind="inet")
        except psutil.NoSuchProcess:
            continue
        heard |= {each.laddr for each in found if each.status == psutil.CONN_LISTEN}
    assert len(heard) >= 3, "Airflow, a gateway and a server"
    assert {address.ip for address in heard} == {"127.0.0.1"}


def test_airflow_took_no_returning_task_for_lost(lab):
    """See docs/adr/0005: a task that came back too soon from its trigger would be failed by the scheduler."""
    for dag_id in ("resumes", "some-nan", "truncated", "unloadable"):
        lab.finish(dag_id)
    assert "reported that the task instance" not in (lab.airflow.folder / "logs" / "scheduler.txt").read_text()
