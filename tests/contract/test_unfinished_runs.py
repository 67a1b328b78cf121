"""A ``modelway run`` that is interrupted, or killed, in mid-rollout: the traffic goes back, and its run has failed."""

import sqlite3
from contextlib import closing
from types import SimpleNamespace

import pytest
from modelway.cli import run as run_command
from modelway.localairflow import interrupts

from tests.contract.test_rollout_judged import begin
from tests.rollout_shop import Shop

ARGUMENTS = SimpleNamespace(model="tiny", run_after=None, interval=None, partition=None, set=[])


@pytest.fixture
def halfway(tmp_path, monkeypatch):
    """Version 2 is at 10 %, and so is its run in the Airflow of the command."""
    monkeypatch.setenv("MODELWAY_HOME", str(tmp_path))
    monkeypatch.setenv("MODELWAY_LINEAGE_URL", f"sqlite:///{tmp_path}/lineage.db")
    monkeypatch.setenv("AIRFLOW_CONN_MODELWAY_REGISTRY", "http://registry")
    spec = SimpleNamespace(model="tiny", schedule=None)
    monkeypatch.setattr("modelway.cli._model_spec.model_spec", lambda name: spec)
    monkeypatch.setattr(run_command, "_refuse_approval", lambda spec, assignments: None)
    monkeypatch.setattr(interrupts, "interrupt_once", lambda: None)
    shop = Shop(tmp_path)
    for number in (1, 2):
        shop.make(number)
    shop.roll_out(1)
    begin(shop, monkeypatch)
    assert shop.weights == {1: 90, 2: 10}
    shop.database = tmp_path / "airflow-run" / "airflow.db"
    shop.database.parent.mkdir()
    with closing(sqlite3.connect(shop.database)) as database, database:
        database.execute("CREATE TABLE dag_run (id INTEGER PRIMARY KEY, dag_id TEXT, run_id TEXT, state TEXT)")
        database.execute("INSERT INTO dag_run (dag_id, run_id, state) VALUES ('tiny', 'run-1', 'success')")
    yield shop
    shop.endpoint.delete("tiny")


def start(shop):
    with closing(sqlite3.connect(shop.database)) as database, database:
        database.execute("INSERT INTO dag_run (dag_id, run_id, state) VALUES ('tiny', 'run-2', 'running')")


def states(shop):
    with closing(sqlite3.connect(shop.database)) as database:
        return [state for (state,) in database.execute("SELECT state FROM dag_run ORDER BY id")]


def is_returned(shop):
    assert states(shop) == ["success", "failed"]
    assert (shop.weights, shop.rollout(2).state) == ({1: 100, 2: 0}, "aborted")
    assert shop.rollout(2).detail["reason"] == "its run ended before it did (failed)"
    return True


def test_an_interrupt_in_mid_rollout_returns_the_traffic(halfway, monkeypatch, capsys):
    def interrupted(args, spec, airflow, about, log):
        start(halfway)
        raise KeyboardInterrupt

    monkeypatch.setattr(run_command, "_run", interrupted)
    assert run_command.run_model(ARGUMENTS) == 130
    assert is_returned(halfway)
    assert "tiny continues to serve at" in (printed := capsys.readouterr().err)
    assert "(version 1 100 %, version 2 0 %)" in printed


def test_the_next_run_returns_the_traffic_of_one_that_was_killed(halfway, monkeypatch):
    start(halfway)
    monkeypatch.setattr(run_command, "_run", lambda *arguments: is_returned(halfway))
    assert run_command.run_model(ARGUMENTS)
