"""The monitor's DAG: one for all models with rules, none where no model has them, and what it reads of their specs."""

from pathlib import Path

import pytest
from modelway.dag.build import build_dag
from modelway.dag.monitor import DAG_ID, monitor_dags
from modelway.monitor.rules import DriftRule, QualityRule, Rules
from modelway.runs.watched import watched_models
from modelway.spec.load import load_spec

CODE = "def train(job): ...\n\n\ndef evaluate(job, checkpoint): ...\n\n\ndef export(job, checkpoint): ...\n"
ENVIRONMENTS = "endpoint: {environments: {dev: {}, prod: {}}}\n"
GATE = 'verify: {gates: {accuracy: ">= champion"}}\n'


def write(folder: Path, name: str, text: str) -> Path:
    (folder / name).mkdir()
    (folder / name / "model.yaml").write_text(f"model: {name}\n{text}")
    (folder / name / f"{name}.py").write_text(CODE)
    return folder / name


def test_there_is_a_dag_where_a_model_has_rules(tmp_path: Path) -> None:
    write(tmp_path, "plain", "monitor: {retrain_on_event: true, cool_down: 1d}\n")
    assert (monitor_dags(tmp_path), watched_models(tmp_path)) == ({}, [])
    write(tmp_path, "watched", "monitor: {staleness: 30d}\n")
    dag = monitor_dags(tmp_path)[DAG_ID]
    (task,) = dag.tasks
    assert (task.task_id, task.folder, [each.name for each in task.outlets]) == (
        "check",
        str(tmp_path),
        ["modelway-retrain"],
    )


def test_rules_are_those_of_the_spec_at_the_endpoint_that_serves_for_good(tmp_path: Path) -> None:
    write(tmp_path, "one", "monitor: {drift: {psi: 0.3, window: 2d, schema: false}, volume: 9, budget_per_week: 2}\n")
    write(tmp_path, "two", f"monitor: {{quality: {{}}}}\n{ENVIRONMENTS}")
    write(tmp_path, "bad", "monitor: {quality: 3}\n")
    one, two = watched_models(tmp_path)
    drift = DriftRule(psi=0.3, window_seconds=2 * 86_400, schema=False)
    assert one.rules == Rules(drift=drift, volume=9, budget_per_week=2)
    assert (one.model, one.endpoint, one.target) == ("one", "one", "local")
    assert (two.endpoint, two.rules) == ("two-prod", Rules(quality=QualityRule()))
    assert type(one).from_dict(one.to_dict()) == one


@pytest.mark.parametrize(
    ("monitor", "rollout", "accepts"),
    [
        ("", "", False),
        ("monitor: {drift: {}}\n", "", True),
        ("monitor: {drift: {}}\n", "rollout: {when_worse: refuse}\n", False),
        ("", "rollout: {when_worse: register}\n", True),
    ],
)
def test_a_worse_version_is_registered_where_rules_start_runs(
    tmp_path: Path, monitor: str, rollout: str, accepts: bool
) -> None:
    dag = build_dag(load_spec(write(tmp_path, "tiny", f"{GATE}{monitor}{rollout}")))
    assert dag.get_task("freeze.verify").accept_worse is accepts


def test_a_rule_puts_the_event_into_the_schedule(tmp_path: Path) -> None:
    dag = build_dag(load_spec(write(tmp_path, "tiny", "monitor: {volume: 5}\n")))
    assert [asset.uri for asset in dag.timetable.asset_condition.objects] == ["modelway://tiny/retrain"]


@pytest.mark.parametrize(
    ("queue", "spec", "expected"),
    [
        ("", "", "default"),
        ("serving", "", "serving"),
        ("serving", "endpoint: {target: docker}\n", "default"),
    ],
)
def test_its_task_runs_where_endpoints_of_one_host_serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, queue: str, spec: str, expected: str
) -> None:
    monkeypatch.setenv("MODELWAY_SERVING_QUEUE", queue)
    write(tmp_path, "tiny", f"monitor: {{volume: 5}}\n{spec}")
    dag = monitor_dags(tmp_path)[DAG_ID]
    assert [task.queue for task in dag.tasks] == [expected]
    assert dag.is_paused_upon_creation is False
