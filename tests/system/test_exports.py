"""A real Airflow whose database says where the lineage is and who receives it: one listens, one is unavailable."""

import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from conftest import LINEAGE_PASSWORD, OPENLINEAGE_KEY, wait_for
from modelway.lineage.records.version import RolloutRecord

from tests.mlflow_server import mlflow_server
from tests.openlineage_schema import problems

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]
MODELWAY = Path(sys.executable).parent / "modelway"


def types(events):
    return [event["eventType"] for event in events]


def only(lab, dag_id, *expected):
    """Wait until the run has sent its end, and return its events."""
    wait_for(lambda: types(lab.events(dag_id))[-1:] == [expected[-1]])
    assert types(lab.events(dag_id)) == list(expected)
    assert [problems(event) for event in lab.events(dag_id)] == [[] for _ in expected]
    return lab.events(dag_id)


def test_a_run_begins_and_completes_under_one_id(lab):
    assert lab.finish("resumes") == "success", lab.states("resumes")
    start, complete = only(lab, "resumes", "START", "COMPLETE")
    assert start["run"]["runId"] == complete["run"]["runId"]
    for event in (start, complete):
        assert (event["job"]["namespace"], event["job"]["name"]) == ("lab", "resumes")
        (rows,) = event["inputs"]
        assert (rows["namespace"], rows["name"]) == ("file", str(lab.home.parent / "rows.csv"))
        assert rows["facets"]["version"]["datasetVersion"].startswith("sha256:")
    assert start["inputs"][0]["facets"] == complete["inputs"][0]["facets"]
    assert start["outputs"] == []
    (model,) = complete["outputs"]
    assert (model["namespace"], model["name"]) == ("lab", "resumes")
    assert model["facets"]["version"]["datasetVersion"] == "1"
    summary = lab.lineage.version("resumes", 1).summary
    assert model["facets"]["dataSource"]["uri"] == summary.archive_uri
    assert complete["run"]["facets"]["modelway_model"]["archiveDigest"] == summary.archive_digest


def test_a_run_that_fails_tells_its_cause(lab):
    assert lab.finish("raises") == "failed"
    start, fail = only(lab, "raises", "START", "FAIL")
    assert start["run"]["runId"] == fail["run"]["runId"]
    assert start["inputs"] == fail["inputs"] != []
    assert fail["outputs"] == []
    assert "ZeroDivisionError: division by zero" in fail["run"]["facets"]["errorMessage"]["message"]


def test_a_run_that_failed_after_its_version_was_made_is_no_failed_training(lab):
    assert lab.finish("port-taken") == "failed"
    only(lab, "port-taken", "START", "COMPLETE")


def test_the_connection_in_airflows_database_says_as_whom_to_send(lab):
    lab.finish("resumes")
    assert {request["authorization"] for request in lab.openlineage.requests} == {f"Bearer {OPENLINEAGE_KEY}"}


def test_one_that_is_down_fails_no_training_and_is_reported_later(lab, lineage_url, tmp_path):
    assert lab.finish("resumes") == "success"
    (mlflow,) = [state for state in lab.lineage.exports.states() if state.exporter == "mlflow"]
    assert (mlflow.sent, mlflow.refused) == (0, 0)
    assert mlflow.waiting >= 2, "a version and its aliases"
    assert "MLflow does not answer" in mlflow.error
    # Of tasks that end together one flushes for all.
    logs = (lab.airflow.folder / "logs").rglob("*.log")
    assert any("The rest waits: modelway exports shows it" in path.read_text(errors="replace") for path in logs)
    with mlflow_server(tmp_path) as server:
        ours = {"MODELWAY_LINEAGE_URL": lineage_url, "MODELWAY_MLFLOW_URL": server.url, "MODELWAY_HOME": str(lab.home)}

        def flush():
            done = subprocess.run(
                [MODELWAY, "exports", "--flush"],
                env={**os.environ, "COLUMNS": "200", **ours},
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            return re.search(r"mlflow +0 +[1-9]\d* +0 ", done.stdout)

        # A task of the lab that tries the same row meanwhile makes the command leave it.
        wait_for(flush)
        found = server.read("resumes")
    (run,), (model,) = found["runs"], found["models"]
    assert run["status"] == "FINISHED"
    assert run["name"] == lab.runs["resumes"]
    assert [step for step, *_ in run["history"]["train.train_loss"]] == [1, 2, 3]
    assert [(each["name"], each["tags"]["mlflow.data.context"]) for each in run["inputs"]] == [("rows", "train")]
    assert [version["number"] for version in model["versions"]] == ["1"]
    assert model["aliases"] == {"candidate": "1", "champion": "1"}


def test_the_pages_read_the_lineage_that_the_connection_names(lab):
    assert lab.finish("resumes") == "success"
    headers = {"authorization": f"Bearer {lab.api.token}"}
    models = httpx.get(f"{lab.airflow.url}/modelway/api/models", headers=headers, timeout=60)
    assert {"resumes", "port-taken"} <= {model["name"] for model in models.json()["models"]}
    page = httpx.get(f"{lab.airflow.url}/modelway/models/resumes/versions/1", headers=headers, timeout=60)
    assert page.status_code == 200
    assert "train_loss" in page.text
    assert not (lab.home / "lineage.db").exists(), "nothing used the embedded lineage"


def stored_triggers(lab):
    """Return what Airflow's database has of the waits of deferred tasks; Airflow encrypts it not always."""
    with closing(sqlite3.connect(f"file:{lab.airflow.folder / 'airflow.db'}?mode=ro", uri=True)) as database:
        return dict(database.execute("SELECT classpath, kwargs FROM trigger").fetchall())


def test_the_triggerer_finds_the_lineage_by_itself_and_ends_a_rollout_that_a_user_stops(lab):
    assert lab.finish("resumes") == "success"
    rollout = {"endpoint": "elsewhere", "run_id": "waits/1", "model": "resumes", "version": 1, "step": 0}
    lab.lineage.save_rollout(RolloutRecord(**rollout, state="running", detail={"stable": None}))
    run_id = lab.start("waits")
    wait_for(lambda: lab.states("waits").get("wait") == "deferred")
    stored = stored_triggers(lab)
    assert '"waits/1"' in stored["modelway.triggers.rollout.RolloutTrigger"]
    assert LINEAGE_PASSWORD not in str(stored)
    # A triggerer that has not started the wait yet would only drop it.
    wait_for(lambda: "elsewhere" in lab.log("waits", "wait") or "starting" in lab.log("waits", "wait"))
    lab.api.call("PATCH", f"/dags/waits/dagRuns/{run_id}/taskInstances/wait", json={"new_state": "failed"})
    wait_for(lambda: lab.lineage.rollout("elsewhere", "waits/1").state == "aborted")


def test_no_log_has_a_password_of_the_connections(lab):
    for dag_id in ("resumes", "raises"):
        lab.finish(dag_id)
    logs = [path for path in (lab.airflow.folder / "logs").rglob("*") if path.is_file()]
    assert len(logs) > 10
    for path in logs:
        text = path.read_text(errors="replace")
        assert LINEAGE_PASSWORD not in text, path
        assert OPENLINEAGE_KEY not in text, path
