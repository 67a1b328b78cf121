"""One real Airflow for all system tests, with models, faults and DAGs that are triggered at the start; a registry."""

import hashlib
import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from modelway.endpoints.base import Endpoint, load_endpoint
from modelway.lineage.store import Lineage, open_lineage
from modelway.localairflow.processes import LocalAirflow
from modelway.localairflow.rest import AirflowApi
from registry import BINARY, Registry, basic_auth
from sqlalchemy import make_url

from tests import object_store_environment
from tests.airflow_template import with_database
from tests.exporter_servers import RecordingServer, recording_server
from tests.google.endpoints import push_model, serving_fake
from tests.google.fake import GoogleFake
from tests.google.vertex_jobs import VertexJobs
from tests.gs_server import gs_server
from tests.kept_airflow import kept_running
from tests.postgres_server import postgres_server
from tests.statsd_receiver import StatsdReceiver

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
RUN_SECONDS = 900
#: of the lab's registry
REGISTRY_LOGIN = ("me", "s3cret")
#: passwords of the connections in the lab's Airflow
LINEAGE_PASSWORD, OPENLINEAGE_KEY = "pa55word-of-the-lineage", "pa55word-of-openlineage"
#: what begins when the lab has started, where a file of tests is run
STARTED = {
    "test_faults": (
        *("resumes", "port-taken", "raises", "some-nan", "all-nan", "truncated", "unloadable", "crashes"),
        "unwritable",
    ),
    "test_release": ("released",),
    "test_sweep": ("swept", "all-raise"),
}


def wait_for(condition: Callable[[], Any], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.5)


@dataclass
class Lab:
    """The running Airflow and what its deployments keep."""

    airflow: LocalAirflow
    api: AirflowApi
    home: Path
    runs: dict[str, str] = field(default_factory=dict)
    lineage_url: str = ""
    openlineage: RecordingServer | None = None
    metrics: StatsdReceiver | None = None

    @cached_property
    def lineage(self) -> Lineage:
        return open_lineage(self.lineage_url or f"sqlite:///{self.home / 'lineage.db'}")

    def events(self, dag_id: str) -> list[Any]:
        """Return the events of OpenLineage about the run; others are about its version."""
        assert self.openlineage is not None
        run_id = self.start(dag_id)
        # Those of a sweep's candidates are about runs of their own.
        received = [
            (event, event.get("run", {}).get("facets", {}).get("modelway_model")) for event in self.openlineage.taken
        ]
        return [event for event, model in received if model and (model["dagId"], model["runId"]) == (dag_id, run_id)]

    @property
    def models(self) -> Path:
        """The folder of its models."""
        return Path(self.airflow.environment["MODELWAY_MODELS"])

    @property
    def endpoint(self) -> Endpoint:
        return load_endpoint("local", root=self.home / "endpoints")

    def start(self, dag_id: str) -> str:
        """Trigger the DAG once and return the run's id; the same at the second call."""
        if dag_id not in self.runs:
            self.api.wait_for_dag(dag_id)
            self.api.unpause(dag_id)
            self.runs[dag_id] = self.api.trigger(dag_id)
        return self.runs[dag_id]

    def finish(self, dag_id: str) -> str:
        """Wait until the DAG's run is over and return its state."""
        run_id = self.start(dag_id)
        deadline = time.monotonic() + RUN_SECONDS
        while (state := self.api.run_state(dag_id, run_id)) not in ("success", "failed"):
            assert time.monotonic() < deadline, f"{dag_id} is still {state}"
            time.sleep(1)
        return state

    def states(self, dag_id: str) -> dict[str, str | None]:
        """Return each task's state, mapped ones with their index."""
        tasks = self.api.tasks(dag_id, self.start(dag_id))
        return {f"{t.task_id}[{t.map_index}]" if t.map_index >= 0 else t.task_id: t.state for t in tasks}

    def xcom(self, dag_id: str, task_id: str, key: str = "return_value", map_index: int = -1):
        return self.api.xcom(dag_id, self.start(dag_id), task_id, key=key, map_index=map_index)

    def log(self, dag_id: str, task_id: str, try_number: int = 1, map_index: int = -1) -> str:
        return self.api.log(dag_id, self.start(dag_id), task_id, try_number=try_number, map_index=map_index)


@pytest.fixture(scope="session")
def used_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry that asks for a login."""
    if BINARY is None and os.environ.get("CI") != "true":
        pytest.skip("docker-registry is not installed: apt-get install docker-registry")
    folder = tmp_path_factory.mktemp("registry")
    running = Registry(folder, auth=basic_auth(folder))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def lineage_url() -> Iterator[str]:
    """A database of PostgreSQL, which lets in who asks with any password."""
    with postgres_server() as server:
        yield server.new_database()


@pytest.fixture(scope="session")
def openlineage() -> Iterator[RecordingServer]:
    with recording_server() as server:
        yield server


@pytest.fixture(scope="session")
def closed_port() -> Iterator[int]:
    """A port that refuses all, and that nobody else gets."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        yield listener.getsockname()[1]


@pytest.fixture(scope="session")
def connections(lineage_url: str, openlineage: RecordingServer, closed_port: int) -> list[dict[str, Any]]:
    """The connections in Airflow's database: the lineage is a server's, OpenLineage answers, MLflow is down."""
    place = make_url(lineage_url)
    database = {"host": place.host, "port": place.port, "schema": place.database, "login": place.username}
    return [
        {"connection_id": "modelway_lineage", "conn_type": "postgres", "password": LINEAGE_PASSWORD, **database},
        {
            "connection_id": "modelway_openlineage",
            "conn_type": "http",
            "host": openlineage.url,
            "password": OPENLINEAGE_KEY,
            "extra": '{"namespace": "lab"}',
        },
        {"connection_id": "modelway_mlflow", "conn_type": "http", "host": "127.0.0.1", "port": closed_port},
    ]


@pytest.fixture(scope="session")
def google(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GoogleFake]:
    """Google Cloud, as far as endpoints need it; it reads images with the login of the registry."""
    with serving_fake(tmp_path_factory.mktemp("google") / "google", login=REGISTRY_LOGIN) as fake:
        yield fake


@pytest.fixture(scope="session")
def store() -> Iterator[dict[str, str]]:
    """The variables that lead to a Cloud Storage with the bucket of the model that Google trains."""
    with gs_server(object_store_environment.ready(), bucket="lab-jobs") as variables:
        yield variables


@pytest.fixture(scope="session")
def vertex(google: GoogleFake, store: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[VertexJobs]:
    """Vertex AI, where the jobs of some-nan and clouded run."""
    machines, python = tmp_path_factory.mktemp("machines"), object_store_environment.ready()
    jobs = VertexJobs(google, machines=machines, python=python, store=store)
    yield jobs
    jobs.close()


def add_google_model(models: Path, registry: Registry, folder: Path) -> None:
    """Give the model that Google trains and serves its code, the digits', its repository and a base image."""
    base, own = folder / "base", models / "clouded"
    base.mkdir()
    (base / "server").write_text("stands for the server's image\n")
    pushed = push_model(base, f"{registry.host}/base", login=REGISTRY_LOGIN)
    spec = own / "model.yaml"
    spec.write_text(spec.read_text().replace("REGISTRY", registry.host).replace("BASE", pushed))
    code = own / "clouded.py"
    code.write_text((REPOSITORY / "include" / "models" / "digits" / "digits.py").read_text() + code.read_text())


def with_gcsfs(folder: Path) -> str:
    """Return what Airflow's processes have as PYTHONPATH to find gcsfs, behind all that they have themselves."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(f"import sys\nsys.path.append({str(object_store_environment.SITE)!r})\n")
    return str(folder)


@pytest.fixture(scope="session")
def metrics() -> Iterator[StatsdReceiver]:
    """Where the lab's Airflow sends our metrics."""
    with StatsdReceiver() as receiver:
        yield receiver


@pytest.fixture(scope="session")
def lab(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    google: GoogleFake,
    vertex: VertexJobs,
    store: dict[str, str],
    used_port: int,
    registry: Registry,
    lineage_url: str,
    openlineage: RecordingServer,
    connections: list[dict[str, Any]],
    metrics: StatsdReceiver,
) -> Iterator[Lab]:
    root = tmp_path_factory.mktemp("lab")
    models, dags, home = root / "models", root / "dags", with_database(root / "home")
    shutil.copytree(HERE / "models", models)
    # The model of dags/examples.
    shutil.copytree(REPOSITORY / "include" / "models" / "digits", models / "digits")
    port_taken = models / "port-taken" / "model.yaml"
    port_taken.write_text(port_taken.read_text().replace("port: 1}", f"port: {used_port}}}"))
    shutil.copytree(REPOSITORY / "dags", dags, ignore=shutil.ignore_patterns("__pycache__"))
    composed = (HERE / "dags" / "composed.py").read_text().replace("CODE_FOLDER", str(HERE / "code"))
    (dags / "composed.py").write_text(composed)
    # A file where the folder should be: permissions do not stop root.
    (home / "jobs").mkdir(parents=True)
    (home / "jobs" / "unwritable").touch()
    pushed = models / "resumes" / "model.yaml"
    pushed.write_text(pushed.read_text() + f"image: {{repository: {registry.host}/models/resumes}}\n")
    add_google_model(models, registry, root)
    (root / "rows.csv").write_text("a,b\n1,2\n")
    for name in ("resumes", "raises"):
        spec = models / name / "model.yaml"
        spec.write_text(spec.read_text() + f'datasets: {{rows: {{uri: "{root}/rows.csv"}}}}\n')
    watched = models / "watched" / "model.yaml"
    watched.write_text(watched.read_text() + f'datasets: {{rows: {{uri: "{root}/rows.npz"}}}}\n')
    options = {"image": "job", "storage": {"uri": (root / "bucket").as_uri()}, "platform": {"region": "us-central1"}}
    environment = {
        **metrics.settings,
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW_CONN_MODELWAY_GOOGLE": google.airflow_connection(project="my-dev"),
        "AIRFLOW_CONN_MODELWAY_REGISTRY": f"http://me:s3cret@{registry.host}",
        **store,
        "PYTHONPATH": with_gcsfs(root / "packages"),
        "LAB_VERTEX": json.dumps({"backend": "vertex", "options": options}),
        "MODELWAY_EXAMPLES": "1",
        "MODELWAY_MODELS": str(models),
    }
    running = LocalAirflow(home=home, repository=REPOSITORY, environment=environment)
    with running, kept_running(running) as airflow:
        api = AirflowApi(url=airflow.url, username="admin", password=airflow.password)
        lab = Lab(airflow=airflow, api=api, home=home, lineage_url=lineage_url, openlineage=openlineage)
        lab.metrics = metrics
        for connection in connections:
            api.call("POST", "/connections", json=connection)
        # All at once: they run side by side while the tests wait for one after another.
        files = {item.path.stem for item in request.session.items}
        for dag_id in (dag_id for file, dag_ids in STARTED.items() if file in files for dag_id in dag_ids):
            lab.start(dag_id)
        yield lab


@pytest.fixture(scope="session")
def container_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """An Airflow for models that train in containers; who uses it adds them to ``<root>/models``."""
    root = tmp_path_factory.mktemp("containers")
    (root / "models").mkdir()
    home = with_database(root / "home")
    environment = {"MODELWAY_MODELS": str(root / "models"), "PYTHONPATH": str(REPOSITORY / "plugins")}
    running = LocalAirflow(home=home, repository=REPOSITORY, environment=environment)
    with running, kept_running(running) as airflow:
        api = AirflowApi(url=airflow.url, username="admin", password=airflow.password)
        yield Lab(airflow=airflow, home=home, api=api)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """The registry of a module's tests, each of which has repositories of its own."""
    registry = Registry(tmp_path_factory.mktemp("registry"))
    yield registry
    registry.stop()


@pytest.fixture
def repository(request: pytest.FixtureRequest) -> str:
    """A repository of this test alone."""
    return f"models/digits-{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]}"
