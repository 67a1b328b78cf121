"""What the contract suites of the backends share."""

import psutil
import pytest
from modelway.backends.base import Job, Options, known_backends, load_backend

from tests.job_folders import store_code


@pytest.fixture(params=known_backends())
def name(request):
    return request.param


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def backend(name, home):
    return load_backend(name, home=home)


@pytest.fixture
def jobs(backend, home, tmp_path):
    """Submit jobs; whatever still runs at the end is cancelled."""
    handles = []

    def submit(code, *, options=None, files=None, **fields):
        asked = {"model": "tiny", "run": "r1", "key": "train", "stage": "train", "action": "train"}
        package = store_code(tmp_path / "source", code, **(files or {}))
        job = Job(**{**asked, "module": "tiny.py", "code": package, **fields})
        handles.append(backend.submit(backend.build_request(job, options or Options())))
        return handles[-1]

    yield submit
    for handle in handles:
        backend.cancel(handle)
    # A test that fails may have started what it has no handle of.
    for process in psutil.process_iter(["cmdline"]):
        if any(str(home) in word for word in process.info["cmdline"] or ()):
            process.kill()
