"""What the contract suites of the backends share."""

import uuid
from pathlib import Path

import psutil
import pytest
from modelway.backends.base import Job, Options, known_backends, load_backend

from tests.docker_engine import remove_all, require_engine
from tests.job_folders import store_code

#: what needs more than this machine's processes; `make test` runs it in a lane of its own
ELSEWHERE = ("docker", "kubernetes")
#: its storage and namespace are prepared by its own tests, which hold it to the same promises
OWN_SUITE = ("kubernetes",)


def pytest_collection_modifyitems(items):
    """Mark what needs an engine or a cluster, by the name of the file or of the backend."""
    for item in items:
        if item.path.parent != Path(__file__).parent:
            continue
        asked = getattr(item, "callspec", None)
        told = {item.path.stem.split("_")[1], asked.params.get("name") if asked else None}
        if told & set(ELSEWHERE):
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(params=[name for name in known_backends() if name not in OWN_SUITE])
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
def backend(name, home):
    if name == "docker":
        require_engine()
    return load_backend(name, home=home)


@pytest.fixture
def jobs(backend, name, home, run, tmp_path):
    """Submit jobs; whatever still runs at the end is cancelled."""
    handles, runs = [], {run}

    def submit(code, *, options=None, files=None, **fields):
        asked = {"model": "tiny", "run": run, "key": "train", "stage": "train", "action": "train"}
        package = store_code(tmp_path / "source", code, **(files or {}))
        job = Job(**{**asked, "module": "tiny.py", "code": package, **fields})
        runs.add(job.run)
        handles.append(backend.submit(backend.build_request(job, options or Options())))
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
