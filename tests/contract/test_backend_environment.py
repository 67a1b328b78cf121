"""What a job of any backend sees: no secret of the worker, its own part of the library, its own requirements."""

import json
import sys
from dataclasses import replace

import pytest
from modelway.backends.base import JobState
from modelway.backends.local.backend import LocalBackend
from modelway.backends.variables import THREADS

from tests.job_folders import WAITS, ended, succeeded, write_wheel

SECRETS = {
    "AIRFLOW__CORE__FERNET_KEY": "s3cret-1",
    "AIRFLOW_CONN_DB": "s3cret-2",
    "AWS_SECRET_ACCESS_KEY": "s3cret-3",
    "GITHUB_TOKEN": "s3cret-4",
    "NVIDIA_API_KEY": "s3cret-5",
    "PIP_INDEX_URL": "https://user:s3cret-6@example.org/simple",
    "PYTHONPATH": "/s3cret-7",
    "MODELWAY_LINEAGE_URL": "postgresql://s3cret-8",
}


def test_the_workers_secrets_are_not_the_jobs(backend, options, jobs, monkeypatch):
    for variable, value in SECRETS.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("TZ", "UTC")
    code = (
        "import json, os, sys\ndef train(job):\n"
        "    (job.output / 'seen.json').write_text(json.dumps([dict(os.environ), sys.path]))\n"
    )
    handle = jobs(code, options=replace(options, cpu=1))
    succeeded(backend, handle)
    text = (backend.folder(handle) / "output" / "seen.json").read_text()
    assert "s3cret" not in text
    environment = json.loads(text)[0]
    assert {environment[name] for name in THREADS} == {"1"}
    # Idle threads that spin take the time of all other work of the worker's machine.
    assert environment.get("OMP_WAIT_POLICY") == ("PASSIVE" if isinstance(backend, LocalBackend) else None)
    assert environment["TZ"] == "UTC"
    for path in backend.folder(handle).rglob("*"):
        assert path.is_dir() or b"s3cret" not in path.read_bytes(), path


def test_the_job_sees_its_own_part_of_the_library_only(backend, jobs):
    code = (
        "import modelway.job\ndef train(job):\n"
        "    for name in ('errors', 'artifacts', 'backends', 'operators', 'server'):\n"
        "        try:\n"
        "            __import__('modelway.' + name)\n"
        "        except ModuleNotFoundError:\n"
        "            continue\n"
        "        raise RuntimeError(name)\n"
    )
    succeeded(backend, jobs(code))


REPORTS = """
import json, sys
import numpy
import tinylib
def train(job):
    (job.output / 'seen.json').write_text(json.dumps([sys.executable, tinylib.VALUE, sys.modules['modelway'].__file__]))
"""


def test_requirements_that_are_there_need_no_new_environment(backend, jobs, home):
    code = "import sys\ndef train(job):\n    (job.output / 'seen.txt').write_text(sys.prefix)\n"
    handle = jobs(
        code, files={"requirements.txt": "# numbers\nnumpy>=1  # any\n\nno-such-thing; python_version < '3'\n"}
    )
    succeeded(backend, handle)
    own = "/usr" if handle.backend == "docker" else sys.prefix
    assert (backend.folder(handle) / "output" / "seen.txt").read_text() in (own, f"{own}/local")
    assert not (home / "venvs").exists()


@pytest.mark.parametrize("name", ["local"])
@pytest.mark.parametrize("line", ["tinylib==1.0", "tinylib @ file://{wheel}"])
def test_requirements_that_are_missing_are_installed_once(backend, jobs, home, tmp_path, monkeypatch, line):
    wheel = write_wheel(tmp_path / "wheels", "tinylib", "1.0", value=41)
    # The worker's settings of pip hold.
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    files = {"requirements.txt": f"numpy>=1\n{line.format(wheel=wheel)}\n"}
    first, second = jobs(REPORTS, files=files), jobs(REPORTS, files=files, key="train_2")
    reported = []
    for handle in (first, second):
        succeeded(backend, handle, seconds=90)
        python, value, library = json.loads((backend.folder(handle) / "output" / "seen.json").read_text())
        assert python.startswith(str(home))
        assert value == 41
        assert library.startswith(str(home)), "the job's own part of the library comes first"
        reported.append("making a virtual environment" in backend.logs(handle)[0])
    assert sorted(reported) == [False, True], "two jobs at the same time share the one that is made"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("no-such-library-of-anyone==1.0", "No matching distribution found for no-such-library-of-anyone==1.0"),
        ("this is no requirement", "Invalid requirement: 'this is no requirement'"),
    ],
)
def test_requirements_that_cannot_be_installed_are_reported(backend, jobs, home, line, said):
    handle = jobs(WAITS, files={"requirements.txt": f"--no-index\n{line}\n"})
    status = ended(backend, handle, seconds=90)
    assert (status.state, status.retryable) == (JobState.FAILED, False)
    assert status.reason.startswith(f"requirements.txt could not be installed: {said}")
    assert not [path for path in home.glob("venvs/*") if path.is_dir()], "half an environment is left"
