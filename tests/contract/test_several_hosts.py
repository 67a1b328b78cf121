"""Hosts of one deployment: what one knows of the jobs and endpoints of another, in a home that both have."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest
from modelway.backends.base import Job, JobState, Options
from modelway.backends.local import processes
from modelway.endpoints.base import load_endpoint
from modelway.endpoints.gateway.listening import free_port, url_host
from modelway.endpoints.gateway.process import Listener
from modelway.endpoints.local.state import ServerState, State, write_state
from modelway.errors import EndpointElsewhere, ModelwayError, PortTaken
from modelway.following.hosts import refuse_elsewhere
from modelway.hooks.backend import backend_from_airflow
from modelway.job.agent.lease import STALE_SECONDS
from modelway.lineage.records.version import RolloutRecord
from modelway.lineage.store import open_lineage
from modelway.platforms.processes.hosts import has_several_hosts, own_host
from modelway.spec.several_hosts import several_hosts

from tests.job_folders import store_code, wait_for
from tests.lineage_samples import make_record


@pytest.fixture
def on_host(monkeypatch: pytest.MonkeyPatch) -> Any:
    def move(name: str, *, executor: str = "CeleryExecutor") -> None:
        monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", executor)
        monkeypatch.setenv("MODELWAY_HOST", name)

    return move


@pytest.mark.parametrize(
    ("executor", "several"),
    [
        ("", False),
        ("LocalExecutor", False),
        ("airflow.executors.local_executor.LocalExecutor", False),
        ("CeleryExecutor", True),
        ("KubernetesExecutor", True),
        ("LocalExecutor,CeleryExecutor", True),
        ("LocalExecutor;vision=airflow.providers.celery.executors.celery_executor.CeleryExecutor:fast", True),
    ],
)
def test_the_executor_says_whether_there_are_several_hosts(monkeypatch, executor, several) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", executor)
    monkeypatch.delenv("MODELWAY_HOST", raising=False)
    assert has_several_hosts() == several
    assert bool(own_host()) == several


def test_a_job_of_another_host_is_known_by_its_heartbeat_and_stopped_by_a_mark(tmp_path: Path) -> None:
    backend = backend_from_airflow("local", home=tmp_path)
    code = store_code(tmp_path / "source", "import time\ndef train(job): time.sleep(600)\n")
    known = {"model": "tiny", "run": "r1", "key": "train", "stage": "train", "action": "train"}
    job = Job(**known, module="tiny.py", code=code)
    handle = backend.submit(backend.build_request(job, Options()))
    attempt = Path(handle.place) / f"try-{handle.attempt}"
    wait_for(lambda: (attempt / "pods" / "0.json").exists(), what="the job's heartbeat")
    recorded = (attempt / "process.json").read_text()
    try:
        # As another container sees it: its process has no number there, or that of another process.
        (attempt / "process.json").write_text(recorded.replace('"processes": "pid:[', '"processes": "pid:[9'))
        assert backend.describe(handle).state is JobState.RUNNING
        assert backend.submit(backend.build_request(job, Options())) == handle
        assert processes.members(attempt) == []
        backend.cancel(handle)
        assert backend.describe(handle).state is JobState.CANCELLED
    finally:
        (attempt / "process.json").write_text(recorded)
        processes.stop(attempt, grace_seconds=1)


def test_a_job_of_another_host_whose_heartbeat_ended_has_vanished(tmp_path: Path) -> None:
    (tmp_path / "pods").mkdir()
    beat, record = tmp_path / "pods" / "0.json", tmp_path / "process.json"
    beat.write_text("{}")
    record.write_text('{"pid": 1, "created": 0.0, "boot": "another"}')
    assert processes.alive(tmp_path)
    for path in (beat, record):
        os.utime(path, (path.stat().st_mtime - STALE_SECONDS - 1,) * 2)
    assert not processes.alive(tmp_path)


def test_an_endpoint_of_another_host_is_refused_by_name(tmp_path: Path, on_host: Any) -> None:
    on_host("b")
    server = ServerState(
        name="v1", version=1, image="oci-layout:/x@sha256:" + "0" * 64, model="digits", model_path="/models", slot=0
    )
    (tmp_path / "digits").mkdir()
    write_state(tmp_path / "digits", State(name="digits", host="a", stable="v1", servers=[server]))
    port = load_endpoint("local", root=tmp_path)
    uses = [port.status, port.start, port.stop, port.delete, port.metrics]
    uses.append(lambda name: port.set_weights(name, {"v1": 1}))
    for use in uses:
        with pytest.raises(EndpointElsewhere, match="serves on the host a, and this is b") as refused:
            use("digits")
        assert "MODELWAY_SERVING_QUEUE" in str(refused.value)
    assert port.names() == ()
    assert (tmp_path / "digits" / "state.json").exists()
    on_host("a")
    assert port.names() == ("digits",)
    # One that was stopped there can begin here.
    write_state(tmp_path / "digits", State(name="digits", host="a", stopped=True, stable="v1", servers=[server]))
    on_host("b")
    found = port.status("digits")
    assert found is not None
    assert found.stopped


def test_without_a_home_for_all_the_lineage_says_whose_an_endpoint_is(tmp_path: Path, on_host: Any) -> None:
    store = open_lineage(f"sqlite:///{tmp_path / 'lineage.db'}")
    store.register(make_record())
    known = {"endpoint": "digits", "model": "digits", "version": 1}
    on_host("b")
    refuse_elsewhere(store, endpoint="digits", target="local")
    store.save_rollout(RolloutRecord(**known, run_id="digits/1", state="done", detail={"host": "a"}))
    store.save_rollout(RolloutRecord(**known, run_id="digits/2", state="aborted", detail={"host": "b"}))
    with pytest.raises(EndpointElsewhere, match="serves on the host a"):
        refuse_elsewhere(store, endpoint="digits", target="local")
    refuse_elsewhere(store, endpoint="digits", target="docker")
    on_host("a")
    refuse_elsewhere(store, endpoint="digits", target="local")
    on_host("b")
    store.record_endpoint(endpoint="digits", model="digits", url="http://a:8600", is_stopped=True)
    refuse_elsewhere(store, endpoint="digits", target="local")


@pytest.mark.parametrize(
    ("executor", "variables", "spec", "expected"),
    [
        ("LocalExecutor", {}, {}, {}),
        (
            "CeleryExecutor",
            {},
            {},
            {"": "keeps its task in the worker", "endpoint": "whose worker deploys first"},
        ),
        ("CeleryExecutor", {"MODELWAY_SHARED_HOME": "true", "MODELWAY_SERVING_QUEUE": "serving"}, {}, {}),
        ("CeleryExecutor", {}, {"train": {"backend": "docker"}, "endpoint": {"target": "docker"}}, {}),
        (
            "KubernetesExecutor",
            {"MODELWAY_SHARED_HOME": "true", "MODELWAY_SERVING_QUEUE": "serving"},
            {"train": {"backend": "kubernetes"}, "evaluate": {"backend": "local"}, "endpoint": {"target": "local"}},
            {
                "evaluate.backend": "is in the pod of its task",
                "endpoint.target": "is in the pod of the task",
            },
        ),
    ],
)
def test_lint_warns_where_the_executor_makes_a_choice_wrong(monkeypatch, executor, variables, spec, expected) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", executor)
    for name in ("MODELWAY_SHARED_HOME", "MODELWAY_SERVING_QUEUE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    sections = {"endpoint": {}} if "endpoint" not in spec else {}
    found = {".".join(map(str, path)): refusal.what for path, refusal in several_hosts({**sections, **spec})}
    assert set(found) == set(expected)
    for where, what in expected.items():
        assert what in found[where]


def test_gateways_listen_where_the_deployment_publishes_them(monkeypatch) -> None:
    first = free_port("127.0.0.1")
    monkeypatch.setenv("MODELWAY_ENDPOINT_PORTS", f"{first}-{first}")
    monkeypatch.setenv("MODELWAY_ENDPOINT_ADDRESS", "gateway")
    assert free_port("127.0.0.1") == first
    assert Listener(host="0.0.0.0", port=first).url == f"http://gateway:{first}"
    assert url_host("127.0.0.1") == "127.0.0.1"
    with socket.socket() as other:
        other.bind(("127.0.0.1", first))
        other.listen()
        with pytest.raises(PortTaken, match=f"all ports from {first}-{first}"):
            free_port("127.0.0.1")
    monkeypatch.setenv("MODELWAY_ENDPOINT_PORTS", "8600")
    with pytest.raises(ModelwayError, match="'8600' is no range of ports"):
        free_port("127.0.0.1")
