"""Backends with what Airflow's connections say: the provider's hook gives the cluster's client, `host` the engine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from modelway.hooks.backend import backend_from_airflow, forget_backends

from tests.docker_engine import require_engine
from tests.kubernetes_cluster import require_cluster


@pytest.fixture(autouse=True)
def forgotten():
    """A process keeps its backends: here each test has its own."""
    forget_backends()
    yield
    forget_backends()


@pytest.fixture
def connect(monkeypatch):
    """Make a connection, as the environment describes it."""

    def made(conn_id, **fields):
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))

    return made


def test_kubernetes_is_what_the_connection_names(connect, tmp_path, monkeypatch):
    """KUBECONFIG would lead to another cluster."""
    require_cluster()
    config = Path(os.environ["KUBECONFIG"]).read_text()
    (tmp_path / "elsewhere").write_text(config.replace("server: https://", "server: https://127.0.0.1:9/"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "elsewhere"))
    connect("modelway_kubernetes", conn_type="kubernetes", extra={"kube_config": json.dumps(plain(config))})
    backend = backend_from_airflow("kubernetes", home=tmp_path)
    assert backend.version >= (1, 20)
    assert backend.api.jobs("default", "modelway.dev/try=none") == []
    assert backend_from_airflow("kubernetes", home=tmp_path) is backend, "its triggers share what it watches"


def plain(config):
    import yaml

    return yaml.safe_load(config)


def test_kubernetes_without_a_connection_is_what_kubeconfig_names(tmp_path):
    require_cluster()
    assert backend_from_airflow("kubernetes", home=tmp_path).version >= (1, 20)


def test_docker_is_what_the_connection_names(connect, tmp_path, monkeypatch):
    require_engine()
    engine = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    connect("modelway_docker", conn_type="docker", host=engine)
    backend = backend_from_airflow("docker", home=tmp_path)
    assert backend.engine.info["NCPU"] >= 1


def test_a_backend_that_needs_no_connection_asks_for_none(tmp_path):
    code = (
        "import sys\nfrom pathlib import Path\nfrom modelway.hooks.backend import backend_from_airflow\n"
        f"backend_from_airflow('local', home=Path({str(tmp_path)!r}))\n"
        "print([name for name in sys.modules if name in ('kubernetes', 'docker')])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr
