"""Jobs on Docker or Kubernetes that a command left: the next one stops them, or says how that is done by hand."""

import json
import os
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from modelway.backends.base import Handle, Job, JobState, JobStatus, Options
from modelway.backends.kubernetes.backend import KubernetesBackend
from modelway.cli import _model_spec, demo
from modelway.cli import run as run_command
from modelway.following.started_jobs import StartedJob, forget_started, record_started, started_jobs
from modelway.localairflow import interrupts as _interrupts
from modelway.localairflow import jobs_elsewhere as elsewhere
from modelway.localairflow import processes as _airflow_processes
from modelway.localairflow.processes import LocalAirflow
from modelway.operators import job_operator
from modelway.operators.train import TrainModelOperator
from modelway.platforms.processes.marked import MARK

from tests.job_folders import store_code
from tests.kubernetes_in_memory import Cluster

DOCKER = StartedJob(
    handle=Handle(backend="docker", name="mw-tiny-1", place="mw-tiny-g0", attempt=1), run="tiny/manual__1"
)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv(MARK, "this-command")
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def cluster():
    return Cluster()


@pytest.fixture
def backend(home, cluster):
    backend = KubernetesBackend(home=home, version=(1, 30))
    backend.__dict__["api"] = cluster
    return backend


@pytest.fixture
def on_cluster(home, backend, tmp_path):
    """Begin a job and record it, as a task does; return it."""

    def begun(key, *, launcher="job"):
        (tmp_path / "storage").mkdir(exist_ok=True)
        code = store_code(tmp_path / "source", "def train(job): ...\n")
        asked = {"model": "tiny", "run": "tiny/1", "key": key, "stage": "train", "action": "train", "module": "tiny.py"}
        storage = {"path": "/modelway", "node": {"name": "node", "path": str(tmp_path / "storage")}}
        options = Options(storage=storage, image="image", platform={"namespace": "ml", "launcher": launcher})
        handle = backend.submit(backend.build_request(Job(**asked, code=code), options))
        record_started(home, StartedJob(handle=handle, run="tiny/1"))
        return handle

    return begun


def reported(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_only_what_a_command_began_elsewhere_is_recorded(home, monkeypatch):
    record_started(home, StartedJob(handle=Handle(backend="local", name="l", place="/x", attempt=1), run="r"))
    record_started(home, DOCKER)
    assert started_jobs(home) == [DOCKER]
    forget_started(home, DOCKER.handle)
    monkeypatch.delenv(MARK)
    record_started(home, DOCKER)
    assert started_jobs(home) == []


def test_what_continues_is_stopped_and_what_is_over_is_forgotten(
    home, cluster, backend, on_cluster, monkeypatch, capsys
):
    over, running = on_cluster("over"), on_cluster("running")
    backend.cancel(over)
    monkeypatch.setattr(elsewhere, "_backend", lambda home, handle: backend)
    elsewhere.stop_all(home, elsewhere.names_elsewhere(home))
    assert sorted(reported(capsys), key=str) == sorted(
        [{"name": over.name, "stopped": False}, {"name": running.name, "stopped": True}], key=str
    )
    assert cluster.objects == {}
    assert backend.describe(running).state is JobState.CANCELLED
    assert started_jobs(home) == []


def test_a_job_on_storage_that_is_not_seen_is_stopped(
    home, cluster, backend, on_cluster, monkeypatch, capsys, tmp_path
):
    handle = on_cluster("running")
    (tmp_path / "storage").rename(tmp_path / "mounted-elsewhere")
    monkeypatch.setattr(elsewhere, "_backend", lambda home, handle: backend)
    elsewhere.stop_all(home, [handle.name])
    assert reported(capsys) == [{"name": handle.name, "stopped": True}]
    assert cluster.objects == {}


def test_what_does_not_answer_is_named_with_how_to_stop_it(home):
    """The engine's address is that of the connection, as tasks know it."""
    record_started(home, DOCKER)
    engine = json.dumps({"conn_type": "docker", "host": "tcp://127.0.0.1:1"})
    environment = {**os.environ, "AIRFLOW_CONN_MODELWAY_DOCKER": engine, "AIRFLOW_HOME": str(home / "airflow")}
    (line,) = elsewhere.stop_jobs_elsewhere(home, environment=environment)
    assert line.startswith("job mw-tiny-1 of run tiny/manual__1 continues on docker and could not be stopped (")
    assert line.endswith("; stop it with: docker stop mw-tiny-1")
    assert "host='127.0.0.1', port=1" in line
    assert started_jobs(home) == [DOCKER], "the next command tries again"
    assert elsewhere.stop_jobs_elsewhere(home, environment=environment, but=elsewhere.names_elsewhere(home)) == []


def test_the_words_that_stop_a_job_by_hand_name_what_the_cluster_calls_it():
    job = Handle(backend="kubernetes", name="mw-1", place="/x", attempt=1, mark="ml/job/0f")
    assert elsewhere._by_hand(job) == "kubectl delete job -n ml -l modelway.dev/try=mw-1"
    jobset = Handle(backend="kubernetes", name="mw-1", place="/x", attempt=1, mark="ml/jobset/0f")
    assert elsewhere._by_hand(jobset) == "kubectl delete jobset -n ml -l modelway.dev/try=mw-1"


def test_a_home_without_such_jobs_costs_nothing(home, monkeypatch):
    monkeypatch.setattr(elsewhere.subprocess, "run", None)
    (home / "started-jobs").mkdir()
    (home / "started-jobs" / "docker-x.json").write_text("{")
    assert elsewhere.stop_jobs_elsewhere(home, environment={}) == []


def test_a_task_records_its_job_for_as_long_as_it_may_run(home, monkeypatch):
    operator = TrainModelOperator(task_id="train", code={"model": "m", "module": "m.py", "uri": "", "digest": ""})
    context = {"dag_run": SimpleNamespace(dag_id="tiny", run_id="manual__1"), "ti": SimpleNamespace(try_number=1)}
    monkeypatch.setenv("MODELWAY_HOME", str(home))
    monkeypatch.setenv("AIRFLOW_CONN_MODELWAY_REGISTRY", "http://registry")
    backend = SimpleNamespace(folder=lambda handle: home)
    monkeypatch.setattr(job_operator, "backend_from_airflow", lambda name, home: backend)
    monkeypatch.setattr(operator, "_submit", lambda context, home: (None, DOCKER.handle))
    monkeypatch.setattr(operator, "job", lambda context: SimpleNamespace(model="tiny", stage="train"))
    monkeypatch.setattr(operator, "collect", lambda context, **given: "collected")

    def killed(*given, **how):
        raise KeyboardInterrupt

    monkeypatch.setattr(operator, "_follow", killed)
    with pytest.raises(KeyboardInterrupt):
        job_operator.JobOperator.run(operator, context)
    assert started_jobs(home) == [DOCKER]
    succeeded = JobStatus(state=JobState.SUCCEEDED)
    monkeypatch.setattr(operator, "_follow", lambda *given, **how: (succeeded, 0))
    assert job_operator.JobOperator.run(operator, context) == "collected"
    assert started_jobs(home) == []


def left_once(home, environment, but=()):
    """Stand in for what stops jobs: one continues at each call."""
    assert environment == {"MODELWAY_HOME": str(home)}
    return ["job mw-tiny-1 continued"]


def test_a_run_that_is_interrupted_says_what_continues(home, monkeypatch, capsys):
    def prepare(airflow, **given):
        airflow.environment = {"MODELWAY_HOME": str(home)}

    def interrupted(*given):
        print("the run")
        raise KeyboardInterrupt

    monkeypatch.setenv("MODELWAY_HOME", str(home))
    monkeypatch.setattr(_airflow_processes.LocalAirflow, "prepare", prepare)
    monkeypatch.setattr(_interrupts, "interrupt_once", lambda: None)
    monkeypatch.setattr(_model_spec, "model_spec", lambda name: SimpleNamespace(model=name, schedule=None))
    monkeypatch.setattr(run_command, "_refuse_approval", lambda spec, assignments: None)
    monkeypatch.setattr(elsewhere, "stop_jobs_elsewhere", left_once)
    monkeypatch.setattr(run_command, "_run", interrupted)
    args = SimpleNamespace(model="tiny", run_after=None, interval=None, partition=None, set=[])
    assert run_command.run_model(args) == 130
    printed = capsys.readouterr()
    assert printed.out == "job mw-tiny-1 continued\nthe run\n"
    assert "the run of tiny was stopped with its jobs on this machine" in printed.err
    assert printed.err.endswith("modelway: job mw-tiny-1 continued\n")


def test_a_demo_that_ends_says_what_continues(home, monkeypatch, capsys):
    monkeypatch.setattr(demo, "stop_jobs_elsewhere", left_once)
    monkeypatch.setattr(demo, "local_endpoints", lambda settings: [])
    monkeypatch.setattr(demo, "serving_lines", lambda settings: [])
    monkeypatch.setattr(demo, "_next_version", lambda settings: 1)
    monkeypatch.setattr(LocalAirflow, "stop", lambda airflow: None)
    airflow, settings = LocalAirflow(home=home, repository=None), SimpleNamespace(home=home)
    assert demo._stop(settings, airflow, others=()) == [], "an Airflow that was never prepared began no job"
    airflow.environment = {"MODELWAY_HOME": str(home)}
    left = demo._stop(settings, airflow, others=())
    console = SimpleNamespace(print=lambda text, **how: print(text), status=lambda text: nullcontext())
    monkeypatch.setattr(LocalAirflow, "prepare", lambda airflow: None)
    assert demo._stop_elsewhere(console, settings, airflow) == frozenset()
    record_started(home, DOCKER)
    assert demo._stop_elsewhere(console, settings, airflow) == {DOCKER.handle.name}
    assert capsys.readouterr().out == "job mw-tiny-1 continued\n"
    demo._say_what_is_left(console, settings, left)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["Airflow, its jobs on this machine and the endpoint are stopped", left[0]]
