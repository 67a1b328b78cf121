"""What the contract suites of the backends share."""

import uuid
from functools import partial
from pathlib import Path

import psutil
import pytest
from modelway.backends.base import Job, Options, load_backend
from modelway.ports import known

from tests.docker_engine import remove_all, require_engine
from tests.google.fake import GoogleFake
from tests.google.vertex_jobs import VertexJobs
from tests.job_folders import store_code
from tests.kubernetes_cluster import PYTHON_IMAGE, node_in_use, node_storage, own_namespace, require_cluster

# Tests that several files import.
pytest.register_assert_rewrite("tests.endpoint_promises")

#: what needs more than this machine's processes; `make test` runs it in a step of its own
ELSEWHERE = ("docker", "kubernetes")
#: its own tests hold it to the same promises: what they need of a cluster takes longer than an engine's
OWN_SUITE = ("kubernetes",)


def pytest_collection_modifyitems(items):
    """Mark what needs an engine or a cluster, by the name of the file or of the backend."""
    for item in items:
        if item.path.parent != Path(__file__).parent:
            continue
        asked = getattr(item, "callspec", None)
        names = {item.path.stem.split("_")[1], asked.params.get("name") if asked else None}
        if "vertex" in names:
            item.add_marker(pytest.mark.vertex)
        if names & set(ELSEWHERE):
            item.add_marker(pytest.mark.cluster)
            # Of several workers one has all tests of a file.
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.fixture(autouse=True)
def node(request):
    """Leave the cluster's node to a test that must have it alone."""
    if not request.path.stem.startswith("test_kubernetes_"):
        yield
        return
    with node_in_use(alone=request.node.get_closest_marker("alone_on_node") is not None):
        yield


@pytest.fixture(params=[name for name in known("backends") if name not in OWN_SUITE])
def name(request):
    return request.param


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def run():
    """The run of a test's jobs, its own: an engine is shared by all tests."""
    return f"r1-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def connected(name, request):
    """What a backend calls: its client, where it does not find one by itself."""
    if name == "docker":
        require_engine()
    if name == "kubernetes":
        return request.getfixturevalue("client")
    if name == "vertex":
        monkeypatch = request.getfixturevalue("monkeypatch")
        monkeypatch.setattr("modelway.backends.vertex.running.LIST_SECONDS", 0.2)
        monkeypatch.setattr("modelway.backends.vertex.pace.LOG_SECONDS", 0.2)
        return request.getfixturevalue("vertex").connection()
    return None


@pytest.fixture
def backend(name, home, connected):
    made = load_backend(name, home=home, client=connected)
    yield made
    if name == "vertex":
        made.api.close()


@pytest.fixture(scope="session")
def vertex(tmp_path_factory):
    """A fake of Vertex AI, whose jobs run on this machine."""
    with GoogleFake(partial(VertexJobs, machines=tmp_path_factory.mktemp("machines"))) as fake:
        yield fake
        fake.service(VertexJobs).close()


@pytest.fixture(scope="session")
def client():
    """The SDK's client of the cluster."""
    return require_cluster()


@pytest.fixture(scope="session")
def namespace(client):
    """A namespace for all tests of this session."""
    with own_namespace("jobs") as found:
        yield found


@pytest.fixture(scope="session")
def storage(client, tmp_path_factory):
    return node_storage(tmp_path_factory.mktemp("storage"))


@pytest.fixture(scope="session")
def shop_home(tmp_path_factory):
    # It imports Airflow, which most tests here do without.
    from tests.served_shop import ServedShop

    home = ServedShop(tmp_path_factory.mktemp("shop"))
    yield home
    home.close()


@pytest.fixture
def served_shop(shop_home, monkeypatch):
    """A shop in which version 1 serves and version 2 is made."""
    monkeypatch.setenv("MODELWAY_HOME", str(shop_home.home))
    monkeypatch.setenv("AIRFLOW_CONN_MODELWAY_REGISTRY", "http://registry")
    return shop_home.open()


@pytest.fixture
def options(name, request):
    """What a job may use that asks for nothing else."""
    if name == "vertex":
        bucket = request.getfixturevalue("tmp_path") / "bucket"
        platform = {"region": "us-central1", "grace_seconds": 5}
        return Options(image="job", storage={"uri": bucket.as_uri()}, platform=platform)
    if name != "kubernetes":
        return Options()
    namespace, storage = (request.getfixturevalue(each) for each in ("namespace", "storage"))
    platform = {"namespace": namespace, "grace_seconds": 5}
    # A third of a core: Python's start alone takes half a second of one.
    return Options(cpu=0.3, memory_bytes=200 << 20, image=PYTHON_IMAGE, storage=storage, platform=platform)


@pytest.fixture
def jobs(backend, name, home, options, run, tmp_path):
    """Submit jobs; whatever still runs at the end is cancelled."""
    handles, runs = [], {run}

    def submit(code, *, options=options, backend=backend, files=None, **fields):
        asked = {"model": "tiny", "run": run, "key": "train", "stage": "train", "action": "train"}
        package = store_code(tmp_path / "source", code, **(files or {}))
        job = Job(**{**asked, "module": "tiny.py", "code": package, **fields})
        runs.add(job.run)
        handles.append(backend.submit(backend.build_request(job, options)))
        return handles[-1]

    yield submit
    for handle in handles:
        backend.cancel(handle)
    if name == "docker":
        for each in runs:
            remove_all(require_engine(), run=each)
    # A test that fails may have started what it has no handle of.
    for process in psutil.process_iter(["cmdline"]):
        if any(str(home) in word for word in process.info["cmdline"] or ()):
            process.kill()
